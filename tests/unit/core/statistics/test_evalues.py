import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.statistics.evalues import (
    ALARM_ERROR,
    drift_evidence,
    log_drift_evidence,
    log_evidence_arrays,
    log_rate_evidence,
    rate_evidence,
    two_sided_drift_evidence,
)


def integrated(events: int, n: int, limit: float) -> float:
    """The mixture as it is defined: the mean likelihood ratio over Jeffreys' prior above the limit."""

    def ratio(angle: float) -> float:
        # q = sin² of the angle makes the prior uniform.
        q = math.sin(angle) ** 2
        logs = (n - events) * math.log((1 - q) / (1 - limit)) if events < n else 0.0
        return math.exp(logs + (events * math.log(q / limit) if events else 0.0))

    least = math.asin(math.sqrt(limit))
    value, _ = scipy.integrate.quad(ratio, least, math.pi / 2 - 1e-12, limit=400)
    return float(value) / (math.pi / 2 - least)


@settings(max_examples=40)
@given(st.integers(0, 60), st.integers(0, 120), st.floats(0.01, 0.9))
def test_the_evidence_is_the_mean_likelihood_ratio(events: int, others: int, limit: float) -> None:
    n = events + others
    found = 10 ** float(log_evidence_arrays(events, n, limit))
    assert found == pytest.approx(integrated(events, n, limit), rel=1e-5)


@given(st.integers(0, 300), st.integers(0, 300))
def test_drift_is_the_half_of_the_mixture_above_a_half(worse: int, better: int) -> None:
    m = worse + better
    one = drift_evidence(worse, better)
    # Both halves, each with half of the prior, are the mixture of two sides.
    assert (one + drift_evidence(better, worse)) / 2 == pytest.approx(two_sided_drift_evidence(worse, better), rel=1e-8)
    if m < 500:
        logs = m * math.log(2) + scipy.special.betaln(worse + 0.5, better + 0.5) - math.log(math.pi)
        assert two_sided_drift_evidence(worse, better) == pytest.approx(math.exp(logs), rel=1e-9)


def test_drift_by_hand() -> None:
    # No change says nothing. One that is worse: 2 · ∫ q/√(q(1−q)) dq from ½ to 1, over π/2: 1 + 2/π.
    assert drift_evidence(0, 0) == pytest.approx(1)
    assert drift_evidence(1, 0) == pytest.approx(1 + 2 / math.pi)
    assert drift_evidence(0, 1) == pytest.approx(1 - 2 / math.pi)
    # 4 · B(2.5, 0.5)/π = 3/2 for two alike.
    assert two_sided_drift_evidence(2, 0) == pytest.approx(1.5)
    # Eight of eight are an alarm at 1 %, seven are none; eight coins alike have the chance 1/256.
    assert drift_evidence(7, 0) < 1 / ALARM_ERROR <= drift_evidence(8, 0) < 256


@pytest.mark.parametrize("limit", [0.5, 0.05])
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_its_expectation_never_rises_under_the_null(limit: float, part: float) -> None:
    p = limit * part
    for n, events in itertools.product(range(12), range(12)):
        if events <= n:
            now, worse, better = (
                10 ** float(log_evidence_arrays(x, m, limit))
                for x, m in ((events, n), (events + 1, n + 1), (events, n + 1))
            )
            mean = p * worse + (1 - p) * better
            assert mean <= now * (1 + 1e-9)
            if part == 1:
                assert mean == pytest.approx(now, rel=1e-9)


def ever(limit: float, p: float, nights: int, questions: int) -> float:
    """The exact chance that the evidence is ever 1/α, by following every number of events from night to night."""
    alive, crossed = np.array([1.0]), 0.0
    step = scipy.stats.binom.pmf(np.arange(questions + 1), questions, p)
    for night in range(1, nights + 1):
        alive = np.convolve(alive, step)
        alarm = log_evidence_arrays(np.arange(len(alive)), night * questions, limit) >= -math.log10(ALARM_ERROR)
        crossed += float(alive[alarm].sum())
        alive = alive[: int(np.count_nonzero(~alarm))]  # more events are more evidence
    return crossed


@pytest.mark.parametrize(("limit", "questions"), [(0.5, 1), (0.05, 50), (0.01, 20)])
def test_an_alarm_is_as_rare_as_stated_however_often_one_looks(limit: float, questions: int) -> None:
    assert 0 < ever(limit, limit, 300, questions) <= ALARM_ERROR
    assert ever(limit, 2 * limit if limit < 0.5 else 0.8, 300, questions) > 0.9


def test_small_tails_are_as_exact_as_others() -> None:
    # 10,000 without an event at a limit of 10 %: the tail of the beta distribution is 1e-458.
    exact = float(log_evidence_arrays(0, 10_000, 0.1))
    # ∫ q^(−½)(1−q)^(n−½) from L, by q = L + t: L^(−½)(1−L)^(n+½)·(1−L)/n to the first order, over the prior's mass.
    mass = math.pi - 2 * math.asin(math.sqrt(0.1))
    assert 10**exact == pytest.approx(0.9**0.5 / (10_000 * math.sqrt(0.1) * mass), rel=2e-3)
    path = log_evidence_arrays(np.zeros(200), np.arange(5800, 6000), 0.1)
    assert (np.diff(path) < 0).all()  # across the border between both ways of computing it
    assert np.abs(np.diff(path, 2)).max() < 1e-6


def test_blocks_are_summed_and_each_has_its_evidence() -> None:
    blocks = [(3, 50), (0, 50), (9, 50)]
    path = log_rate_evidence(blocks, 0.05)
    assert path.tolist() == log_evidence_arrays([3, 3, 12], [50, 100, 150], 0.05).tolist()
    assert rate_evidence(blocks, 0.05) == pytest.approx(10 ** path[-1])
    assert rate_evidence([], 0.05) == 1
    assert rate_evidence([(0, 0)], 0.05) == pytest.approx(1)


def test_limits_and_counts_at_the_ends() -> None:
    assert rate_evidence([(1, 50)], 0.0) == math.inf
    assert rate_evidence([(0, 50)], 0.0) < 1
    assert rate_evidence([(50, 50)], 1.0) == 1
    assert drift_evidence(5000, 0) == math.inf
    assert log_drift_evidence(5000, 0) == pytest.approx(
        5000 * math.log10(2) - math.log10(5000 * math.pi) / 2 + 0.301, abs=0.01
    )
    for blocks, limit in (([(3, 2)], 0.05), ([(-1, 2)], 0.05), ([(1, 2)], 1.5), ([(5, 10), (-1, 2)], 0.05)):
        with pytest.raises(ValueError, match=r"events|limit"):
            rate_evidence(blocks, limit)
    with pytest.raises(ValueError, match="counts"):
        two_sided_drift_evidence(-1, 3)
    with pytest.raises(ValueError, match="events"):
        drift_evidence(-1, 3)


@given(st.integers(1, 400), st.floats(0.01, 0.9))
def test_more_events_are_more_evidence(n: int, limit: float) -> None:
    assert (np.diff(log_evidence_arrays(np.arange(n + 1), n, limit)) > 0).all()
