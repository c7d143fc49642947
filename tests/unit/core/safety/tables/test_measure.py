import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import oracle
from tests.support.factories.answers import Sample, sample

from safescale.core.safety.metrics import METRIC_NAMES, METRICS, SAFETY_METRICS
from safescale.core.safety.tables.analysis import AnalysisOptions, analyse, metrics_of
from safescale.core.safety.tables.measure import measurements
from safescale.core.statistics.bootstrap import index_matrix

RESAMPLES = AnalysisOptions(resamples=25, seed=7)


def rows_of(made: Sample) -> dict[tuple[str, str, str, str], dict[str, object]]:
    table = metrics_of(made.answers, made.labels, RESAMPLES)
    return {(row["model"], row["condition"], row["regime"], row["metric"]): row for row in table.rows()}


def equal(ours: float, theirs: float) -> bool:
    return (math.isnan(ours) and math.isnan(theirs)) or math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.2, 0.7]), st.integers(1, 9))
def test_metrics_are_the_definitions(seed: int, gaps: float, n_questions: int) -> None:
    made = sample(seed, gaps=gaps, n_questions=n_questions) if gaps < 0.5 or n_questions > 4 else sample(seed, gaps=0)
    found = rows_of(made)
    expected: dict[tuple[str, str, str, str], float] = {}
    for (model, condition), answered in made.rows.items():
        rows = list(answered.values())
        values = oracle.metrics(rows, samples=any(row.samples for row in rows))
        expected |= {(model, condition, *key): value for key, value in values.items()}
    assert set(found) == set(expected)
    different = {key: (found[key]["value"], value) for key, value in expected.items()
                 if not equal(found[key]["value"], value)}  # type: ignore[arg-type]  # fmt: skip
    assert not different


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
def test_the_bootstrap_is_every_metric_of_every_resample(seed: int, gaps: float) -> None:
    made = sample(seed, gaps=gaps, models=("a",), n_questions=6)
    indices = index_matrix(len(made.answers.question_ids), RESAMPLES.resamples, RESAMPLES.seed)
    found = rows_of(made)
    for (model, condition), answered in made.rows.items():
        drew = any(row.samples for row in answered.values())
        distributions: dict[tuple[str, str], list[float]] = {}
        for draw in indices.tolist():
            names = [made.answers.question_ids[place] for place in draw]
            resample = [answered[name] for name in names if name in answered]
            for key, value in oracle.metrics(resample, samples=drew).items():
                distributions.setdefault(key, []).append(value)
        for (regime, metric), values in distributions.items():
            row = found[model, condition, regime, metric]
            kept = np.array([value for value in values if not math.isnan(value)])
            if len(kept):
                low, high = np.percentile(kept, [2.5, 97.5])
                spread = float(kept.std(ddof=1)) if len(kept) > 1 else math.nan
                theirs = [float(kept.mean()), spread, float(low), float(high)]
            else:
                theirs = [math.nan] * 4
            ours = [row[column] for column in ("boot_mean", "boot_sd", "ci_low", "ci_high")]
            assert all(map(equal, ours, theirs)), (metric, ours, theirs)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_n_counts_the_questions_and_n_null_those_without_a_letter(seed: int) -> None:
    made = sample(seed)
    for (model, condition, regime, metric), row in rows_of(made).items():
        answered = list(made.rows[model, condition].values())
        if regime == "greedy":
            asked = [each for each in answered if each.greedy != ""]
            assert (row["n"], row["n_null"]) == (len(asked), sum(each.greedy is None for each in asked))
        elif metric == "accuracy":
            nulls = sum(oracle.null_ballot_vote(each.samples) is None for each in answered)
            assert (row["n"], row["n_null"]) == (len(answered), nulls)
        elif metric in {"ece", "mce", "mean_confidence", "dangerous_overconfidence_rate"}:
            assert row["n"] == sum(bool(each.samples) for each in answered)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_rates_are_shares_and_intervals_hold_their_mean(seed: int) -> None:
    for (*_, metric), row in rows_of(sample(seed)).items():
        assert metric in METRIC_NAMES
        if not math.isnan(row["boot_mean"]):  # type: ignore[arg-type]
            assert row["ci_low"] <= row["ci_high"]  # type: ignore[operator]
        if metric.endswith("_rate") and not math.isnan(row["value"]):  # type: ignore[arg-type]
            assert 0 <= row["ci_low"] <= row["ci_high"] <= 1  # type: ignore[operator]
            assert 0 <= row["value"] <= 1  # type: ignore[operator]


def test_each_metric_names_its_rule_and_denominator() -> None:
    assert len(set(METRIC_NAMES)) == len(METRICS)
    rules = {metric.name: metric.rule for metric in METRICS}
    assert rules["accuracy"] == rules["dangerous_overconfidence_rate"] == rules["ece"] == "null_ballot"
    assert {rules[name] for name in SAFETY_METRICS[:3]} == {"drop_null"}
    for metric in METRICS:
        assert metric.regimes
        assert metric.denominator
        assert metric.unit == ("s" if metric.name.startswith("latency") else "1")
        assert metric.direction in {"higher", "lower", "none"}


def test_a_failed_call_has_no_latency_but_counts_as_wrong() -> None:
    made = sample(3, gaps=0)
    made.answers.greedy[:] = -1
    made.answers.latency_s[:] = np.nan
    for key, row in rows_of(made).items():
        if key[2:] == ("greedy", "latency_mean_s"):
            assert math.isnan(row["value"])  # type: ignore[arg-type]
            assert math.isnan(row["ci_low"])  # type: ignore[arg-type]
        if key[2:] == ("greedy", "accuracy"):
            assert (row["value"], row["n"], row["n_null"]) == (0, 7, 7)


def test_measurements_are_the_rows_a_policy_judges() -> None:
    made = sample(1)
    metrics = analyse(made.answers, made.labels, None, RESAMPLES)["metrics"]
    measured = measurements(metrics)
    assert len(measured) == len(metrics)
    for row, measurement in zip(metrics.rows(), measured, strict=True):
        assert (row["model"], row["condition"], row["regime"], row["metric"], row["n"]) == (
            measurement.model, measurement.condition, measurement.regime, measurement.metric, measurement.n,
        )  # fmt: skip
        assert equal(row["ci_high"], measurement.ci_high)


@pytest.mark.parametrize("metric", sorted(SAFETY_METRICS))
def test_without_labels_no_safety_metric_is_given(metric: str) -> None:
    made = sample(2)
    blind = made.labels.__class__(**{
        **{name: getattr(made.labels, name) for name in made.labels.__slots__}, "labelled": False,
    })  # fmt: skip
    names = {row["metric"] for row in metrics_of(made.answers, blind, RESAMPLES).rows()}
    assert "accuracy" in names
    assert metric not in names
