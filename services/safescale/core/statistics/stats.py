"""Plain statistics: intervals, exact tests, straight lines, sums of squares, concentration. No randomness."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Z_AGREEMENT = 1.96
"""Protocol section 5: the Wilson interval of an agreement."""
Z_ENSEMBLE = 1.959964
"""The reference's Wilson interval of an ensemble's accuracy takes more digits."""
_FISHER_ROWS = 2000
"""Tables that are tested at once: each takes as many numbers as it has questions."""
_NO_SPREAD = 1e-12
"""Sums of squares below this are rounding: all x are the same."""


def wilson(share: Floats, count: npt.NDArray[np.generic], z: float = Z_AGREEMENT) -> tuple[Floats, Floats]:
    """Wilson's score interval of a share of `count` trials, both (...); NaN where the share is NaN or count is 0."""
    n = count.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        denominator = 1.0 + z * z / n
        centre = (share + z * z / (2 * n)) / denominator
        half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / denominator
        return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


@lru_cache(maxsize=65536)
def mcnemar_exact(only_left: int, only_right: int) -> float:
    """Return the exact two-sided p-value of McNemar's test of two discordant counts; 1 where nothing is discordant.

    Twice the lower binomial tail at one half, at most 1 (protocol section 5); exact integers at any count.
    """
    total = only_left + only_right
    term, tail = 1, 0
    for chosen in range(min(only_left, only_right) + 1):
        tail += term
        term = term * (total - chosen) // (chosen + 1)
    return min(1.0, (2 * tail) / (1 << total))


def fisher_exact(
    events: npt.ArrayLike, n: npt.ArrayLike, all_events: npt.ArrayLike, everything: npt.ArrayLike
) -> Floats:
    """Return two-sided p-values of Fisher's exact test: `events` among n, against the rest of all.

    The probability, with all counts of both margins fixed, of a table that is as unlikely as the one seen or more
    (Fisher 1935; Freeman and Halton 1951). 1 where n is 0 or all.
    """
    rows = np.stack(np.broadcast_arrays(*(np.asarray(each, np.int64) for each in (events, n, all_events, everything))))
    flat = rows.reshape(4, -1)
    # Of many slices most have counts that others have: each is computed once, told by one number.
    base = int(flat.max(initial=0)) + 1
    whole = np.unique(flat[2] * base + flat[3], return_inverse=True)[1].reshape(-1)
    key = whole * base**2 + flat[0] * base + flat[1]
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    x, size, hits, total = flat[:, first]
    steps = np.arange(1, int(total.max(initial=0)) + 1)
    factorial = np.concatenate([[0.0], np.log(steps).cumsum()])
    fixed = factorial[size] + factorial[total - size] + factorial[hits] + factorial[total - hits] - factorial[total]
    found = np.ones(len(x))
    for low in range(0, len(x), _FISHER_ROWS):
        part = slice(low, low + _FISHER_ROWS)
        a = np.arange(int(np.minimum(size[part], hits[part]).max(initial=0)) + 1)[np.newaxis]
        b, c = size[part, np.newaxis] - a, hits[part, np.newaxis] - a
        d = total[part, np.newaxis] - size[part, np.newaxis] - c
        possible = (b >= 0) & (c >= 0) & (d >= 0)
        ways = factorial[a] + sum(factorial[np.where(possible, each, 0)] for each in (b, c, d))
        chances = np.exp(np.where(possible, fixed[part, np.newaxis] - ways, -np.inf))
        seen = np.take_along_axis(chances, x[part, np.newaxis], axis=1)
        found[part] = np.where(chances <= seen * (1 + 1e-7), chances, 0.0).sum(axis=1)
    return np.minimum(found[place.reshape(-1)].reshape(rows.shape[1:]), 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of one family of p-values, in their order: never below the raw p, at most 1."""
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


@dataclass(frozen=True, slots=True)
class LineFits:
    """Straight lines by least squares, one for each column: slope with standard error, 95 % t interval, p of slope 0.

    All (m,); n int64. NaN where it is not defined: everything with fewer than two different x; standard error, interval
    and p-value with two points, where the line is exact; r² where y is constant.
    """

    n: npt.NDArray[np.int64]
    slope: Floats
    slope_se: Floats
    slope_low: Floats
    slope_high: Floats
    intercept: Floats
    r_squared: Floats
    p_value: Floats


def fit_lines(x: Floats, y: Floats) -> LineFits:
    """Fit the least-squares line of each column of y (n, m) on x (n,), leaving out values of y that are NaN."""
    held = ~np.isnan(y)
    n = held.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x = np.where(held, x[:, np.newaxis], 0.0).sum(axis=0) / n
        mean_y = np.where(held, y, 0.0).sum(axis=0) / n
        dx, dy = np.where(held, x[:, np.newaxis] - mean_x, 0.0), np.where(held, y - mean_y, 0.0)
        spread, total = (dx**2).sum(axis=0), (dy**2).sum(axis=0)
        spread[spread < _NO_SPREAD] = np.nan
        slope = (dx * dy).sum(axis=0) / spread
        remaining = ((dy - slope * dx) ** 2).sum(axis=0)
        se = np.sqrt(remaining / np.where(n > 2, n - 2, np.nan) / spread)
        half, p_value = _interval_and_p(slope, se, n)
        r_squared = np.where(total > 0, 1.0 - remaining / total, np.nan)
    return LineFits(n, slope, se, slope - half, slope + half, mean_y - slope * mean_x, r_squared, p_value)


def _interval_and_p(slope: Floats, se: Floats, n: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return half of each slope's 95 % t interval and its two-sided p-value; NaN where the standard error is NaN."""
    if np.isnan(se).all():
        return se, se
    # Imported here: loading it takes longer than an analysis of a few models, which needs no interval of a line.
    from scipy.special import stdtr, stdtrit

    freedom = np.where(np.isnan(se), np.nan, n - 2.0)
    half = stdtrit(freedom, 0.975) * se
    p_value = 2 * stdtr(freedom, -np.abs(slope / se))
    # A line without scatter: 0 / 0 where it is flat.
    return half, np.where((se == 0) & (slope == 0), 1.0, p_value)


@dataclass(frozen=True, slots=True)
class TwoWay:
    """Shares of the sum of squares about the mean, each in [0, 1], of sum 1; NaN where all values are equal."""

    first: float
    second: float
    interaction: float
    residual: float
    total: float


def two_way(values: Floats, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> TwoWay:
    """Decompose the sum of squares of (n,) values by two factors, given as (n,) codes; cells may be unbalanced.

    In unbalanced data the sum of squares that a factor explains depends on whether it enters before or after the other;
    each factor gets the mean of both orders, which is the classical decomposition where the cells are balanced.
    Interaction is what the cells' means explain beyond both factors; residual what is left within cells.
    """
    centred = values - values.mean()
    total = float(centred @ centred)
    if not total > 1e-300:
        return TwoWay(math.nan, math.nan, math.nan, math.nan, total)
    n_first, n_second = int(first.max()) + 1, int(second.max()) + 1
    cells = first * n_second + second
    counts = np.bincount(cells, minlength=n_first * n_second).reshape(n_first, n_second)
    sums = np.bincount(cells, weights=centred, minlength=n_first * n_second).reshape(n_first, n_second)
    alone_first = _explained_by_means(sums.sum(axis=1), counts.sum(axis=1))
    alone_second = _explained_by_means(sums.sum(axis=0), counts.sum(axis=0))
    both = _explained_by_sum(sums, counts)
    full = _explained_by_means(sums, counts)
    share_first = (alone_first + both - alone_second) / 2
    share_second = (alone_second + both - alone_first) / 2
    parts = np.maximum(np.array([share_first, share_second, full - both, total - full]) / total, 0.0)
    of_first, of_second, interaction, residual = (parts / parts.sum()).tolist()
    return TwoWay(of_first, of_second, interaction, residual, total)


def _explained_by_means(sums: npt.NDArray[Any], counts: npt.NDArray[Any]) -> float:
    """Sum of squares that the means of groups explain, of the sums and counts of centred values in them."""
    return float((sums**2 / np.maximum(counts, 1)).sum())


def _explained_by_sum(sums: npt.NDArray[Any], counts: npt.NDArray[Any]) -> float:
    """Sum of squares that an effect of each factor, without interaction, explains: from the normal equations."""
    n = counts.astype(np.float64)
    gram = np.block([[np.diag(n.sum(axis=1)), n], [n.T, np.diag(n.sum(axis=0))]])
    moments = np.concatenate([sums.sum(axis=1), sums.sum(axis=0)])
    return float(moments @ np.linalg.lstsq(gram, moments, rcond=None)[0])


def gini(amounts: npt.NDArray[np.generic]) -> float:
    """Gini's coefficient of (n,) amounts: 0 where all are equal, near 1 where one has all; NaN where the sum is 0."""
    ordered = np.sort(amounts.astype(np.float64))
    n, total = len(ordered), float(ordered.sum())
    if total == 0:
        return math.nan
    ranks = np.arange(1, n + 1)
    return float((2 * ranks - n - 1) @ ordered) / (n * total)


def fewest_for_share(amounts: npt.NDArray[np.generic], share: float = 0.5) -> int:
    """How few of (n,) amounts, the largest first, sum to at least that share of all; 0 where the sum is 0."""
    running = np.cumsum(np.sort(amounts.astype(np.float64))[::-1])
    total = running[-1] if len(running) else 0.0
    return int(np.searchsorted(running, share * total - 1e-9 * total)) + 1 if total > 0 else 0
