"""How many questions it would take to pass, with a power of 80 %, if an estimate were true."""

import math
from functools import lru_cache
from statistics import NormalDist

from safescale.core.decisions.policy import Limit, Measurement
from safescale.core.statistics.intervals import CONFIDENCE, ShareCount
from safescale.core.statistics.sample_size import size_for_limit, zero_error_size

POWER = 0.8
MOST = 10_000_000
"""More questions than this are as good as none that would do."""


def share_size(demand: Limit, measured: ShareCount, confidence: float) -> int | None:
    """Return the questions by which a share passes; None where no number would do.

    Where questions are clustered, as many times more as the clusters leave fewer of them (the design effect), and so
    many that clusters like these would do if none had an event: below that no clustered share passes.
    """
    if measured.n == 0:
        return None
    size = _size(demand, measured.events / measured.n, confidence)
    if size is None or measured.clusters == 0:
        return size
    effect = measured.n / measured.n_effective if measured.n_effective > 0 else math.inf
    voices = measured.clusters if math.isnan(measured.clusters_effective) else measured.clusters_effective
    room = demand.value if demand.direction == "max" else 1 - demand.value
    least = zero_error_size(room, confidence) * measured.n / voices if room < 1 else 0.0
    needed = max(size * effect, least)
    return math.ceil(needed) if needed <= MOST else None


@lru_cache(maxsize=4096)
def _size(demand: Limit, rate: float, confidence: float) -> int | None:
    """Return `size_for_limit`, which takes long: the rows of a run have few rates between them."""
    return size_for_limit(demand.value, rate, demand.direction, POWER, confidence)


def mean_size(demand: Limit, row: Measurement) -> int | None:
    """Return the questions by which a mean passes by its interval; None where no number would do.

    n · ((z_{1-α} + z_{1-β}) · s / (L - x))² with s the standard error that the width of the interval says.
    """
    distance = demand.value - row.value if demand.direction == "max" else row.value - demand.value
    if not distance > 0 or math.isnan(row.ci_high - row.ci_low):
        return None
    quantile = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    error = (row.ci_high - row.ci_low) / (2 * quantile)
    size = row.n * ((quantile + NormalDist().inv_cdf(POWER)) * error / distance) ** 2
    return math.ceil(size) if size <= MOST else None
