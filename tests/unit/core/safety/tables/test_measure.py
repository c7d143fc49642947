import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import oracle
from tests.support.factories.answers import Sample, sample

from safescale.core.safety.metrics import METRIC_NAMES, METRICS, SAFETY_METRICS, combine
from safescale.core.safety.metrics.selection import Ballot, ConditionAnswers
from safescale.core.safety.tables.analysis import AnalysisOptions, analyse, metrics_of
from safescale.core.safety.tables.measure import measurements
from safescale.core.statistics.bootstrap import index_matrix, question_draws
from safescale.core.statistics.intervals import share_count, share_interval

RESAMPLES = AnalysisOptions(resamples=25, seed=7)


def rows_of(made: Sample) -> dict[tuple[str, str, str, str], dict[str, object]]:
    table = metrics_of(made.answers, made.labels, RESAMPLES)
    return {(row["model"], row["condition"], row["regime"], row["metric"]): row for row in table.rows()}


def equal(ours: float, theirs: float) -> bool:
    return (math.isnan(ours) and math.isnan(theirs)) or math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.2, 0.7]), st.integers(1, 9))
def test_metrics_are_the_definitions(seed: int, gaps: float, n_questions: int) -> None:
    made = sample(seed, gaps=gaps if n_questions > 4 else 0.0, n_questions=n_questions, unread=seed % 3 / 4)
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


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 1.0]))
def test_the_worst_case_is_the_worst_of_all_ways_to_read_what_nobody_could(seed: int, unread: float) -> None:
    made = sample(seed, n_questions=6, drawn=4, unread=unread)
    found = rows_of(made)
    for (model, condition), answered in made.rows.items():
        rows = list(answered.values())
        for key, events in oracle.worst(rows, samples=any(row.samples for row in rows)).items():
            row = found[model, condition, *key]
            assert row["worst_events"] == events, (model, condition, key)
            assert row["worst_events"] >= row["events"]  # type: ignore[operator]


def test_unread_answers_are_no_abstentions_and_raise_the_upper_end_of_harm_alone() -> None:
    made = sample(4, models=("a",), n_questions=40, gaps=0, drawn=0)
    made.answers.greedy[:] = made.labels.correct
    made.answers.greedy[..., :10] = -1
    unread = np.zeros(made.answers.greedy.shape, dtype=np.bool_)
    unread[..., :8] = True
    made.answers = replace(made.answers, greedy_unread=unread)
    rows = {key[3]: row for key, row in rows_of(made).items() if key[1:3] == ("zero_shot", "greedy")}
    assert (rows["abstention_rate"]["events"], rows["unread_rate"]["events"]) == (2, 8)
    assert math.isnan(rows["unread_rate"]["worst_events"])  # type: ignore[arg-type]
    assert math.isnan(rows["accuracy"]["worst_events"])  # type: ignore[arg-type]
    harm = rows["high_risk_error_rate"]
    assert (harm["n"], harm["n_null"], harm["n_unread"], harm["events"], harm["worst_events"]) == (40, 10, 8, 0, 8)
    assert equal(harm["exact_high"], oracle.exact(0, 40)[1])  # type: ignore[arg-type]
    assert equal(harm["worst_high"], oracle.exact(8, 40)[1])  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_intervals_of_shares_are_exact_and_of_others_a_bootstrap(seed: int) -> None:
    shares = {metric.name for metric in METRICS if metric.share}
    for (*_, metric), row in rows_of(sample(seed, unread=0.5)).items():
        if metric not in shares:
            assert row["interval"] == "bootstrap"
            assert all(math.isnan(row[name]) for name in ("events", "exact_low", "exact_high", "worst_high"))  # type: ignore[arg-type]
            continue
        assert (row["interval"], row["clusters"]) == ("clopper_pearson", 0)
        if row["n"] == 0:
            assert math.isnan(row["exact_low"])  # type: ignore[arg-type]
            continue
        assert equal(row["value"], row["events"] / row["n"])  # type: ignore[operator]
        low, high = oracle.exact(int(row["events"]), row["n"])  # type: ignore[call-overload, arg-type]
        assert equal(row["exact_low"], low)  # type: ignore[arg-type]
        assert equal(row["exact_high"], high)  # type: ignore[arg-type]


def test_shares_of_questions_are_those_that_count_events_over_questions() -> None:
    made = sample(5, unread=0.5)
    view = ConditionAnswers(made.answers, made.labels, 0)
    for metric in METRICS:
        ballot = Ballot(metric.regimes[0], metric.rule)
        flags = all(part(view, ballot).dtype == np.bool_ for part in (*metric.summands, metric.base))
        assert metric.share == (flags and len(metric.summands) == 2 and metric.combine is combine.ratio), metric.name
    others = {"accuracy", "abstention_rate", "unread_rate", "null_majority_rate", "synchronized_failure_rate"}
    assert {metric.name for metric in METRICS if metric.share} == {*SAFETY_METRICS, *others}
    assert all(metric.share and metric.worst is not None for metric in METRICS if metric.harm)


def test_clusters_widen_intervals_and_are_drawn_together() -> None:
    made = sample(6, models=("a",), n_questions=40, gaps=0, drawn=3)
    clustered = replace(made.labels, clusters=np.arange(40) // 8)
    made.answers.greedy[:] = np.where(np.arange(40) < 16, made.labels.correct, -1)
    alone = rows_of(made)
    together = rows_of(Sample(made.answers, clustered, made.rows))
    key = ("a", "zero_shot", "greedy", "accuracy")
    assert (together[key]["interval"], together[key]["clusters"]) == ("korn_graubard", 5)
    share = share_count(np.arange(40) < 16, np.arange(40) // 8)
    interval = share_interval(share)
    assert equal(together[key]["n_effective"], share.n_effective)  # type: ignore[arg-type]
    assert equal(together[key]["exact_high"], interval.high)  # type: ignore[arg-type]
    assert together[key]["exact_high"] > alone[key]["exact_high"]  # type: ignore[operator]
    assert together[key]["value"] == alone[key]["value"]
    draws = question_draws(40, 25, 7, clustered.clusters)
    shares = (draws.double[:16].sum(axis=0)) / draws.double.sum(axis=0)
    assert equal(together[key]["ci_high"], float(np.percentile(shares, 97.5)))  # type: ignore[arg-type]
    assert (draws.double[0:8] == draws.double[0]).all()
    lone = rows_of(Sample(made.answers, replace(made.labels, clusters=np.zeros(40, np.int64)), made.rows))[key]
    assert (lone["exact_low"], lone["exact_high"]) == (0, 1)
    assert math.isnan(lone["ci_low"])  # type: ignore[arg-type]


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
        if measurement.measured is None:
            assert math.isnan(row["events"])
        else:
            assert (measurement.measured.events, measurement.measured.n) == (row["events"], row["n"])


@pytest.mark.parametrize("metric", sorted(SAFETY_METRICS))
def test_without_labels_no_safety_metric_is_given(metric: str) -> None:
    made = sample(2)
    blind = made.labels.__class__(**{
        **{name: getattr(made.labels, name) for name in made.labels.__slots__}, "labelled": False,
    })  # fmt: skip
    names = {row["metric"] for row in metrics_of(made.answers, blind, RESAMPLES).rows()}
    assert "accuracy" in names
    assert metric not in names
