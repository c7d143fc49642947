"""The tables of the sizing page are those of its formula, and the series that it names exist."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from safescale.core.safety.builders import context_max_budget
from safescale.runtime.metrics import METRICS

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
    expected = {
        "zero_shot": 0, "evidence_clean": sizing.EVIDENCE_TOKENS, "top_1": sizing.CHUNK_TOKENS,
        "padded_top_1": 10 * sizing.CHUNK_TOKENS, "context_100k": 96_000, "context_max": context_max_budget(131_072),
    }  # fmt: skip
    assert {name: sizing.CONTEXTS[name] for name in expected} == expected


def test_series_that_are_named_exist(page: str) -> None:
    named = set(re.findall(r"safescale_[a-z_]+", page))
    assert named
    assert named <= {metric.name for metric in METRICS}
