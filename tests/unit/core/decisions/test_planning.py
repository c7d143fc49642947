from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from safescale.core.decisions.planning import (
    Design,
    PlannedRequirement,
    Sample,
    fewest_questions,
    pass_power,
    pivotal_events,
    plan_policy,
)
from safescale.core.decisions.policy import Limit, Policy, PolicyRequirement
from safescale.core.statistics.sample_size import size_for_limit

SHARES = {"high_risk_error_rate", "accuracy"}


def planned(requirement: PolicyRequirement, n: int = 200, **design: Any) -> list[PlannedRequirement]:
    made = Design(**({"sample": Sample(n), "shares": SHARES} | design))
    return list(plan_policy(Policy("p", "", (requirement,)), made))


@pytest.mark.parametrize(
    ("limit", "size"), [(0.05, 72), (0.02, 183), (0.01, 368), (0.001, 3688)]
)  # fmt: skip
def test_without_an_event_so_many_questions_are_needed(limit: float, size: int) -> None:
    assert fewest_questions(Limit("max", limit), 0.95) == size
    assert fewest_questions(Limit("min", 1 - limit), 0.95) == size


@given(st.integers(1, 250), st.integers(1, 99), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_pivotal_count_passes_and_the_next_does_not(n: int, hundredths: int, maximum: bool) -> None:
    limit = hundredths / 100
    demand = Limit("max" if maximum else "min", limit)

    def passes(events: int) -> bool:
        ends = binomtest(events, n).proportion_ci(0.95, "exact")
        return bool(ends.high <= limit if maximum else ends.low >= limit)

    pivotal = pivotal_events(demand, n, 0.95)
    if pivotal is None:
        assert not passes(0 if maximum else n)
    else:
        assert passes(pivotal)
        beyond = pivotal + 1 if maximum else pivotal - 1
        assert not 0 <= beyond <= n or not passes(beyond)


def test_what_cannot_be_decided_is_said() -> None:
    (found,) = planned(PolicyRequirement("high_risk_error_rate", Limit("max", 0.05)), 32)
    assert (found.decidable, found.pivotal_events, found.needed) == (False, None, 72)
    assert found.sentence == "32 questions cannot decide it, even without a single event: it takes 72 questions"
    (found,) = planned(PolicyRequirement("high_risk_error_rate", Limit("max", 0.05)), 200)
    assert (found.decidable, found.pivotal_events, found.needed) == (True, 3, 72)
    assert found.sentence == "passes with at most 3 of 200 (1.5 %)"
    (found,) = planned(PolicyRequirement("accuracy", Limit("min", 0.9)), 200)
    assert (found.decidable, found.pivotal_events, found.needed) == (True, 189, 36)


@pytest.mark.parametrize("demand", [Limit("max", 0.0), Limit("min", 1.0)])
def test_certainty_is_shown_by_no_number(demand: Limit) -> None:
    (found,) = planned(PolicyRequirement("accuracy", demand), 10_000)
    assert (found.decidable, found.needed) == (False, 0)
    assert found.sentence.startswith("no number of questions can show")


def test_of_clusters_each_has_one_voice() -> None:
    requirement = PolicyRequirement("high_risk_error_rate", Limit("max", 0.05))
    (few,) = planned(requirement, sample=Sample(400, 40))
    assert (few.decidable, few.needed) == (False, 72)
    assert "400 questions in 40 clusters cannot decide it" in few.sentence
    (many,) = planned(requirement, sample=Sample(400, 80))
    assert (many.decidable, many.pivotal_events) == (True, None)


def test_each_value_of_a_slice_has_its_row() -> None:
    requirement = PolicyRequirement("high_risk_error_rate", Limit("max", 0.05), slice="subspecialty", min_n=20)
    sizes = {"subspecialty": {"thoracic": Sample(100), "neuro": Sample(12), "breast": Sample(30)}}
    found = planned(requirement, slices=sizes)
    assert [(each.slice_value, each.n, each.decidable, each.needed) for each in found] == [
        ("thoracic", 100, True, 72), ("neuro", 12, False, 72), ("breast", 30, False, 72),
    ]  # fmt: skip
    assert "fewer than the 20" in found[1].sentence
    (none,) = planned(requirement, slices={})
    assert (none.decidable, none.sentence) == (
        False,
        "the questions have no subspecialty, so there is nothing to measure",
    )


@pytest.mark.parametrize("field", ["model", "condition", "regime"])
def test_what_the_run_does_not_ask_is_said(field: str) -> None:
    requirement = PolicyRequirement("accuracy", Limit("min", 0.9), **{field: "other"})  # type: ignore[arg-type]
    (found,) = planned(requirement, **{f"{field}s": ["this"]})
    assert (found.decidable, found.needed) == (False, 0)
    assert found.sentence == f"the run does not have the {field} other, so this fails as not measured"
    assert planned(requirement)[0].decidable


def test_what_is_decided_without_evidence_is_said() -> None:
    (found,) = planned(PolicyRequirement("high_risk_error_rate", Limit("max", 0.05, "estimate")), 1)
    assert found.decidable
    assert "none is evidence" in found.sentence
    (found,) = planned(PolicyRequirement("high_risk_error_rate", Limit("max", 0.05, "ci_low")), 1)
    assert found.sentence.endswith("no evidence")
    (found,) = planned(PolicyRequirement("ece", Limit("max", 0.05)), 100)
    assert (found.decidable, found.pivotal_events) == (True, None)


def test_how_questions_fall_into_slices_may_be_unknown() -> None:
    requirement = PolicyRequirement("high_risk_error_rate", Limit("max", 0.05), slice="ward")
    (enough,) = planned(requirement, 200)
    assert (enough.decidable, enough.pivotal_events) == (True, None)
    assert enough.sentence == "how they fall into ward is not known here: at least 72 questions each"
    (few,) = planned(requirement, 50)
    assert not few.decidable
    assert few.sentence.startswith("50 questions cannot decide it")


@pytest.mark.parametrize(
    ("demand", "rate"), [(Limit("max", 0.05), 0.01), (Limit("max", 0.05), 0.0), (Limit("min", 0.9), 0.95)]
)
def test_the_size_for_a_limit_has_the_power_that_was_asked_for(demand: Limit, rate: float) -> None:
    size = size_for_limit(demand.value, rate, demand.direction)
    assert size is not None
    assert all(pass_power(demand, n, rate, 0.95) >= 0.8 for n in range(size, size + 40))
    assert pass_power(demand, size - 1, rate, 0.95) < 0.8
    assert pass_power(demand, 10, rate, 0.95) == 0
