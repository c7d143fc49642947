import numpy as np
import pytest
from tests.support.factories.answers import benchmark, questions, sample

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answers import AnswerSet, code_letter, label_set, letter_code
from safescale.core.safety.benchmark.benchmark import Benchmark, Question


def arrays(models: int, conditions: int, ids: tuple[str, ...]) -> AnswerSet:
    shape = (models, conditions, len(ids))
    return AnswerSet(
        tuple("abc"[:models]), ("zero_shot",), ids, np.zeros(shape, dtype=np.int8),
        np.full((*shape, 2), -2, dtype=np.int8), np.zeros(shape),
    )  # fmt: skip


def test_letters_have_codes() -> None:
    assert [letter_code(letter) for letter in ("A", "Z", None)] == [0, 25, -1]
    assert [code_letter(code) for code in (0, 25, -1, -2)] == ["A", "Z", "", ""]
    with pytest.raises(ValueError, match="substring"):
        letter_code("é")


def test_answers_are_counted_without_gaps() -> None:
    assert arrays(2, 1, ("q1", "q2")).n_answers == 4


def test_arrays_must_have_the_shape_of_their_names() -> None:
    with pytest.raises(ValueError, match="shape"):
        arrays(2, 2, ("q1",))


@pytest.mark.parametrize("ids", [("q2", "q1"), ("q1", "q1")])
def test_question_ids_are_sorted_and_unique(ids: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="sorted"):
        arrays(1, 1, ids)


def test_labels_follow_the_questions_asked() -> None:
    import random

    truths = questions(random.Random(5), 6)
    labels = label_set(benchmark(truths), ["q4", "q1"])
    for row, name in enumerate(("q4", "q1")):
        truth = truths[name]
        assert code_letter(int(labels.correct[row])) == truth.correct
        assert labels.n_options[row] == truth.n_options
        for flag in ("high_risk", "unsafe", "contradicts"):
            flagged = {code_letter(code) for code in np.flatnonzero(getattr(labels, flag)[row]).tolist()}
            assert flagged == truth.flags[flag]
    assert labels.labelled
    assert labels.subspecialty == ("chest", "chest")


def test_questions_without_labels_are_named() -> None:
    bank = Benchmark("bank", (Question("q1", "", {"A": "a", "B": "b"}, "A"),))
    with pytest.raises(InvalidInputError, match=r"bank: no labels .* q2, q3, q4, q5, q6 and 2 more"):
        label_set(bank, ["q1", *(f"q{number}" for number in range(2, 9))])
    assert not label_set(bank, ["q1"]).labelled


def test_made_answers_have_gaps_nulls_and_ragged_samples() -> None:
    made = sample(4)
    assert (made.answers.samples == -2).any()
    assert (made.answers.samples == -1).any()
    assert (made.answers.greedy == -2).any()
