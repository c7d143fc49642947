import csv
from pathlib import Path

import pytest

from safescale.core.safety.conditions import condition
from safescale.inference.catalog import load_catalog

ROOT = Path(__file__).parents[3]
STATED = list(csv.DictReader((ROOT / "tests/reference/data/paper_models.csv").read_text().splitlines()))
ROWS = load_catalog(ROOT / "models/paper.yaml").rows


def test_every_model_of_the_paper_is_there() -> None:
    assert {row["name"] for row in STATED} == set(ROWS) - {"smollm2-135m-instruct", "gemma-3-270m"}


@pytest.mark.parametrize("stated", STATED, ids=lambda row: row["name"])
def test_a_row_says_what_the_paper_states(stated) -> None:
    row = ROWS[stated["name"]]
    assert row.family == stated["family"]
    assert row.parameters_b == float(stated["parameters_b"])
    assert (row.reasoning is not None) == (stated["reasoning"] == "yes")
    assert row.auto_formulation == ("letter" if row.parameters_b > 1 else "cloze")
    if not stated["window_tokens"]:
        return
    assert row.served_tokens == int(stated["window_tokens"])
    for name in ("context_32k", "context_100k", "context_max"):
        budget = condition(name).builder.budget(row.served_tokens)
        assert str(budget or "") == stated[f"{name}_budget"]


def test_each_model_has_a_place_of_its_own() -> None:
    urls = [url for name, row in ROWS.items() if row.endpoint for url in row.endpoint.urls]
    assert len(set(urls)) == len(STATED)
