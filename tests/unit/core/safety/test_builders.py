import pytest

from safescale.core.safety.benchmark.benchmark import Question
from safescale.core.safety.builders import CHUNK_TOKENS, REPORT_TOKENS, MaxContext, context_max_budget
from safescale.core.safety.conditions import CONDITIONS, condition


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
    builders = [condition(name).builder for name in ("context_32k", "context_100k", "context_max")]
    assert tuple(builder.budget(window) for builder in builders) == budgets
    assert tuple(builder.fits(window) for builder in builders) == tuple(budget is not None for budget in budgets)


def test_a_window_of_the_reserves_alone_holds_no_context() -> None:
    assert context_max_budget(7_144) == 0
    assert not MaxContext().fits(7_144)


def test_what_has_no_budget_fits_every_window_and_serves_every_model() -> None:
    others = [row.builder for row in CONDITIONS if not isinstance(row.builder, MaxContext)]
    assert len(others) == len(CONDITIONS) - 3
    assert all(builder.fits(1) and not builder.per_model for builder in others)


def test_tokens_are_estimated_by_what_is_put_before_the_question() -> None:
    question = Question("q", "What is it?", {"A": "this", "B": "that"}, "A", "chest", evidence_clean="x" * 400)
    expected = {
        "zero_shot": 0, "evidence_clean": 101, "evidence_conflict": 1, "top_1": CHUNK_TOKENS, "top_5": 5 * CHUNK_TOKENS,
        "top_10": 10 * CHUNK_TOKENS, "padded_top_1": 10 * CHUNK_TOKENS, "deep_research": REPORT_TOKENS,
        "context_32k": 30_000, "context_100k": 0, "context_max": 32_856,
    }  # fmt: skip
    assert {name: condition(name).builder.estimated_tokens(question, 40_000) for name in expected} == expected
