"""Questions that are parsed once, and the answers to them that are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import InvalidInputError
from safescale.core.safety.benchmark.benchmark import OptionLabels, Question
from safescale.rpc.convert import question_to_proto
from safescale.scoring.kinds.safety_reading import RawAnswer, parsed_reading
from safescale.scoring.question_cache import CachedQuestion, QuestionCache, scored_answer

QUESTION = Question(
    "q1", "What is it?", {"A": "this", "B": "that"}, "A",
    labels={"A": OptionLabels(False, False, False), "B": OptionLabels(True, False, True)},
)  # fmt: skip


@given(st.lists(st.sampled_from(["A", "B.", "**B**", "C", "", "none of them", "A" * 100, "Answer: B"]), min_size=1))
def test_a_kept_answer_is_what_reading_it_anew_gives(texts: list[str]) -> None:
    known = CachedQuestion(QUESTION)
    for text in texts:
        for reading in ("", "strict", "explicit"):
            answer = RawAnswer(text, "", reading)
            assert known.scored(answer) == scored_answer("", parsed_reading(answer, QUESTION), QUESTION)


def test_an_equal_question_is_the_same_and_a_changed_one_another() -> None:
    questions = QuestionCache()
    message = question_to_proto(QUESTION)
    encoded = message.SerializeToString()
    known = questions.of(encoded)
    assert questions.of(bytes(bytearray(encoded))) is known
    # The same message in another form: of two values of a field the later counts.
    assert questions.of(b"\x12\x01C" + encoded).question == known.question
    message.correct_answer = "B"
    assert questions.of(message.SerializeToString()).scored(RawAnswer("B")).outcome.correct
    assert known.scored(RawAnswer("B")).outcome.high_risk_error


def test_what_is_kept_is_bounded() -> None:
    message = question_to_proto(QUESTION)
    one = message.SerializeToString()
    message.stem.question_text = "Another?"
    other = message.SerializeToString()
    questions = QuestionCache(capacity_bytes=len(one))
    known = questions.of(one)
    assert questions.of(one) is known
    questions.of(other)
    assert questions.of(one) is not known


def test_a_question_that_is_none_is_refused_each_time() -> None:
    message = question_to_proto(QUESTION)
    message.correct_answer = "Z"
    questions = QuestionCache()
    for _ in range(2):
        with pytest.raises(InvalidInputError, match='q1 correct_answer = "Z"; expected one of the options A, B'):
            questions.of(message.SerializeToString())


@pytest.mark.parametrize("encoded", [b"\x0a\xff", b"\x12\x01\xff"])
def test_bytes_that_are_no_question_are_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        QuestionCache().of(encoded)


def test_the_answers_that_are_kept_count_and_the_number_of_questions_is_bounded() -> None:
    message = question_to_proto(QUESTION)
    questions = QuestionCache(capacity_bytes=40_000, capacity=20)
    for number in range(100):
        message.stem.question_id = f"q{number}"
        known = questions.of(message.SerializeToString())
        bare = questions.taken_bytes
        for text in ("A", "B", "A.", "**B**", "no idea"):
            known.scored(RawAnswer(text))
        assert questions.taken_bytes > bare or number
        assert questions.taken_bytes <= 40_000
        assert len(questions) <= 20
    assert len(questions) > 5


def test_a_question_that_was_dropped_still_answers() -> None:
    message = question_to_proto(QUESTION)
    questions = QuestionCache(capacity=1)
    known = questions.of(message.SerializeToString())
    message.stem.question_text = "Another?"
    questions.of(message.SerializeToString())
    before = questions.taken_bytes
    assert known.scored(RawAnswer("A")).outcome.correct
    assert questions.taken_bytes == before
