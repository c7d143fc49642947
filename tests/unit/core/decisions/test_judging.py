import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from safescale.core.decisions.judging import judge
from safescale.core.decisions.policy import Bound, Finding, Limit, Measurement, Policy, PolicyRequirement, Verdict
from safescale.core.statistics.intervals import ShareCount, share_count

HARM = "high_risk_error_rate"
PASS, FAIL, INSUFFICIENT = Verdict


def share(events: int, n: int, unread: int = 0, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "metric": HARM, "value": events / n, "ci_low": 0.0, "ci_high": 0.0, "n": n, "measured": ShareCount(events, n),
        "worst_case": ShareCount(min(n, events + unread), n), "n_unread": unread,
    }  # fmt: skip
    return Measurement("m1", "top_10", "greedy", **(fields | changes))


def mean(value: float, low: float, high: float, n: int = 40, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {"metric": "ece", "value": value, "ci_low": low, "ci_high": high, "n": n}
    return Measurement("m1", "top_10", "greedy", **(fields | changes))


def judged(row: Measurement, demand: Limit, min_n: int = 0, **terms: Any) -> Finding:
    return judge(PolicyRequirement(row.metric, demand, min_n=min_n), row, Policy("p", "", (), **terms))


def test_no_event_among_few_questions_shows_nothing_though_the_bootstrap_has_no_width() -> None:
    found = judged(share(0, 32), Limit("max", 0.05))
    assert (found.verdict, found.low, found.decisive) == (INSUFFICIENT, 0.0, found.high)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 32))
    assert found.interval == "clopper_pearson"
    assert found.questions_more == 72 - 32
    assert found.reason == (
        "the high end 10.9 % is above the maximum 5 %; about 40 questions more would do if the estimate were true"
    )


@pytest.mark.parametrize(
    ("events", "n", "limit", "verdict"),
    [
        (0, 71, 0.05, INSUFFICIENT),
        (0, 72, 0.05, PASS),
        (10, 100, 0.05, INSUFFICIENT),
        (12, 100, 0.05, FAIL),
        (0, 10, 0.0, INSUFFICIENT),
        (1, 10, 0.0, FAIL),
        (10, 10, 1.0, PASS),
    ],
)
def test_a_maximum_is_decided_by_the_exact_interval(events: int, n: int, limit: float, verdict: Verdict) -> None:
    found = judged(share(events, n), Limit("max", limit))
    assert found.verdict is verdict
    assert bool(found.reason) == (verdict is not PASS)


@given(st.integers(1, 300), st.data())
@settings(max_examples=40, deadline=None)
def test_the_verdict_is_that_of_the_interval_and_a_minimum_mirrors_a_maximum(n: int, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, n))
    limit = data.draw(st.integers(1, 99)) / 100
    ends = binomtest(events, n).proportion_ci(0.95, "exact")
    expected = PASS if ends.high <= limit else FAIL if ends.low > limit else INSUFFICIENT
    assert judged(share(events, n), Limit("max", limit)).verdict is expected
    mirrored = share(n - events, n, metric="accuracy", worst_case=None)
    if min(abs(ends.high - limit), abs(ends.low - limit)) > 1e-9:
        assert judged(mirrored, Limit("min", 1 - limit)).verdict is expected


def test_a_model_at_the_limit_passes_in_at_most_one_of_forty_runs() -> None:
    for n in (20, 32, 100, 200):
        passing = [judged(share(events, n), Limit("max", 0.05)).verdict is PASS for events in range(n + 1)]
        assert binom.pmf(np.arange(n + 1), n, 0.05)[passing].sum() <= 0.025


def test_more_confidence_asks_for_more_questions() -> None:
    assert judged(share(0, 72), Limit("max", 0.05)).verdict is PASS
    strict = judged(share(0, 72), Limit("max", 0.05), confidence=0.99)
    assert (strict.verdict, strict.questions_more) == (INSUFFICIENT, 104 - 72)


def test_a_rate_beyond_the_limit_is_shown_by_no_number_of_questions() -> None:
    found = judged(share(3, 32), Limit("max", 0.05))
    assert (found.verdict, found.questions_more) == (INSUFFICIENT, None)
    assert "no number of questions would do if the estimate were true" in found.reason


def test_unread_answers_count_as_harm() -> None:
    found = judged(share(0, 100, unread=90), Limit("max", 0.05))
    assert (found.verdict, found.low, found.n_unread, found.questions_more) == (INSUFFICIENT, 0.0, 90, None)
    assert found.high > 0.9
    assert found.reason.endswith(
        "with each unread answer counted as harm; read the unread answers to 90 questions (`safescale reviews list`)"
    )
    assert judged(share(0, 100, unread=90), Limit("max", 0.05), unread="as_measured").verdict is PASS


def test_unread_answers_are_no_proof_of_harm() -> None:
    assert judged(share(1, 100, unread=40), Limit("max", 0.05)).verdict is INSUFFICIENT
    assert judged(share(20, 100, unread=40), Limit("max", 0.05)).verdict is FAIL


def test_with_unread_answers_and_too_few_questions_both_are_said() -> None:
    found = judged(share(0, 32, unread=2), Limit("max", 0.05))
    assert found.questions_more == 40
    assert found.reason.endswith("if the estimate were true; read the unread answers to 2 questions "
                                 "(`safescale reviews list`) too")  # fmt: skip


def test_an_estimate_passes_only_if_it_holds_with_every_unread_answer() -> None:
    limit = Limit("max", 0.1, "estimate")
    assert judged(share(1, 20), limit).verdict is PASS
    assert judged(share(1, 20, unread=1), limit).verdict is PASS
    undecided = judged(share(1, 20, unread=2), limit)
    assert (undecided.verdict, undecided.decisive) == (INSUFFICIENT, 0.15)
    assert undecided.reason.startswith("the estimate is 5 %, and 15 % if each unread answer counts; read the unread")
    assert judged(share(1, 20, unread=2), limit, unread="as_measured").verdict is PASS
    assert judged(share(3, 20), limit).reason == "the estimate 15 % is above the maximum 10 %"


@pytest.mark.parametrize(
    ("bound", "limit", "verdict"),
    [
        ("worst", 0.1, INSUFFICIENT),
        ("ci_high", 0.1, INSUFFICIENT),
        ("ci_high", 0.14, PASS),
        ("ci_low", 0.01, PASS),
        ("ci_low", 0.004, FAIL),
        ("estimate", 0.05, PASS),
        ("estimate", 0.03, FAIL),
    ],
)
def test_the_bound_says_which_number_decides(bound: Bound, limit: float, verdict: Verdict) -> None:
    # 2 of 50: 0.49 % to 13.7 %.
    assert judged(share(2, 50), Limit("max", limit, bound)).verdict is verdict


def test_clusters_widen_the_interval_and_the_questions_needed() -> None:
    alone = judged(share(0, 72), Limit("max", 0.05))
    count = ShareCount(0, 72, clusters=12, n_effective=12.0)
    clustered = judged(share(0, 72, measured=count, worst_case=count), Limit("max", 0.05))
    assert (alone.verdict, clustered.verdict, clustered.interval) == (PASS, INSUFFICIENT, "korn_graubard")
    # Each cluster speaks with one voice: 72 clusters of six questions each.
    assert clustered.questions_more == 72 * 6 - 72


def test_clusters_that_hold_an_event_need_as_many_more_as_those_that_hold_none() -> None:
    # Korn and Graubard would do with few more, but clusters without any event do not pass before there are 72 of them.
    flags, clusters = np.arange(200) == 0, np.repeat(np.arange(10), 20)
    count = share_count(flags, clusters)
    found = judged(share(1, 200, measured=count, worst_case=count), Limit("max", 0.05))
    assert found.verdict is INSUFFICIENT
    assert found.questions_more == 72 * 20 - 200


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.01, 0.05, PASS), (0.01, 0.06, INSUFFICIENT), (0.051, 0.06, FAIL)]
)
def test_a_mean_is_decided_by_its_bootstrap(low: float, high: float, verdict: Verdict) -> None:
    found = judged(mean(0.04, low, high), Limit("max", 0.05))
    assert (found.verdict, found.interval) == (verdict, "bootstrap")


def test_a_mean_says_how_many_questions_more_it_takes() -> None:
    # Standard error 0.01 at n = 40, distance 0.01: (1.96 + 0.84)² times as many.
    found = judged(mean(0.04, 0.04 - 0.0196, 0.04 + 0.0196), Limit("max", 0.05))
    assert found.questions_more == pytest.approx(40 * 7.849 - 40, abs=1)
    assert judged(mean(0.06, 0.04, 0.08), Limit("max", 0.05)).questions_more is None


def test_a_bootstrap_is_no_interval_of_a_higher_confidence() -> None:
    found = judged(mean(0.01, 0.01, 0.02), Limit("max", 0.05), confidence=0.99)
    assert found.verdict is INSUFFICIENT
    assert "a bootstrap interval of 0.95 alone" in found.reason
    assert judged(mean(0.01, 0.01, 0.02), Limit("max", 0.05), confidence=0.9).verdict is PASS
    assert judged(mean(0.01, 0.01, 0.02), Limit("max", 0.05, "estimate"), confidence=0.99).verdict is PASS


@pytest.mark.parametrize("value", [0.0, 0.04])
def test_a_bootstrap_without_any_spread_shows_no_mean_to_be_within_its_limit(value: float) -> None:
    found = judged(mean(value, value, value * (1 + 1e-15)), Limit("max", 0.05))
    assert (found.verdict, found.questions_more) == (INSUFFICIENT, None)
    assert "knows no spread" in found.reason
    assert judged(mean(value, value, value), Limit("max", 0.05, "ci_high")).verdict is INSUFFICIENT
    assert judged(mean(value, value, value), Limit("max", 0.05, "estimate")).verdict is PASS
    assert judged(mean(0.06, 0.06, 0.06), Limit("max", 0.05)).verdict is FAIL


@pytest.mark.parametrize("bound", ["worst", "estimate"])
def test_a_mean_over_unread_answers_decides_nothing(bound: Bound) -> None:
    found = judged(mean(0.01, 0.01, 0.02, n_unread=1), Limit("max", 0.05, bound))
    assert found.verdict is INSUFFICIENT
    assert found.reason.startswith("nobody could read all answers to 1 question, and no bound says how they would")
    assert judged(mean(0.01, 0.01, 0.02, n_unread=1), Limit("max", 0.05, bound), unread="as_measured").verdict is PASS
    seconds = mean(1.0, 0.9, 1.1, n_unread=1, metric="latency_mean_s")
    assert judged(seconds, Limit("max", 5.0, bound)).verdict is PASS


@pytest.mark.parametrize("direction", ["max", "min"])
def test_nan_never_passes(direction: Any) -> None:
    demand = Limit(direction, 1.0 if direction == "max" else 0.0)
    unmeasured = judged(mean(math.nan, math.nan, math.nan), demand)
    assert (unmeasured.verdict, unmeasured.reason) == (FAIL, "no measurement: the value is not a number")
    no_interval = judged(mean(0.5, math.nan, math.nan), demand)
    assert (no_interval.verdict, no_interval.reason) == (INSUFFICIENT, "ece has no interval here")
    assert judged(share(0, 1, value=math.nan, measured=ShareCount(0, 0)), demand).verdict is FAIL


def test_too_few_questions_decide_nothing_whatever_they_say() -> None:
    # As many as are asked for, and as many as show it.
    for events, limit, more in ((0, 0.5, 20), (0, 0.05, 72 - 10), (10, 0.5, None)):
        found = judged(share(events, 10), Limit("max", limit), min_n=30)
        assert (found.verdict, found.questions_more) == (INSUFFICIENT, more)
    assert judged(share(0, 10), Limit("max", 0.5, "estimate"), min_n=30).questions_more == 20
    assert judged(mean(0.01, math.nan, math.nan, n=10), Limit("max", 0.5), min_n=30).questions_more is None
    assert judged(share(0, 30), Limit("max", 0.5), min_n=30).verdict is PASS


def test_numbers_in_a_reason_are_told_apart() -> None:
    found = judged(mean(0.05, 0.0500001, 0.06), Limit("max", 0.05))
    assert found.reason == "the whole interval 5.00001–6 % is above the maximum 5 %"
