"""How many questions it would take to pass, with a power of 80 %, if an estimate were true."""

import math
from statistics import NormalDist

from safescale.core.decisions.policy import Limit, Measurement
from safescale.core.statistics.intervals import CONFIDENCE, ShareCount
from safescale.core.statistics.sample_size import size_for_limit

POWER = 0.8
MOST = 10_000_000
"""More questions than this are as good as none that would do."""


def share_size(demand: Limit, measured: ShareCount, confidence: float) -> int | None:
    """Return the questions by which a share passes; None where no number would do.

    Where questions are clustered, as many times more as the clusters leave fewer of them (the design effect).
    """
    if measured.n == 0:
        return None
    rate = measured.events / measured.n
    size = size_for_limit(demand.value, rate, demand.direction, POWER, confidence)
    if size is None or measured.clusters == 0:
        return size
    effect = measured.n / measured.n_effective if measured.n_effective > 0 else math.inf
    return math.ceil(size * effect) if size * effect <= MOST else None


def mean_size(demand: Limit, row: Measurement) -> int | None:
    """Return the questions by which a mean passes by its interval; None where no number would do.

    n · ((z_{1-α} + z_{1-β}) · s / (L - x))² with s the standard error that the width of the interval says.
    """
    distance = demand.value - row.value if demand.direction == "max" else row.value - demand.value
    if not distance > 0:
        return None
    quantile = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    error = (row.ci_high - row.ci_low) / (2 * quantile)
    size = row.n * ((quantile + NormalDist().inv_cdf(POWER)) * error / distance) ** 2
    return math.ceil(size) if size <= MOST else None
