import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.decisions.policy import (
    MAX_DEFECTS,
    MAX_REQUIREMENTS,
    Measurement,
    Policy,
    PolicyRequirement,
    Scope,
    evaluate,
    parse_policy,
)
from safescale.core.errors import LimitExceededError, SpecError

METRICS = ("accuracy", "high_risk_error_rate", "latency_mean_s", "ece")


def parse(*requirements: Any, **more: Any) -> Policy:
    return parse_policy({"requirements": list(requirements)} | more, "policy.yaml", METRICS)


def row(value: float = 0.04, low: float = 0.01, high: float = 0.08, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "model": "m1",
        "condition": "top_10",
        "regime": "greedy",
        "metric": "high_risk_error_rate",
    }
    return Measurement(**(fields | changes), value=value, ci_low=low, ci_high=high, n=40)


def test_a_policy_is_read_with_its_defaults() -> None:
    policy = parse({"metric": "accuracy", "min": 0.9}, name="ward", description="for the ward")
    requirement = PolicyRequirement("accuracy", "*", "*", "*", "min", 0.9, "worst")
    assert policy == Policy("ward", "for the ward", (requirement,))
    assert requirement.decisive == "ci_low"


@pytest.mark.parametrize(
    ("bound", "limit", "passed", "decisive"),
    [
        ("worst", 0.05, False, 0.08),
        ("worst", 0.08, True, 0.08),
        ("ci_high", 0.05, False, 0.08),
        ("ci_low", 0.05, True, 0.01),
        ("estimate", 0.05, True, 0.04),
        ("estimate", 0.03, False, 0.04),
    ],
)
def test_the_bound_decides_a_maximum(bound: str, limit: float, passed: bool, decisive: float) -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": limit, "bound": bound})
    (result,) = evaluate(policy, [row()])
    assert (result.passed, result.decisive, result.value) == (passed, decisive, 0.04)
    assert bool(result.reason) != passed


def test_the_worst_bound_of_a_minimum_is_the_lower() -> None:
    policy = parse({"metric": "accuracy", "min": 0.9})
    (result,) = evaluate(policy, [row(0.95, 0.88, 0.99, metric="accuracy")])
    assert not result.passed
    assert result.reason == "ci_low 0.88 is below the minimum 0.9"


def test_stars_match_every_row_and_names_only_theirs() -> None:
    rows = [row(), row(condition="zero_shot"), row(regime="majority"), row(model="m2"), row(metric="ece")]
    anywhere = parse({"metric": "high_risk_error_rate", "max": 1})
    assert len(evaluate(anywhere, rows)) == 4
    named = parse(
        {"metric": "high_risk_error_rate", "max": 1, "model": "m1", "condition": "top_10", "regime": "greedy"}
    )
    assert [(each.model, each.condition, each.regime) for each in evaluate(named, rows)] == [("m1", "top_10", "greedy")]


@pytest.mark.parametrize("model", ["*", "m3"])
def test_nothing_measured_fails(model: str) -> None:
    (result,) = evaluate(parse({"metric": "accuracy", "min": 0, "model": model}), [])
    assert not result.passed
    assert result.reason == "no measurement"
    assert math.isnan(result.value)


def test_a_model_without_the_measurement_fails_beside_one_that_has_it() -> None:
    policy = parse({"metric": "high_risk_error_rate", "max": 1, "condition": "top_10"})
    results = evaluate(policy, [row(), row(model="m2", condition="zero_shot")])
    assert [(each.model, each.passed, each.reason) for each in results] == [
        ("m1", True, ""),
        ("m2", False, "no measurement"),
    ]


@pytest.mark.parametrize("direction", ["max", "min"])
def test_nan_never_passes(direction: str) -> None:
    policy = parse({"metric": "high_risk_error_rate", direction: 1 if direction == "max" else 0})
    (unmeasured,) = evaluate(policy, [row(value=math.nan)])
    (no_interval,) = evaluate(policy, [row(low=math.nan, high=math.nan)])
    assert not unmeasured.passed
    assert not no_interval.passed
    assert "not a number" in unmeasured.reason
    assert "no interval" in no_interval.reason


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["max", "min"]))
def test_passing_is_the_comparison_with_the_estimate(value: float, limit: float, direction: str) -> None:
    policy = parse({"metric": "high_risk_error_rate", direction: limit, "bound": "estimate"})
    (result,) = evaluate(policy, [row(value)])
    assert result.passed == (value <= limit if direction == "max" else value >= limit)


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ({"max": 0.1}, "metric = missing; expected one of accuracy, ece,"),
        ({"metric": "acuracy", "min": 0.1}, "metric = \"acuracy\"; expected 'accuracy', or another of"),
        ({"metric": ["x"], "min": 0.1}, 'metric = ["x"]; expected one of'),
        ({"metric": "ece", "max": 0.1, "condition": "top10"}, "condition = \"top10\"; expected 'top_10', or"),
        ({"metric": "ece", "max": 0.1, "regime": "single"}, 'regime = "single"; expected one of greedy'),
        ({"metric": "ece", "max": 0.1, "bound": "upper"}, 'bound = "upper"; expected one of estimate'),
        ({"metric": "ece", "max": 0.1, "model": 3}, "model = 3; expected a model's id"),
        ({"metric": "ece"}, "max = missing; expected either max or min"),
        ({"metric": "ece", "max": 0.1, "min": 0.1}, "max = max and min; expected either max or min"),
        ({"metric": "ece", "max": "5 %"}, 'max = "5 %"; expected a number'),
        ({"metric": "ece", "max": True}, "max = true; expected a number"),
        ({"metric": "ece", "max": math.nan}, "max = NaN; expected a number"),
        ({"metric": "ece", "max": date(2026, 1, 2)}, "max = datetime.date(2026, 1, 2); expected a number"),
        ({"metric": "ece", "max": 5}, "max = 5; expected a rate from 0 to 1"),
        ({"metric": "latency_mean_s", "max": -1}, "max = -1; expected a number of at least 0"),
        ({"metric": "ece", "max": 0.1, "boud": "worst"}, "boud = an unknown key; expected 'bound', or another of"),
        ({"metric": "ece", "max": 0.1, "zzz": 1}, "zzz = an unknown key; expected one of metric"),
        ("accuracy", '"accuracy"; expected a mapping with metric and max or min'),
    ],
)
def test_a_wrong_requirement_is_named(requirement: Any, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse({"metric": "ece", "max": 0.1}, requirement)
    (defect,) = caught.value.defects
    assert str(defect).startswith(f"policy.yaml: requirement 2 {expected}") or str(defect).startswith(
        f"policy.yaml: requirement 2 = {expected}"
    )


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, "policy.yaml: null; expected a mapping with the key requirements"),
        ({}, "policy.yaml: requirements = missing; expected a list of requirements"),
        ({"requirements": []}, "policy.yaml: requirements = []; expected a list of requirements"),
        ({"requirements": [{"metric": "ece", "max": 0}], "name": 1}, "policy.yaml: name = 1; expected a text"),
    ],
)
def test_a_wrong_document_is_named(document: Any, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_policy(document, "policy.yaml", METRICS)
    assert [str(defect) for defect in caught.value.defects] == [expected]


def test_all_defects_are_listed() -> None:
    with pytest.raises(SpecError, match="and 3 more defects") as caught:
        parse({"metric": "x", "max": "y"}, {"metric": "ece"}, nam="z")
    assert len(caught.value.defects) == 4


def test_seconds_may_be_above_one() -> None:
    assert parse({"metric": "latency_mean_s", "max": 30}).requirements[0].limit == 30


def reasons(policy: Policy, rows: list[Measurement], scope: Scope) -> list[tuple[str, str, bool, str]]:
    return [(each.model, each.condition, each.passed, each.reason) for each in evaluate(policy, rows, scope)]


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
    assert (result.passed, result.reason) == (False, "no measurement")


@pytest.mark.parametrize("value", [10**400, -(10**400), math.inf, math.nan])
def test_limits_that_no_number_can_meet_are_refused(value: float) -> None:
    with pytest.raises(SpecError, match="expected a number"):
        parse({"metric": "ece", "max": value})


def test_the_size_of_a_policy_is_bounded() -> None:
    one = {"metric": "accuracy", "min": 0.5}
    with pytest.raises(SpecError, match=f"at most {MAX_REQUIREMENTS:,} requirements"):
        parse(*[one] * (MAX_REQUIREMENTS + 1))
    with pytest.raises(SpecError, match="name = 257 characters; expected at most 256"):
        parse(one, name="x" * 257)
    many = [row(model=f"m{number}", metric="accuracy") for number in range(30)]
    with pytest.raises(LimitExceededError, match="more than 20,000 results"):
        evaluate(parse(*[one] * MAX_REQUIREMENTS), many)


def test_of_very_many_defects_the_first_are_told() -> None:
    with pytest.raises(SpecError) as refused:
        parse({"metric": "accuracy", "min": 0.5} | {f"minn{number}" + "x" * 2000: 1 for number in range(5000)})
    assert len(refused.value.defects) == MAX_DEFECTS
    with pytest.raises(SpecError) as refused:
        parse(*[{"metric": "acuracy"}] * MAX_REQUIREMENTS)
    assert len(refused.value.defects) == MAX_DEFECTS


@pytest.mark.parametrize("field", ["name", "model"])
def test_names_that_no_reader_can_see_are_refused(field: str) -> None:
    one = {"metric": "accuracy", "min": 0.5}
    with pytest.raises(SpecError, match=f"{field} = U\\+001B"):
        parse(one, name="a\x1b[2J") if field == "name" else parse(one | {"model": "a\x1b[2J"})
