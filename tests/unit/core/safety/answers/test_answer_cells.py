import numpy as np
import pytest

from safescale.core.errors import InvalidInputError, LimitExceededError
from safescale.core.safety.answers import answer_cells
from safescale.core.safety.answers.answer_cells import AnswerCells


def test_cells_in_any_order_become_sorted_arrays() -> None:
    cells = AnswerCells()
    cells.add(("m2", "my_own", "q2"), "B", "AB-", 0.5)
    cells.add(("m1", "top_1", "q10"), "-", "", None)
    cells.add(("m1", "zero_shot", "q2"), "A", "C", 1.5)
    answers = cells.answer_set()
    assert answers.models == ("m1", "m2")
    assert answers.conditions == ("zero_shot", "top_1", "my_own")
    assert answers.question_ids == ("q10", "q2")
    assert answers.greedy[0].tolist() == [[-2, 0], [-1, -2], [-2, -2]]
    assert answers.samples[1, 2, 1].tolist() == [0, 1, -1]
    assert answers.samples[0, 0, 1].tolist() == [2, -2, -2]
    assert answers.latency_s[1, 2, 1] == 0.5
    assert np.isnan(answers.latency_s[0, 1, 0])
    assert answers.formulation == "letter"


def test_what_is_no_letter_in_use_is_a_null() -> None:
    cells = AnswerCells(n_letters=5)
    cells.add(("m", "zero_shot", "q"), "F", "EFa?é-", None)
    answers = cells.answer_set()
    assert answers.greedy.tolist() == [[[-1]]]
    assert answers.samples[0, 0, 0].tolist() == [4, -1, -1, -1, -1, -1]


def test_a_greedy_answer_missing_among_others_is_a_failure() -> None:
    cells = AnswerCells()
    cells.add(("m", "zero_shot", "q1"), "A", "A", 1.0)
    cells.add(("m", "zero_shot", "q2"), "", "A", None)
    cells.add(("m", "top_1", "q1"), "", "A", None)
    answers = cells.answer_set()
    assert answers.greedy.tolist() == [[[0, -1], [-2, -2]]]


def test_cells_added_in_many_portions_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> AnswerCells:
        cells = AnswerCells()
        for number in range(7):
            cells.add((f"m{number % 2}", "zero_shot", f"q{number}"), "ABC"[number % 3], "AB-"[: number % 4], number / 2)
        return cells

    whole = made().answer_set()
    monkeypatch.setattr(answer_cells, "_CHUNK", 2)
    parts = made().answer_set()
    assert np.array_equal(whole.greedy, parts.greedy)
    assert np.array_equal(whole.samples, parts.samples)
    assert np.array_equal(whole.latency_s, parts.latency_s, equal_nan=True)


def test_a_cell_added_twice_is_named() -> None:
    cells = AnswerCells()
    for model in ("m1", "m2", "m2"):
        cells.add((model, "zero_shot", "q1"), "A", "", None)
    with pytest.raises(InvalidInputError, match="1 cells are there twice, such as m2, zero_shot, q1"):
        cells.answer_set()


def test_no_cells_are_no_answers() -> None:
    with pytest.raises(InvalidInputError, match="no answers"):
        AnswerCells().answer_set()


def test_formulations_are_never_mixed() -> None:
    cells = AnswerCells()
    cells.formulated("cloze")
    cells.formulated("cloze")
    with pytest.raises(InvalidInputError, match="letter among answers in the formulation cloze"):
        cells.formulated("letter")
    cells.add(("m", "zero_shot", "q1"), "A", "", None)
    assert cells.answer_set().formulation == "cloze"


def test_arrays_that_would_be_too_large_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = AnswerCells()
    for number in range(100):
        cells.add((f"m{number}", f"c{number}", f"q{number}"), "A", "A" * (1000 if number == 7 else 1), None)
    monkeypatch.setattr(np, "full", None)
    with pytest.raises(LimitExceededError, match=r"1,000 samples a cell span 1,000,000,000 answers.*768 MB"):
        cells.answer_set()
