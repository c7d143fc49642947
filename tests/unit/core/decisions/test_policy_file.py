import math
from datetime import date
from typing import Any

import pytest

from safescale.core.decisions.policy import Limit, Margin, Policy, PolicyRequirement
from safescale.core.decisions.policy_file import MAX_DEFECTS, MAX_MIN_N, MAX_REQUIREMENTS, parse_policy
from safescale.core.errors import SpecError

METRICS = ("accuracy", "high_risk_error_rate", "latency_mean_s", "ece")


def parse(*requirements: Any, **more: Any) -> Policy:
    return parse_policy({"requirements": list(requirements)} | more, "policy.yaml", METRICS)


def test_a_policy_is_read_with_its_defaults() -> None:
    policy = parse({"metric": "accuracy", "min": 0.9}, name="ward", description="for the ward")
    requirement = PolicyRequirement("accuracy", Limit("min", 0.9, "worst"), "*", "*", "*", "", 0)
    assert policy == Policy("ward", "for the ward", (requirement,), 0.95, "worst_case")


def test_everything_that_a_policy_can_say_is_read() -> None:
    policy = parse(
        {
            "metric": "high_risk_error_rate", "max": 0.05, "condition": "top_10", "model": "m1", "regime": "majority",
            "bound": "ci_low", "slice": " subspecialty ", "min_n": 30,
        },
        confidence=0.9, unread="as_measured",
    )  # fmt: skip
    limit = Limit("max", 0.05, "ci_low")
    assert policy.requirements == (
        PolicyRequirement("high_risk_error_rate", limit, "top_10", "m1", "majority", "subspecialty", 30),
    )
    assert (policy.confidence, policy.unread) == (0.9, "as_measured")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("confidence", 95, "confidence = 95; expected a number above 0.5 and below 1, such as 0.95"),
        ("confidence", 1, "confidence = 1; expected a number above 0.5"),
        ("confidence", 0.5, "confidence = 0.5; expected a number above 0.5"),
        ("confidence", True, "confidence = true; expected a number above 0.5"),
        ("confidence", math.nan, "confidence = NaN; expected a number above 0.5"),
        ("confidence", "0.95", 'confidence = "0.95"; expected a number above 0.5'),
        ("unread", "ignored", 'unread = "ignored"; expected one of worst_case, as_measured'),
        ("unread", None, "unread = null; expected one of worst_case, as_measured"),
    ],
)
def test_wrong_terms_of_a_policy_are_named(field: str, value: Any, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse({"metric": "ece", "max": 0.1}, **{field: value})
    (defect,) = caught.value.defects
    assert str(defect).startswith(f"policy.yaml: {expected}")


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
        ({"metric": "ece", "max": 0.1, "slice": ""}, 'slice = ""; expected subspecialty, question_type or a group'),
        ({"metric": "ece", "max": 0.1, "slice": "a\x1b[2J"}, "slice = U+001B at character 2"),
        (
            {"metric": "ece", "max": 0.1, "min_n": 0},
            f"min_n = 0; expected a number of questions from 1 to {MAX_MIN_N:,}",
        ),
        ({"metric": "ece", "max": 0.1, "min_n": 30.0}, "min_n = 30.0; expected a number of questions"),
        ({"metric": "ece", "max": 0.1, "min_n": True}, "min_n = true; expected a number of questions"),
        ({"metric": "ece", "max": 0.1, "min_n": None}, "min_n = null; expected a number of questions"),
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
    assert parse({"metric": "latency_mean_s", "max": 30}).requirements[0].demand.value == 30


@pytest.mark.parametrize("value", [10**400, -(10**400), math.inf, math.nan])
def test_limits_that_no_number_can_meet_are_refused(value: float) -> None:
    with pytest.raises(SpecError, match="expected a number"):
        parse({"metric": "ece", "max": value})


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


def test_the_size_of_a_policy_is_bounded() -> None:
    one = {"metric": "accuracy", "min": 0.5}
    with pytest.raises(SpecError, match=f"at most {MAX_REQUIREMENTS:,} requirements"):
        parse(*[one] * (MAX_REQUIREMENTS + 1))
    with pytest.raises(SpecError, match="name = 257 characters; expected at most 256"):
        parse(one, name="x" * 257)


def test_a_margin_against_a_baseline_is_read() -> None:
    paired = {"metric": "high_risk_error_rate", "against": "baseline", "margin": 0.02}
    policy = parse(paired, {**paired, "forbid": "any new", "regime": "majority", "min_n": 200})
    first, second = policy.requirements
    assert first == PolicyRequirement("high_risk_error_rate", Margin(0.02))
    assert (second.demand, second.regime, second.min_n) == (Margin(0.02, forbid_new=True), "majority", 200)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"margin": 0}, "margin = 0; expected a number above 0 and below 1, such as 0.02 for 2 points"),
        ({"margin": 2}, "margin = 2; expected a number above 0 and below 1"),
        ({"margin": "2 %"}, 'margin = "2 %"; expected a number above 0'),
        ({"against": "yesterday"}, "against = \"yesterday\"; expected 'baseline'"),
        ({"forbid": "all"}, "forbid = \"all\"; expected 'any new'"),
        ({"forbid": "any"}, "forbid = \"any\"; expected 'any new'"),
        ({"max": 0.05}, "max = an unknown key; expected one of metric, condition, model, regime, against"),
        ({"slice": "subspecialty"}, "slice = an unknown key"),
        ({"regime": "samples"}, 'regime = "samples"; expected one of greedy, majority'),
        ({"metric": "ece"}, 'metric = "ece"; expected one of accuracy, contradiction_rate'),
    ],
)
def test_a_margin_that_cannot_be_is_told(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpecError) as error:
        parse({"metric": "accuracy", "against": "baseline", "margin": 0.02, **changes})
    assert any(expected in str(defect) for defect in error.value.defects), error.value.defects


def test_a_margin_is_not_left_out() -> None:
    with pytest.raises(SpecError, match="margin = missing"):
        parse({"metric": "accuracy", "against": "baseline"})
