"""Questions that are parsed once, and the answers to them that are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.benchmark import OptionLabels, Question
from safescale.core.errors import InvalidInputError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import question_to_proto
from safescale.scoring.known import KnownQuestion, KnownQuestions, scored_answer
from safescale.scoring.reading import read_strictly

QUESTION = Question(
    "q1", "What is it?", {"A": "this", "B": "that"}, "A",
    labels={"A": OptionLabels(False, False, False), "B": OptionLabels(True, False, True)},
)  # fmt: skip


@given(st.lists(st.sampled_from(["A", "B.", "**B**", "C", "", "none of them", "A" * 100]), min_size=1))
def test_a_kept_answer_is_what_reading_it_anew_gives(texts: list[str]) -> None:
    known = KnownQuestion(QUESTION)
    for text in texts:
        assert known.scored(text) == scored_answer("", read_strictly(text, QUESTION), QUESTION)


def test_an_equal_question_is_the_same_and_a_changed_one_another() -> None:
    questions = KnownQuestions()
    message = question_to_proto(QUESTION)
    same = common_pb2.Question.FromString(message.SerializeToString(deterministic=True))
    known = questions.of(message)
    assert questions.of(message) is known
    assert questions.of(same).question == known.question
    same.correct_answer = "B"
    assert questions.of(same).scored("B").outcome.correct
    assert known.scored("B").outcome.high_risk_error


def test_what_is_kept_is_bounded() -> None:
    one = question_to_proto(QUESTION)
    other = question_to_proto(QUESTION)
    other.stem.question_text = "Another?"
    questions = KnownQuestions(capacity_bytes=len(one.SerializeToString()))
    known = questions.of(one)
    assert questions.of(one) is known
    questions.of(other)
    assert questions.of(one) is not known


def test_a_question_that_is_none_is_refused_each_time() -> None:
    message = question_to_proto(QUESTION)
    message.correct_answer = "Z"
    questions = KnownQuestions()
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="correct_answer 'Z'"):
            questions.of(message)
