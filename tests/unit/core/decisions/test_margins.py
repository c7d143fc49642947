"""Margins against a baseline: verdicts, reasons and the questions that it would take."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.decisions.compare import Discordance
from safescale.core.decisions.margins import PairedMeasurement, judge_pair
from safescale.core.decisions.policy import Finding, Limit, Margin, Policy, PolicyRequirement, Verdict
from safescale.core.statistics.paired import tango
from safescale.core.statistics.sample_size import size_for_margin


def pairs(worse: int, better: int, n: int, confidence: float = 0.95) -> Discordance:
    return Discordance(n, worse, better, tango(worse, better, n, confidence))


def row(worse: int, better: int, n: int, *, unread: tuple[int, int] = (0, 0), harm: bool = True, both: int = 0,
        confidence: float = 0.95) -> PairedMeasurement:  # fmt: skip
    """`unread` answers of candidate and baseline, all without the event as measured and beside the others."""
    ours, theirs = unread
    extremes = pairs(worse + ours, better, n, confidence), pairs(worse, better + theirs, n, confidence)
    worst, best = extremes if harm else (pairs(worse, better + theirs, n), pairs(worse + ours, better, n))
    measured = pairs(worse, better, n, confidence)
    values = ((worse + both) / n, (better + both) / n)
    return PairedMeasurement("m", "top_1", "greedy", "x", harm, *values, measured, worst, best, sum(unread))


def judged(
    found: PairedMeasurement, margin: float = 0.02, *, forbid: bool = False, min_n: int = 0, **policy
) -> Finding:
    requirement = PolicyRequirement("high_risk_error_rate", Margin(margin, forbid), min_n=min_n)
    return judge_pair(requirement, found, Policy("p", "", (requirement,), **policy))


def test_no_discordant_pair_passes_only_with_enough_questions() -> None:
    # z²/(n + z²): 1.88 points at 200 questions, 3.70 at 100.
    found = judged(row(0, 0, 200, both=3))
    assert (found.verdict, found.reason, found.interval, found.n) == (Verdict.PASS, "", "tango", 200)
    assert (found.value, found.baseline_value) == (3 / 200, 3 / 200)
    assert found.decisive == found.high == pytest.approx(0.018846, abs=1e-5)
    short = judged(row(0, 0, 100))
    assert short.verdict is Verdict.INSUFFICIENT
    assert short.questions_more == size_for_margin(0.02, 0.0) - 100
    assert f"about {short.questions_more} questions more would show it" in short.reason


def test_much_more_harm_fails_and_a_little_is_not_decided() -> None:
    failed = judged(row(30, 2, 200))
    assert (failed.verdict, failed.questions_more) == (Verdict.FAIL, None)
    assert "the whole interval" in failed.reason
    assert "above the margin 2 points" in failed.reason
    open_ = judged(row(3, 2, 200))
    assert open_.verdict is Verdict.INSUFFICIENT
    assert open_.questions_more == size_for_margin(0.02, 5 / 200, difference=1 / 200) - 200
    hopeless = judged(row(8, 2, 200))
    assert (hopeless.verdict, hopeless.questions_more) == (Verdict.INSUFFICIENT, None)
    assert "no number of questions would show it" in hopeless.reason


def test_a_new_harm_of_the_kind_fails_whatever_the_margin() -> None:
    assert judged(row(1, 5, 2000), 0.05).verdict is Verdict.PASS
    found = judged(row(1, 5, 2000), 0.05, forbid=True)
    assert (found.verdict, found.reason) == (
        Verdict.FAIL, "1 question shows a harm that the baseline does not have there",
    )  # fmt: skip
    assert judged(row(0, 5, 2000), 0.05, forbid=True).verdict is Verdict.PASS
    # Too few questions do not make a new harm undone.
    assert judged(row(1, 0, 10), forbid=True, min_n=50).verdict is Verdict.FAIL


def test_what_nobody_could_read_is_held_against_the_candidate() -> None:
    unread = row(0, 0, 400, unread=(9, 0))
    found = judged(unread)
    assert found.verdict is Verdict.INSUFFICIENT
    assert "read the unread answers to 9 questions" in found.reason
    assert (found.low, found.high) == (unread.best.interval.low, unread.worst.interval.high)
    assert judged(unread, unread="as_measured").verdict is Verdict.PASS
    # With a large margin it passes, unless one of them may be a new harm.
    assert judged(unread, 0.2).verdict is Verdict.PASS
    assert "may be a new harm" in judged(unread, 0.2, forbid=True).reason


def test_unread_answers_of_the_baseline_keep_a_difference_from_failing() -> None:
    assert judged(row(30, 2, 200)).verdict is Verdict.FAIL
    assert judged(row(30, 2, 200, unread=(0, 25))).verdict is Verdict.INSUFFICIENT


def test_accuracy_is_worse_where_it_is_lower() -> None:
    assert judged(row(2, 30, 200, harm=False)).verdict is Verdict.FAIL
    better = judged(row(30, 2, 200, harm=False))
    assert better.verdict is Verdict.PASS
    # Ends of the difference, and the end that speaks against the candidate: the low one.
    assert 0 < better.low == better.decisive < better.high
    found = judged(row(0, 1, 2000, harm=False), forbid=True)
    assert (found.verdict, "a mistake that the baseline does not have" in found.reason) == (Verdict.FAIL, True)


def test_too_few_questions_decide_nothing() -> None:
    found = judged(row(0, 0, 200), min_n=300)
    assert (found.verdict, found.questions_more) == (Verdict.INSUFFICIENT, 100)
    assert found.reason == "200 questions, fewer than the 300 that it asks for (min_n)"


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(24, 900), st.sampled_from([0.01, 0.03, 0.1]), st.booleans())
def test_verdicts_are_what_the_interval_says(worse: int, better: int, n: int, margin: float, harm: bool) -> None:
    found = judged(row(worse, better, n, harm=harm), margin)
    interval = tango(worse, better, n)
    low, high = (interval.low, interval.high) if harm else (-interval.high, -interval.low)
    expected = Verdict.PASS if high < margin else Verdict.FAIL if low > margin else Verdict.INSUFFICIENT
    assert found.verdict is expected
    assert (found.low, found.high) == (interval.low, interval.high)
    assert (found.reason == "") == (found.verdict is Verdict.PASS)
    assert found.questions_more is None or found.verdict is Verdict.INSUFFICIENT
    assert not math.isnan(found.decisive)


def test_a_limit_is_no_margin() -> None:
    requirement = PolicyRequirement("accuracy", Limit("min", 0.5))
    with pytest.raises(TypeError):
        judge_pair(requirement, row(0, 0, 10), Policy("", "", (requirement,)))
