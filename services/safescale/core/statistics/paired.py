"""The difference of two shares of the same questions, candidate − baseline, by Tango's score interval.

Source: Tango, Statistics in Medicine 17 (1998) 891. Not Wald's, which knows no spread where no pair is discordant.

It is asymptotic. Enumerated, a candidate that is worse by exactly the margin passes in up to 3.1 % of comparisons of 20
to 29 pairs, instead of 2.5 %. So among fewer than 30 pairs the variance is divided by n − 1 and not by n, as Miettinen
and Nurminen do for independent shares (Statistics in Medicine 4 (1985) 213): 2.8 % at most, and 3.0 % from 30 pairs on.
"""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from safescale.core.statistics.intervals import CONFIDENCE, Interval

Floats = npt.NDArray[np.float64]

_FEW_PAIRS = 30
_HALVINGS = 44
"""From an interval of length 2 to about 1e-13."""


def tango(only_candidate: int, only_baseline: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of candidate − baseline where so many of n pairs have an event in one of both alone.

    NaN..NaN where there are no pairs. Where no pair is discordant its ends are ∓z²/(n+z²), never 0. Where there are
    fewer than 30 pairs, some of them discordant, it is a little wider than Tango's: see the head of this module.
    """
    low, high = tango_arrays(np.array([only_candidate]), np.array([only_baseline]), np.array([n]), confidence)
    return Interval(float(low[0]), float(high[0]))


def tango_arrays(
    only_candidate: npt.ArrayLike, only_baseline: npt.ArrayLike, n: npt.ArrayLike, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Return low and high ends of `tango` for arrays that broadcast: where the score statistic is z and −z."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    arrays = (np.asarray(each, np.float64) for each in (only_candidate, only_baseline, n))
    worse, better, total = np.broadcast_arrays(*arrays)
    if ((worse < 0) | (better < 0) | (worse + better > total)).any():
        raise ValueError("discordant pairs are fewer than 0 or more than n")
    z = NormalDist().inv_cdf(1 - (1 - confidence) / 2)
    # The low end is the high one of baseline − candidate, with the other sign.
    high, mirrored = _upper(np.stack([worse, better]), np.stack([better, worse]), np.stack([total, total]), z)
    nothing = total == 0
    return np.where(nothing, np.nan, -mirrored), np.where(nothing, np.nan, high)


def _upper(worse: Floats, better: Floats, n: Floats, quantile: float) -> Floats:
    """Find by bisection the difference at which the statistic, which falls in it, is −z; 1 where all are worse."""
    low = np.divide(worse - better, n, out=np.zeros(n.shape), where=n > 0)
    high = np.ones(n.shape)
    few = (n < _FEW_PAIRS) & (n > 0) & (worse + better > 0)
    with np.errstate(divide="ignore"):
        z = np.where(few, quantile * np.sqrt(n / (n - 1)), quantile)
    # For many differences at once this is quick; one takes a millisecond.
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inside = score(worse, better, n, middle) > -z
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.where(worse == n, 1.0, high)


def score(worse: Floats, better: Floats, n: Floats, difference: Floats) -> Floats:
    """Return Tango's statistic T(δ) = (b − c − nδ)/√(n(2q + δ(1−δ))), b pairs worse and c better of n.

    q is the likeliest share of pairs that are better if the difference is δ: the larger root of 2n·q² + B·q + C = 0
    with B = (2n − b + c)δ − b − c, C = −c·δ(1−δ).
    """
    slope = (2 * n - worse + better) * difference - worse - better
    constant = -better * difference * (1 - difference)
    root = np.sqrt(np.maximum(slope**2 - 8 * n * constant, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        # Without the cancellation of root − slope where slope is large: q is 0 where no pair is better.
        likeliest = np.where(slope > 0, -2 * constant / (root + slope), (root - slope) / (4 * n))
        variance = n * (2 * likeliest + difference * (1 - difference))
        return (worse - better - n * difference) / np.sqrt(np.maximum(variance, 0.0))
