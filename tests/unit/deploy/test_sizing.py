"""The tables of the sizing page are those of its formula, and the series that it names exist."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from safescale.core.safety.builders import MaxContext, Padded, TopK, context_max_budget
from safescale.core.safety.conditions import CONDITIONS
from safescale.runtime.telemetry import METRICS

ROW = re.compile(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def sizing(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(Path(__file__).with_name("sizing.py"))


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs/deploy/sizing.md").read_text()


def test_tables_are_those_of_the_formula(page: str, sizing: ModuleType) -> None:
    short, long = page.split("**Models that reason**")
    for text, tokens, least in ((short, 10, 10), (long, 1000, 3)):
        rows = ROW.findall(text)
        assert len(rows) == least
        for condition, prompt, *cells in rows:
            assert prompt == f"{sizing.QUESTION_TOKENS + sizing.CONTEXTS[condition]:,}"
            assert cells == [sizing.cells_an_hour(model, condition, tokens) for model in sizing.MODELS.values()]


def test_conditions_have_their_budgets(sizing: ModuleType) -> None:
    assert set(sizing.CONTEXTS) == {row.id for row in CONDITIONS} - {"deep_research"}
    for row in CONDITIONS:
        builder = row.builder
        if isinstance(builder, MaxContext) and builder.budget_tokens is not None:
            assert sizing.CONTEXTS[row.id] == builder.budget_tokens
        elif isinstance(builder, TopK | Padded):
            assert sizing.CONTEXTS[row.id] == builder.k * sizing.CHUNK_TOKENS
    assert sizing.CONTEXTS["context_max"] == context_max_budget(131_072)


def test_series_that_are_named_exist(page: str) -> None:
    named = set(re.findall(r"safescale_[a-z_]+", page))
    assert named
    assert named <= {metric.name for metric in METRICS}
