import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.safety.conditions import (
    CONDITION_IDS,
    CONDITIONS,
    PAIRS,
    condition,
    context_budget,
    context_max_budget,
)


def test_the_table_is_the_papers() -> None:
    assert CONDITION_IDS == (
        "zero_shot",
        "evidence_clean",
        "evidence_conflict",
        "top_1",
        "top_5",
        "top_10",
        "padded_top_1",
        "deep_research",
        "context_32k",
        "context_100k",
        "context_max",
    )
    assert [row.k for row in CONDITIONS if row.builder == "top_k"] == [1, 5, 10]


def test_every_pair_is_of_two_conditions_and_listed_once() -> None:
    assert len(PAIRS) == len(set(PAIRS)) == 12
    assert {name for pair in PAIRS for name in pair} <= set(CONDITION_IDS)
    assert all(left != right for left, right in PAIRS)
    assert condition("deep_research").pairs == (("deep_research", "top_10"), ("deep_research", "zero_shot"))


def test_evidence_comes_from_the_question_in_two_conditions() -> None:
    fields = {row.id: row.evidence_field for row in CONDITIONS if row.evidence_field}
    assert fields == {"evidence_clean": "evidence_clean", "evidence_conflict": "evidence_conflict"}


@pytest.mark.parametrize(("name", "message"), [("top_01", "did you mean 'top_1'"), ("?", "expected one of zero_shot")])
def test_an_unknown_condition_names_the_known(name: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        condition(name)


# Windows and budgets as in the paper's table of models.
@pytest.mark.parametrize(
    ("window", "budgets"),
    [
        (131_072, (30_000, 96_000, 123_928)),
        (100_000, (30_000, None, 92_856)),
        (40_000, (30_000, None, 32_856)),
        (32_768, (30_000, None, 25_624)),
        (8_192, (None, None, 1_048)),
        (4_096, (None, None, None)),
    ],
)
def test_budgets_fit_the_window(window: int, budgets: tuple[int | None, ...]) -> None:
    rows = [condition(name) for name in ("context_32k", "context_100k", "context_max")]
    assert tuple(context_budget(row, window) for row in rows) == budgets


def test_only_max_context_has_a_budget() -> None:
    assert context_max_budget(7_144) == 0
    with pytest.raises(ValueError, match="top_5"):
        context_budget(condition("top_5"), 8_192)
