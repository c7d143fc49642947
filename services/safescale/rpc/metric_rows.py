"""Metric rows to core types and back: the count behind a share of questions."""

import math
from typing import Literal

from safescale.core.statistics.intervals import ShareCount
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

_SPREAD: tuple[Literal["n_effective", "clusters_effective", "freedom"], ...] = (
    "n_effective", "clusters_effective", "freedom",
)  # fmt: skip
"""What clusters leave of the questions; absent where there are none."""


def share_count_of(row: pb.MetricRow, *, worst_case: bool = False) -> ShareCount | None:
    """Return the count behind a metric row, as measured or at worst; None where it has none."""
    if not (row.HasField("worst_case") if worst_case else row.HasField("measured")):
        return None
    found = row.worst_case if worst_case else row.measured
    spread = {name: getattr(found, name) if found.HasField(name) else math.nan for name in _SPREAD}
    return ShareCount(found.events, row.n, found.clusters, **spread)


def set_share_count(message: pb.ShareCount, share: ShareCount | None) -> None:
    """Write a count into a field of a metric row; nothing where there is none."""
    if share is None:
        return
    # A count of 0 is a count, too.
    message.SetInParent()
    message.events, message.clusters = share.events, share.clusters
    for name in _SPREAD:
        value = getattr(share, name)
        if not math.isnan(value):
            setattr(message, name, value)
