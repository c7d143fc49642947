import math

import numpy as np
import pytest
import scipy.stats

from safescale.core.safety.tables.scaling import ModelInfo, catalogued, decomposition_table, scaling_table
from safescale.core.tables import Table, table_of_rows

SIZES = {"a": ("X", 1.0), "b": ("X", 10.0), "c": ("X", 100.0), "d": ("Y", 2.0), "e": ("Y", 30.0), "f": ("Z", 7.0)}
CATALOG = {f"owner/{name}": ModelInfo(*info) for name, info in SIZES.items()}
SCHEMA = {"model": str, "condition": str, "regime": str, "metric": str, "value": float}


def metrics(*, missing: bool = False) -> Table:
    rng = np.random.default_rng(3)
    rows = []
    for name, (_, size) in SIZES.items():
        for shift, condition in enumerate(("zero_shot", "top_10")):
            accuracy = 0.5 + 0.1 * np.log10(size) + 0.1 * shift + rng.normal(0, 0.02)
            rows.append([name, condition, "greedy", "accuracy", accuracy])
            risk = math.nan if missing and name == "a" else 0.3 - 0.02 * np.log10(size) + rng.normal(0, 0.01)
            rows.append([name, condition, "greedy", "high_risk_error_rate", risk])
    rows.append(["unlisted", "zero_shot", "greedy", "accuracy", 0.0])
    return table_of_rows("metrics", SCHEMA, rows)


def known(table: Table) -> dict[str, ModelInfo]:
    return catalogued(tuple(dict.fromkeys(table.columns["model"].tolist())), CATALOG)


def values(table: Table, metric: str, condition: str, models: str) -> tuple[list[float], list[float]]:
    found = {
        row["model"]: row["value"] for row in table.rows() if (row["metric"], row["condition"]) == (metric, condition)
    }
    return [math.log10(SIZES[model][1] * 1e9) for model in models], [found[model] for model in models]


def fits(table: Table) -> dict[tuple[str, str, str], dict[str, float]]:
    return {(row["family"], row["condition"], row["metric"]): row for row in scaling_table(table, known(table)).rows()}


def test_models_outside_the_catalog_are_left_out() -> None:
    assert set(known(metrics())) == set(SIZES)


@pytest.mark.parametrize(("family", "models"), [("all", "abcdef"), ("X", "abc")])
def test_slopes_are_per_decade_of_parameters(family: str, models: str) -> None:
    table = metrics()
    for condition in ("zero_shot", "top_10"):
        row = fits(table)[family, condition, "accuracy"]
        theirs = scipy.stats.linregress(*values(table, "accuracy", condition, models))
        assert row["n_models"] == len(models)
        assert row["slope_per_decade"] == pytest.approx(theirs.slope)
        assert row["p_value"] == pytest.approx(theirs.pvalue)
        half = scipy.stats.t.ppf(0.975, len(models) - 2) * theirs.stderr
        assert [row["ci_low"], row["ci_high"]] == pytest.approx([theirs.slope - half, theirs.slope + half])
        assert math.isnan(row["gap_to_accuracy"])


def test_the_gap_is_the_slope_of_safety_minus_that_of_accuracy() -> None:
    table = metrics()
    row = fits(table)["all", "top_10", "high_risk_error_rate"]
    x, risk = values(table, "high_risk_error_rate", "top_10", "abcdef")
    _, accuracy = values(table, "accuracy", "top_10", "abcdef")
    slopes = [scipy.stats.linregress(x, y).slope for y in ([1 - each for each in risk], accuracy)]
    paired = scipy.stats.linregress(x, [1 - a - b for a, b in zip(risk, accuracy, strict=True)])
    assert row["gap_to_accuracy"] == pytest.approx(slopes[0] - slopes[1])
    assert row["gap_p_value"] == pytest.approx(paired.pvalue)
    assert row["gap_ci_high"] < 0, "accuracy was made to grow faster"


def test_families_of_one_size_have_no_line_and_of_two_models_no_interval() -> None:
    found = fits(metrics())
    assert not any(family == "Z" for family, _, _ in found)
    assert math.isnan(found["Y", "zero_shot", "accuracy"]["ci_low"])
    assert not math.isnan(found["Y", "zero_shot", "accuracy"]["slope_per_decade"])


def test_values_that_are_not_defined_are_left_out() -> None:
    found = fits(metrics(missing=True))
    assert found["all", "zero_shot", "high_risk_error_rate"]["n_models"] == 5
    assert found["all", "zero_shot", "accuracy"]["n_models"] == 6


def test_decomposition_by_condition_and_family() -> None:
    table = metrics()
    rows = {row["metric"]: row for row in decomposition_table(table, known(table)).rows()}
    row = rows["accuracy"]
    assert (row["n_cells"], row["n_conditions"], row["n_families"]) == (12, 2, 3)
    assert sum(row[f"share_{name}"] for name in ("condition", "family", "interaction", "residual")) == pytest.approx(1)
    assert row["share_condition"] > row["share_interaction"]


def test_without_known_models_the_tables_are_empty() -> None:
    assert len(scaling_table(metrics(), {})) == 0
    assert len(decomposition_table(metrics(), {})) == 0


def test_no_line_goes_through_a_size_that_is_not_known() -> None:
    table = metrics()
    found = known(table)
    sized = {name: info for name, info in found.items() if name != "c"}
    unknown = {**found, "c": ModelInfo("X", None)}
    for column, of_sized in scaling_table(table, sized).columns.items():
        np.testing.assert_array_equal(scaling_table(table, unknown).columns[column], of_sized)
    assert scaling_table(table, unknown).columns["n_models"][0] == 5
    # Its family is known, so that it still counts for what families explain.
    for column, of_found in decomposition_table(table, found).columns.items():
        np.testing.assert_array_equal(decomposition_table(table, unknown).columns[column], of_found)
    nobody = {name: ModelInfo(info.family, None) for name, info in found.items()}
    assert not list(scaling_table(table, nobody).rows())
