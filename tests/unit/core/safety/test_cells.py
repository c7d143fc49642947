import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import InvalidInputError
from safescale.core.safety.benchmark.benchmark import Question
from safescale.core.safety.cells import Cell, record_key, select_questions


def question(identifier: str, subspecialty: str) -> Question:
    return Question(identifier, "text", {"A": "a", "B": "b"}, "A", subspecialty)


BANK = [question(f"{name}-{i}", name) for name in ("chest", "neuro", "breast") for i in range(4)]


def test_cell_ids_differ_by_every_part() -> None:
    base = ("r", "m", "c", "q")
    ids = {Cell(*base).cell_id}
    ids.update(Cell(*[*base[:i], "x", *base[i + 1 :]]).cell_id for i in range(4))
    ids.add(Cell("rm", "", "c", "q").cell_id)
    assert len(ids) == 6


def test_record_keys_of_a_cell_sort_by_attempt() -> None:
    cell = Cell("r", "m", "c", "q")
    assert record_key(cell, 2) < record_key(cell, 10)
    assert record_key(cell, 1).startswith("r/")


def test_all_questions_without_limit() -> None:
    assert select_questions(BANK, [], 0) == tuple(sorted(q.question_id for q in BANK))


@given(limit=st.integers(1, 12))
def test_a_limit_spreads_over_subspecialties(limit: int) -> None:
    chosen = select_questions(BANK, [], limit)
    counts = [sum(i.startswith(name) for i in chosen) for name in ("chest", "neuro", "breast")]
    assert len(chosen) == limit
    assert max(counts) - min(counts) <= 1
    assert list(chosen) == sorted(chosen)


def test_named_questions_only() -> None:
    assert select_questions(BANK, ["neuro-1", "chest-0"], 0) == ("chest-0", "neuro-1")


def test_an_unknown_id_is_named() -> None:
    with pytest.raises(InvalidInputError, match="nope"):
        select_questions(BANK, ["chest-0", "nope"], 0)
