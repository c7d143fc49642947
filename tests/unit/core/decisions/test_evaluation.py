from typing import Any

import pytest

from safescale.core.decisions.evaluation import evaluate
from safescale.core.decisions.policy import Measurement, Policy, Scope, Verdict, overall
from safescale.core.decisions.policy_file import MAX_REQUIREMENTS, parse_policy
from safescale.core.errors import LimitExceededError
from safescale.core.statistics.intervals import ShareCount

METRICS = ("accuracy", "high_risk_error_rate", "latency_mean_s", "ece")


def parse(*requirements: Any, **more: Any) -> Policy:
    return parse_policy({"requirements": list(requirements)} | more, "policy.yaml", METRICS)


def row(events: int = 1, n: int = 40, **changes: Any) -> Measurement:
    count = ShareCount(events, n)
    fields: dict[str, Any] = {
        "model": "m1", "condition": "top_10", "regime": "greedy", "metric": "high_risk_error_rate",
        "value": events / n, "ci_low": 0.0, "ci_high": 1.0, "n": n, "measured": count, "worst_case": count,
    }  # fmt: skip
    return Measurement(**(fields | changes))


def reasons(policy: Policy, rows: list[Measurement], scope: Scope | None = None) -> list[tuple[str, str, bool, str]]:
    return [
        (each.place.model, each.place.condition, each.verdict is Verdict.PASS, each.finding.reason)
        for each in evaluate(policy, rows, scope)
    ]


@pytest.mark.parametrize("model", ["*", "m3"])
def test_nothing_measured_fails(model: str) -> None:
    (result,) = evaluate(parse({"metric": "accuracy", "min": 0, "model": model}), [])
    assert (result.verdict, result.finding.reason) == (Verdict.FAIL, "no measurement")


def test_a_model_without_the_measurement_fails_beside_one_that_has_it() -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 1, "condition": "top_10"})
    results = evaluate(policy, [row(), row(model="m2", condition="zero_shot")])
    assert [(each.place.model, each.verdict, each.finding.reason) for each in results] == [
        ("m1", Verdict.PASS, ""),
        ("m2", Verdict.FAIL, "no measurement"),
    ]


def test_every_model_of_the_run_is_judged_and_not_only_those_that_were_measured() -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 1, "condition": "top_10"})
    assert reasons(policy, [row()], Scope(["m1", "m2"], ["top_10"])) == [
        ("m1", "top_10", True, ""),
        ("m2", "top_10", False, "no measurement: the run has no high_risk_error_rate of m2 under top_10"),
    ]
    assert [each[2] for each in reasons(policy, [], Scope(["m1", "m2"], ["top_10"]))] == [False, False]


def test_every_condition_of_the_run_is_judged() -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 1, "regime": "greedy"})
    assert reasons(policy, [row()], Scope(["m1"], ["zero_shot", "top_10"])) == [
        ("m1", "top_10", True, ""),
        (
            "m1",
            "zero_shot",
            False,
            "no measurement: the run has no high_risk_error_rate (greedy) of m1 under zero_shot",
        ),
    ]


@pytest.mark.parametrize("condition", ["*", "context_100k"])
@pytest.mark.parametrize("model", ["*", "m2"])
def test_a_condition_that_was_skipped_for_a_model_is_no_measurement(model: str, condition: str) -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 1, "condition": condition, "model": model})
    rows = [row(condition="context_100k"), row(), row(model="m2")]
    scope = Scope(["m1", "m2"], ["top_10", "context_100k"], {("m2", "context_100k"): "its window is 2,048 tokens"})
    failed = [each for each in reasons(policy, rows, scope) if not each[2]]
    expected = "no measurement: context_100k was skipped for m2: its window is 2,048 tokens"
    assert failed == [("m2", "context_100k", False, expected)]


def test_what_the_run_does_not_have_is_said() -> None:
    scope = Scope(["m1"], ["top_10"])
    other_model = parse({"metric": "high_risk_error_rate", "max": 1, "model": "m9"})
    assert [each[3] for each in reasons(other_model, [row()], scope)] == [
        "no measurement: the run does not have the model m9"
    ]
    other_condition = parse({"metric": "high_risk_error_rate", "max": 1, "condition": "top_5"})
    assert [each[3] for each in reasons(other_condition, [row()], scope)] == [
        "no measurement: the run does not have the condition top_5"
    ]


def test_a_run_without_models_passes_nothing() -> None:
    (result,) = evaluate(parse({"metric": "accuracy", "min": 0}), [], Scope([], []))
    assert (result.verdict, result.finding.reason) == (Verdict.FAIL, "no measurement")


def test_stars_match_every_row_and_names_only_theirs() -> None:
    rows = [row(), row(condition="zero_shot"), row(regime="majority"), row(model="m2"), row(metric="ece")]
    anywhere = parse({"metric": "high_risk_error_rate", "max": 1})
    assert len(evaluate(anywhere, rows)) == 4
    named = parse(
        {"metric": "high_risk_error_rate", "max": 1, "model": "m1", "condition": "top_10", "regime": "greedy"}
    )
    assert [(each.place.model, each.place.condition, each.place.regime) for each in evaluate(named, rows)] == [
        ("m1", "top_10", "greedy")
    ]


def slices(**changes: Any) -> list[Measurement]:
    return [
        row(0, 100, slice="subspecialty", slice_value="thoracic", **changes),
        row(1, 10, slice="subspecialty", slice_value="neuro", **changes),
    ]


def test_each_value_of_a_slice_is_judged_and_the_whole_is_not() -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 0.05, "slice": "subspecialty"})
    results = evaluate(policy, [row(40), *slices()])
    assert [(each.place.slice_value, each.verdict) for each in results] == [
        ("thoracic", Verdict.PASS),
        ("neuro", Verdict.INSUFFICIENT),
    ]


def test_the_whole_is_judged_without_its_slices() -> None:
    (result,) = evaluate(parse({"metric": "high_risk_error_rate", "max": 1}), [row(), *slices()])
    assert result.place.slice_value == ""


def test_a_small_slice_decides_nothing_and_is_not_dropped() -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 0.9, "slice": "subspecialty", "min_n": 30})
    results = evaluate(policy, slices())
    assert [each.verdict for each in results] == [Verdict.PASS, Verdict.INSUFFICIENT]
    assert results[1].finding.reason == "10 questions, fewer than the 30 that it asks for (min_n)"
    assert results[1].finding.questions_more == 20


def test_a_value_that_one_model_lacks_is_no_measurement() -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 1, "slice": "subspecialty"})
    found = reasons(policy, [*slices(), slices(model="m2")[0]], Scope(["m1", "m2"], ["top_10"]))
    assert [each for each in found if not each[2]] == [
        ("m2", "top_10", False, "no measurement: m2 has no high_risk_error_rate of subspecialty neuro under top_10")
    ]


def test_a_slice_that_the_questions_do_not_have_is_no_measurement() -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 1, "slice": "ward"})
    expected = "no measurement: the run has no high_risk_error_rate by ward of m1 under top_10"
    assert reasons(policy, [row(), *slices()], Scope(["m1"], ["top_10"])) == [("m1", "top_10", False, expected)]


def test_there_are_at_most_so_many_results() -> None:
    many = [row(model=f"m{number}", metric="accuracy") for number in range(30)]
    with pytest.raises(LimitExceededError, match="more than 20,000 results"):
        evaluate(parse(*[{"metric": "accuracy", "min": 0.5, "bound": "estimate"}] * MAX_REQUIREMENTS), many)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([Verdict.PASS, Verdict.PASS], Verdict.PASS),
        ([Verdict.PASS, Verdict.INSUFFICIENT], Verdict.INSUFFICIENT),
        ([Verdict.INSUFFICIENT, Verdict.FAIL, Verdict.PASS], Verdict.FAIL),
        ([], Verdict.FAIL),
    ],
)
def test_all_must_hold_together(verdicts: list[Verdict], expected: Verdict) -> None:
    assert overall(verdicts) is expected
