"""Plain statistics: intervals, exact tests, straight lines, sums of squares, concentration. No randomness."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Z_AGREEMENT = 1.96
"""Protocol section 5: the Wilson interval of an agreement."""
Z_ENSEMBLE = 1.959964
"""The reference's Wilson interval of an ensemble's accuracy takes more digits."""


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
    """The exact two-sided p-value of McNemar's test of two discordant counts; 1 where nothing is discordant.

    Twice the lower binomial tail at one half, at most 1 (protocol section 5); exact integers at any count.
    """
    total = only_left + only_right
    term, tail = 1, 0
    for chosen in range(min(only_left, only_right) + 1):
        tail += term
        term = term * (total - chosen) // (chosen + 1)
    return min(1.0, (2 * tail) / (1 << total))


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
class Line:
    """A straight line by least squares: slope with standard error, 95 % t interval and p-value of slope = 0."""

    n: int
    slope: float
    slope_se: float
    slope_low: float
    slope_high: float
    intercept: float
    r_squared: float
    p_value: float


def fit_line(x: Floats, y: Floats) -> Line | None:
    """The least-squares line of y on x, both (n,); None with fewer than two different x.

    With two points the line is exact: standard error, interval and p-value are NaN. r² is NaN where y is constant.
    """
    n = len(x)
    if n < 2 or np.ptp(x) == 0:
        return None
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ (y - y.mean())) / spread
    intercept = float(y.mean()) - slope * float(x.mean())
    residual = y - intercept - slope * x
    remaining, total = float(residual @ residual), float(((y - y.mean()) ** 2).sum())
    r_squared = 1.0 - remaining / total if total > 0 else math.nan
    if n == 2:
        return Line(n, slope, math.nan, math.nan, math.nan, intercept, r_squared, math.nan)
    freedom = n - 2
    se = math.sqrt(remaining / freedom / spread)
    half = _t_quantile(freedom) * se
    return Line(n, slope, se, slope - half, slope + half, intercept, r_squared, _t_test(slope, se, freedom))


def _t_quantile(freedom: int) -> float:
    from scipy.special import stdtrit  # slow to import, and only scaling fits need it

    return float(stdtrit(freedom, 0.975))


def _t_test(estimate: float, se: float, freedom: int) -> float:
    from scipy.special import stdtr

    if se == 0:
        return 1.0 if estimate == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(estimate / se)))


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
    a, b = _dummies(first), _dummies(second)
    cells = _dummies(first * (int(second.max()) + 1) + second)
    alone_a, alone_b, both, full = (_explained(centred, design) for design in (a, b, np.hstack([a, b]), cells))
    share_a = (alone_a + both - alone_b) / 2
    share_b = (alone_b + both - alone_a) / 2
    parts = np.maximum(np.array([share_a, share_b, full - both, total - full]) / total, 0.0)
    of_first, of_second, interaction, residual = (parts / parts.sum()).tolist()
    return TwoWay(of_first, of_second, interaction, residual, total)


def _dummies(codes: npt.NDArray[np.intp]) -> Floats:
    return np.asarray(codes[:, np.newaxis] == np.unique(codes), dtype=np.float64)


def _explained(centred: Floats, design: Floats) -> float:
    fitted = design @ np.linalg.lstsq(design, centred, rcond=None)[0]
    return float(fitted @ fitted)


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
