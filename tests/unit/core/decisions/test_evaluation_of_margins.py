"""A policy with limits and margins on a run and its comparison with a baseline; and what such a policy can decide."""

import pytest

from safescale.core.decisions.compare import Discordance
from safescale.core.decisions.evaluation import Comparisons, evaluate
from safescale.core.decisions.margins import PairedMeasurement
from safescale.core.decisions.planning import Design, Sample, plan_policy
from safescale.core.decisions.policy import (
    Limit,
    Margin,
    Measurement,
    Policy,
    PolicyRequirement,
    Scope,
    Verdict,
    overall,
)
from safescale.core.statistics.intervals import ShareCount
from safescale.core.statistics.paired import tango

LIMIT = PolicyRequirement("accuracy", Limit("min", 0.5))
MARGIN = PolicyRequirement("high_risk_error_rate", Margin(0.03))
POLICY = Policy("ward", "", (LIMIT, MARGIN))
SCOPE = Scope(["m"], ["zero_shot", "top_1"])


def measured(condition: str) -> Measurement:
    return Measurement("m", condition, "greedy", "accuracy", 0.9, 0.85, 0.95, 200, ShareCount(180, 200))


def paired(condition: str, worse: int = 0) -> PairedMeasurement:
    pairs = Discordance(400, worse, 0, tango(worse, 0, 400))
    return PairedMeasurement("m", condition, "greedy", "high_risk_error_rate", True, 0.1, 0.1, pairs, pairs, pairs, 0)


def test_limits_are_judged_by_measurements_and_margins_by_comparisons() -> None:
    rows = [measured("zero_shot"), measured("top_1")]
    pairs = Comparisons([paired("zero_shot"), paired("top_1", 40)])
    found = evaluate(POLICY, rows, SCOPE, pairs)
    assert [(one.requirement, one.place.condition, one.verdict) for one in found] == [
        (LIMIT, "zero_shot", Verdict.PASS), (LIMIT, "top_1", Verdict.PASS),
        (MARGIN, "zero_shot", Verdict.PASS), (MARGIN, "top_1", Verdict.FAIL),
    ]  # fmt: skip
    assert overall(one.verdict for one in found) is Verdict.FAIL


def test_a_condition_that_was_not_compared_fails() -> None:
    found = evaluate(POLICY, [measured("zero_shot"), measured("top_1")], SCOPE, Comparisons([paired("zero_shot")]))
    last = found[-1]
    assert (last.place.condition, last.verdict) == ("top_1", Verdict.FAIL)
    assert last.finding.reason == (
        "no comparison with the baseline: the two runs have no high_risk_error_rate of m under top_1"
    )


def test_without_a_baseline_a_margin_fails_and_says_why() -> None:
    found = evaluate(POLICY, [measured("zero_shot")], Scope(["m"], ["zero_shot"]), Comparisons((), "there is none"))
    assert [one.finding.reason for one in found] == ["", "no comparison: there is none"]
    assert "no baseline was named" in evaluate(POLICY, [measured("top_1")])[-1].finding.reason


@pytest.mark.parametrize(("questions", "clusters", "able"), [(124, 0, False), (125, 0, True), (500, 50, False)])
def test_what_a_margin_takes_is_planned(questions: int, clusters: int, able: bool) -> None:
    design = Design(Sample(questions, clusters), frozenset())
    (planned,) = plan_policy(Policy("", "", (MARGIN,)), design)
    assert (planned.decidable, planned.needed) == (able, 125)
    assert ("cannot show a margin of 3 points" in planned.sentence) != able
