"""How many questions a decision needs: to pass a limit by the exact interval, or a margin by Tango's.

Counts follow from the Clopper–Pearson interval (Biometrika 26 (1934) 404) by exact binomial sums, nothing is simulated.
"""

import math
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from safescale.core.statistics.intervals import CONFIDENCE, clopper_pearson

Floats = npt.NDArray[np.float64]
Direction = Literal["max", "min"]

POWER = 0.8
MOST_QUESTIONS = 10**9
"""More than these cannot be had: no number would do."""
_WINDOW = 64
"""Powers rise from step to step but for the rounding to whole questions, which reaches over a few steps."""


def zero_error_size(limit: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest questions of which none may be an event for `max: limit` to pass: (1−limit)ⁿ ≤ α/2.

    5, 2, 1 and 0.1 % need 72, 183, 368 and 3,688.
    """
    if not 0 < limit < 1:
        raise ValueError(f"a limit of {limit} is not between 0 and 1")
    n = math.ceil(math.log((1 - confidence) / 2) / math.log1p(-limit) - 1e-9)
    # The rule is the interval's, so its rounding decides.
    return n if most_events(n, limit, confidence) >= 0 else n + 1


def most_events(n: int, limit: float, confidence: float = CONFIDENCE) -> int:
    """Return the most events among n questions with which `max: limit` passes; -1 if not even none will do."""
    if n <= 0:
        return -1
    if limit >= 1:
        return n
    # The high end rises with the events and is above their share, so the most are fewer than limit · n.
    passing, failing = -1, math.floor(max(limit, 0.0) * n) + 1
    while failing - passing > 1:
        middle = (passing + failing) // 2
        passes = clopper_pearson(middle, n, confidence).high <= limit
        passing, failing = (middle, failing) if passes else (passing, middle)
    return passing


def size_for_limit(
    limit: float, rate: float, direction: Direction, power: float = POWER, confidence: float = CONFIDENCE
) -> int | None:
    """Return the fewest questions from which on the exact rule passes with that power, were the true share `rate`.

    None where no number would do: the rate is at the limit or beyond it, or so close that over a billion were needed.
    The power of an exact rule is a saw: it falls while one more question allows no further event. It holds from the
    number that is returned on, for every larger number as well.
    """
    if not (0 <= rate <= 1 and 0 <= limit <= 1 and 0 < power < 1):
        raise ValueError(f"limit {limit}, rate {rate} or power {power} is not a share")
    if direction == "min":
        return size_for_limit(1 - limit, 1 - rate, "max", power, confidence)
    if limit == 1:
        return 1
    if rate >= limit or limit == 0:
        return None
    normal = _normal_size(limit, rate, power, confidence)
    if normal > MOST_QUESTIONS:
        return None
    low, high = -1, math.ceil(4 * limit * normal) + _WINDOW
    while high - low > 1:
        middle = (low + high) // 2
        enough = _least_power(np.array([middle]), limit, rate, confidence)[0] >= power
        low, high = (low, middle) if enough else (middle, high)
    steps = np.arange(max(0, low - _WINDOW), low + 2 * _WINDOW)
    failing = steps[_least_power(steps, limit, rate, confidence) < power]
    step = int(failing[-1]) + 1 if len(failing) else int(steps[0])
    return int(_first_size(np.array([step]), limit, confidence)[0])


def _normal_size(limit: float, rate: float, power: float, confidence: float) -> float:
    """Return the size by the normal approximation, to know where to look."""
    z_alpha, z_beta = _normal(1 - (1 - confidence) / 2), _normal(power)
    spread = z_alpha * math.sqrt(limit * (1 - limit)) + z_beta * math.sqrt(rate * (1 - rate))
    return (spread / (limit - rate)) ** 2


def _first_size(events: npt.NDArray[np.int64], limit: float, confidence: float) -> npt.NDArray[np.int64]:
    """Return for each number of events the fewest questions of which `max: limit` passes with so many.

    The interval's high end is at most the limit where P(X ≤ x; n, limit) = I_{1−limit}(n−x, x+1) ≤ α/2: solved for n.
    """
    from scipy.special import bdtr, btdtria

    half = (1 - confidence) / 2
    n = np.ceil(btdtria(half, events + 1.0, 1 - limit) + events).astype(np.int64)
    # Rounding can be off by one, on either side.
    n = np.where(bdtr(events, n - 1, limit) <= half, n - 1, n)
    return np.where(bdtr(events, n, limit) <= half, n, n + 1)


def _least_power(events: npt.NDArray[np.int64], limit: float, rate: float, confidence: float) -> Floats:
    """Return the least power while so many events are allowed: at the last number of questions that allows no more."""
    from scipy.special import bdtr

    last = _first_size(events + 1, limit, confidence) - 1
    # A step that is skipped, because one more question allows two more events, is no step.
    return np.where(last < _first_size(events, limit, confidence), 1.0, bdtr(events, last, rate))


def size_for_margin(
    margin: float,
    discordance: float,
    power: float = POWER,
    confidence: float = CONFIDENCE,
    difference: float = 0.0,
) -> int | None:
    """Return how many pairs show that a candidate is not worse by the margin: (z_{1−α} + z_{1−β})²·(ψ−d²)/(δ−d)².

    ψ is the share of pairs that are discordant, d the true difference candidate − baseline, and α = (1−confidence)/2
    on one side; a normal approximation, after Connor, Biometrics 43 (1987) 207. Never fewer than pass where no pair is
    discordant, z²(1−δ)/δ. None where the difference is the margin or more. A margin of 2 points and a discordance of
    6 % need 927 one-sided at 5 %, that is with confidence 0.90.
    """
    if not (0 < margin < 1 and abs(difference) <= discordance <= 1):
        raise ValueError(f"margin {margin}, discordance {discordance} or difference {difference} is out of range")
    if difference >= margin:
        return None
    z_alpha, z_beta = _normal(1 - (1 - confidence) / 2), _normal(power)
    variance = max(0.0, discordance - difference**2)
    n = round((z_alpha + z_beta) ** 2 * variance / (margin - difference) ** 2)
    return max(n, math.floor(z_alpha**2 * (1 - margin) / margin) + 1)


def _normal(share: float) -> float:
    """Quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(share)
