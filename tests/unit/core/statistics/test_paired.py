import math
from statistics import NormalDist

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.statistics.paired import score, tango, tango_arrays


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, int, int]:
    worse, better = draw(st.integers(0, 60)), draw(st.integers(0, 60))
    return worse, better, worse + better + draw(st.integers(0, 300))


@pytest.mark.parametrize(
    ("worse", "better", "n", "confidence", "low", "high"),
    [
        (9, 3, 32, 0.95, -0.027, 0.390),  # Tango 1998: sleeping difficulties of marijuana users and controls
        (0, 1, 44, 0.90, -0.096, 0.037),  # Tango 1998: cross-over trial of two ways to disinfect contact lenses
        (6, 16, 161, 0.95, -0.1240, -0.0054),  # Fagerland, Lydersen and Laake 2017, chapter 8: consolidation therapy
    ],
)
def test_worked_examples(worse: int, better: int, n: int, confidence: float, low: float, high: float) -> None:
    found = tango(worse, better, n, confidence)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5.5e-4)


def test_the_statistic_of_the_cross_over_trial() -> None:
    # Tango 1998: Z = 1.709 against a difference of −0.1.
    found = score(np.array(0.0), np.array(1.0), np.array(44.0), np.array(-0.1))
    assert float(found) == pytest.approx(1.709, abs=5e-4)


def test_few_pairs_get_a_wider_interval_than_tangos() -> None:
    # Fagerland, Lydersen and Laake 2014, airways before and after a transplant: 1 and 7 of 21, −0.517 to −0.026.
    z = NormalDist().inv_cdf(0.975)
    at = [float(score(np.array(1.0), np.array(7.0), np.array(21.0), np.array(end))) for end in (-0.51723, -0.02600)]
    assert at == pytest.approx([z, -z], abs=5e-4)
    found = tango(1, 7, 21)
    assert found.low < -0.5173
    assert found.high > -0.026
    wider = [
        float(score(np.array(1.0), np.array(7.0), np.array(21.0), np.array(end))) for end in (found.low, found.high)
    ]
    assert wider == pytest.approx([z * math.sqrt(21 / 20), -z * math.sqrt(21 / 20)], abs=1e-6)
    # One pair alone says nothing, whichever it is.
    assert (tango(1, 0, 1).low, tango(1, 0, 1).high) == (pytest.approx(-1), 1)


def false_pass(n: int, margin: float, discordance: float) -> float:
    """The exact chance that a candidate which is worse by the margin is found not to be."""
    worse, better = (part.ravel() for part in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    worse, better = worse[worse + better <= n], better[worse + better <= n]
    shares = [(discordance + margin) / 2, (discordance - margin) / 2, 1 - discordance]
    chances = scipy.stats.multinomial.pmf(np.stack([worse, better, n - worse - better], axis=1), n, shares)
    return float(chances[tango_arrays(worse, better, n)[1] < margin].sum())


@pytest.mark.parametrize(
    ("n", "margin", "discordance"),
    [(23, 0.01, 0.38), (20, 0.05, 0.42), (26, 0.014, 0.35), (35, 0.03, 0.24), (49, 0.005, 0.2), (200, 0.02, 0.02)],
)
def test_a_candidate_that_is_worse_by_the_margin_passes_in_three_percent_at_most(
    n: int, margin: float, discordance: float
) -> None:
    assert 0.002 < false_pass(n, margin, discordance) <= 0.03


@given(pairs())
def test_against_no_difference_the_statistic_is_mcnemars(counts: tuple[int, int, int]) -> None:
    worse, better, n = counts
    if worse + better:
        found = score(np.array(float(worse)), np.array(float(better)), np.array(float(n)), np.array(0.0))
        assert float(found) == pytest.approx((worse - better) / math.sqrt(worse + better), rel=1e-9, abs=1e-12)


def likelihood_score(worse: int, better: int, n: int, difference: float) -> float:
    """Tango's statistic with the restricted estimate searched for, not solved for."""

    def against(q: float) -> float:
        shares, counts = (q + difference, q, 1 - 2 * q - difference), (worse, better, n - worse - better)
        return -sum(count * math.log(max(share, 1e-300)) for count, share in zip(counts, shares, strict=True) if count)

    found = scipy.optimize.minimize_scalar(
        against, bounds=(max(0.0, -difference), min(1.0, (1 - difference) / 2)), method="bounded",
        options={"xatol": 1e-12},
    ).x  # fmt: skip
    return (worse - better - n * difference) / math.sqrt(n * (2 * found + difference * (1 - difference)))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(28, 200))
def test_the_ends_are_where_the_statistic_of_the_likelihood_is_z(worse: int, better: int, neither: int) -> None:
    n = worse + better + neither
    found = tango(worse, better, n)
    z = NormalDist().inv_cdf(0.975)
    assert likelihood_score(worse, better, n, found.high) == pytest.approx(-z, abs=1e-4)
    assert likelihood_score(worse, better, n, found.low) == pytest.approx(z, abs=1e-4)


@given(pairs())
def test_it_is_antisymmetric_nested_and_contains_the_difference(counts: tuple[int, int, int]) -> None:
    worse, better, n = counts
    if n == 0:
        return
    found, mirrored, wider = tango(worse, better, n), tango(better, worse, n), tango(worse, better, n, 0.99)
    assert (found.low, found.high) == (-mirrored.high, -mirrored.low)
    assert -1 <= found.low <= (worse - better) / n <= found.high <= 1
    assert wider.low <= found.low
    assert wider.high >= found.high


@given(st.integers(3, 80), st.integers(0, 40))
def test_a_pair_more_that_is_worse_raises_both_ends(n: int, better: int) -> None:
    better = min(better, n)
    low, high = tango_arrays(np.arange(n - better + 1), better, n)
    assert (np.diff(low) > -1e-12).all()
    assert (np.diff(high) > -1e-12).all()


@given(st.integers(1, 5000), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_no_discordant_pair_is_not_no_difference(n: int, confidence: float) -> None:
    found, z = tango(0, 0, n, confidence), NormalDist().inv_cdf((1 + confidence) / 2)
    assert found.high == pytest.approx(z * z / (n + z * z), rel=1e-8)
    assert found.low == -found.high


def test_ends_and_nothing() -> None:
    assert tango(0, 0, 200).high == pytest.approx(0.0188, abs=5e-5)
    assert tango(5, 0, 5).high == 1
    assert tango(0, 5, 5).low == -1
    assert np.isnan([tango(0, 0, 0).low, tango(0, 0, 0).high]).all()
    for counts in ((-1, 0, 4), (3, 2, 4)):
        with pytest.raises(ValueError, match="discordant"):
            tango(*counts)
    with pytest.raises(ValueError, match="confidence"):
        tango(0, 0, 4, 1.0)


def test_arrays_are_taken_one_by_one() -> None:
    worse, better = np.array([[0], [3]]), np.array([0, 1, 7])
    low, high = tango_arrays(worse, better, 90)
    for row, column in np.ndindex(2, 3):
        found = tango(int(worse[row, 0]), int(better[column]), 90)
        assert (found.low, found.high) == (low[row, column], high[row, column])
