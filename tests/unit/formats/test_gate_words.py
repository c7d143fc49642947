from typing import Any

import pytest

from safescale.formats.gate_words import counted, decides, demand, demand_shown, interval, number, place, summary
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

PASS, FAIL, INSUFFICIENT = pb.POLICY_VERDICT_PASS, pb.POLICY_VERDICT_FAIL, pb.POLICY_VERDICT_INSUFFICIENT


def result(verdict: int = INSUFFICIENT, **changes: Any) -> pb.RequirementResult:
    fields: dict[str, Any] = {
        "metric": "high_risk_error_rate", "model": "m", "condition": "c", "regime": "greedy", "direction": "max",
        "limit": 0.05, "verdict": verdict, "passed": verdict == PASS, "bound": "ci_high",
    }  # fmt: skip
    return pb.RequirementResult(**(fields | changes))


def said(verdict: int, *results: pb.RequirementResult) -> str:
    return summary(pb.EvaluatePolicyResponse(results=results, verdict=verdict, passed=verdict == PASS))


def test_the_last_line_says_the_verdict_and_what_would_decide_it() -> None:
    assert said(PASS, result(PASS)) == "PASS: the requirement holds."
    assert said(PASS, result(PASS), result(PASS)) == "PASS: all 2 requirements hold."
    assert said(FAIL, result(FAIL), result(PASS)) == "FAIL: 1 of 2 requirements does not hold."
    assert said(FAIL, result(FAIL), result(FAIL), result()) == (
        "FAIL: 2 of 3 requirements do not hold, 1 more not decided."
    )
    few, more = result(questions_more=40), result(questions_more=1200)
    assert said(INSUFFICIENT, few, more, result(PASS)) == (
        "INSUFFICIENT: 2 of 3 requirements are not decided, none fails. About 1,200 questions more would do, with a "
        "power of 80 % if the estimates are true."
    )
    assert "For 2 of them about 1,200 questions more would do" in said(INSUFFICIENT, few, more, result())
    assert said(INSUFFICIENT, result(n_unread=3)).endswith("Read the unread answers (`safescale reviews list`).")
    assert said(INSUFFICIENT, result()).endswith("For 1 of them no number of questions would do.")
    assert said(INSUFFICIENT, result(interval="bootstrap"), result()).endswith(
        "For 1 of them no number of questions would do. For 1 of them, decided by a bootstrap, see the reason."
    )


def test_a_service_that_knew_two_verdicts_says_pass_or_fail() -> None:
    old = [result(pb.POLICY_VERDICT_UNSPECIFIED, passed=True), result(pb.POLICY_VERDICT_UNSPECIFIED)]
    assert summary(pb.EvaluatePolicyResponse(results=old)) == "FAIL: 1 of 2 requirements does not hold."
    # A verdict that contradicts the flag beside it passes nothing.
    assert summary(pb.EvaluatePolicyResponse(results=[result(PASS, passed=False)], verdict=PASS)).startswith("FAIL")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"low": 0.0, "high": 0.1089, "value": 0.0}, ("0–10.9 %", "0 %", "high end")),
        ({"bound": "estimate", "value": 0.125}, ("–", "12.5 %", "estimate only")),
        ({"metric": "latency_mean_s", "low": 1.25, "high": 3.0, "value": 2.0}, ("1.25–3 s", "2 s", "high end")),
        ({"model": "", "metric": "failed_cells", "value": 2.0, "bound": "estimate"}, ("–", "2", "count")),
    ],
)
def test_numbers_are_shown_for_a_reader(changes: dict[str, Any], shown: tuple[str, str, str]) -> None:
    one = result(**changes)
    assert (interval(one), number(one, "value"), decides(one)) == shown


def test_a_requirement_against_a_baseline_is_shown_in_points() -> None:
    one = result(
        direction="baseline", limit=0.02, margin=0.02, bound="worst", value=0.06, baseline_value=0.05, low=-0.0143,
        high=0.0381, decisive=0.0381, interval="tango", n=200,
    )  # fmt: skip
    assert demand(one) == "high_risk_error_rate worse than baseline by < 0.02"
    assert demand_shown(one) == "high_risk_error_rate worse than baseline by less than 2 points"
    assert number(one, "value") == "5 → 6 %"
    assert interval(one) == "[\u22121.4, +3.8]"
    assert (decides(one), counted(one)) == ("high end", "200 questions, interval of the difference")


def test_what_is_demanded_and_where() -> None:
    one = result(slice="ward", slice_value="A", n=1, n_unread=1, interval="korn_graubard")
    assert demand_shown(one) == "high_risk_error_rate ≤ 5 %"
    assert place(one) == "m / c / greedy / ward A"
    assert counted(one) == "1 question, 1 unread, exact interval of clusters"
    assert counted(result()) == ""
