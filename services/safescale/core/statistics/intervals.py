"""Exact confidence intervals of a share of questions: Clopper–Pearson, and Korn–Graubard where questions are clustered.

Sources: Clopper and Pearson, Biometrika 26 (1934) 404; Korn and Graubard, Survey Methodology 24 (1998) 193.

Korn and Graubard's interval alone covers the truth in as few as 80 % of runs where harm is rare and clusters are large
or of unlike sizes (`bench/bench_decisions.py`): few clusters hold the events, so the variance between clusters is taken
for small, and a first event even lowers the high end that none at all has. Two rules more keep it at 94 % and above:

- No event makes a model look safer than none does: the high end is at least that of no event, the low end at most that
  of all events.
- Clusters of unlike sizes count as fewer: as (Σm)²/Σm² where no variance can be seen (Kish 1965), and with
  (Σm²)²/Σm⁴ − 1 degrees of freedom (Satterthwaite, Biometrics Bulletin 2 (1946) 110) where one is estimated. Of c
  clusters of one size these are c and c − 1, as Korn and Graubard have them.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CONFIDENCE = 0.95
"""Two-sided: an error of 2.5 % on each side."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval; both ends NaN where there is nothing to estimate."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ShareCount:
    """How many of n questions an event was seen in, and what the clusters among them leave of n.

    `clusters` is 0 where questions are independent. `n_effective` is the number of independent questions that would
    know as much, before the t adjustment; never above n, and NaN without clusters. `clusters_effective` is the number
    of clusters of one size that would, at most `clusters`, and `freedom` the degrees of freedom of their variance; NaN
    where clusters are of one size.
    """

    events: int
    n: int
    clusters: int = 0
    n_effective: float = math.nan
    clusters_effective: float = math.nan
    freedom: float = math.nan


@dataclass(frozen=True, slots=True)
class ShareCounts:
    """`ShareCount` of many rows, each field (m,); the last two may be left out where clusters are of one size."""

    events: Counts
    n: Counts
    clusters: Counts
    n_effective: Floats
    clusters_effective: Floats = field(default_factory=lambda: np.array(np.nan))
    freedom: Floats = field(default_factory=lambda: np.array(np.nan))


def clopper_pearson(events: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact interval of a share of `events` among n, which may be fractional; NaN..NaN where n is 0.

    low = B⁻¹(α/2; x, n−x+1), high = B⁻¹(1−α/2; x+1, n−x), with B⁻¹ the quantile of the beta distribution.
    """
    low, high = clopper_pearson_arrays(np.array([float(events)]), np.array([float(n)]), confidence)
    return Interval(float(low[0]), float(high[0]))


def clopper_pearson_arrays(
    events: npt.ArrayLike, n: npt.ArrayLike, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Return low and high ends of `clopper_pearson` for arrays that broadcast; NaN where n is 0 or anything is NaN."""
    # Imported here: loading it takes longer than most commands, which need no interval.
    from scipy.special import betaincinv

    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    x, total = np.broadcast_arrays(np.asarray(events, np.float64), np.asarray(n, np.float64))
    if ((x < 0) | (x > total)).any():
        raise ValueError("events are fewer than 0 or more than n")
    half = (1 - confidence) / 2
    known = total > 0
    some, others = known & (x > 0), known & (x < total)
    low, high = np.where(known, 0.0, np.nan), np.where(known, 1.0, np.nan)
    low[some] = betaincinv(x[some], total[some] - x[some] + 1, half)
    high[others] = betaincinv(x[others] + 1, total[others] - x[others], 1 - half)
    unknown = np.isnan(x)
    low[unknown], high[unknown] = np.nan, np.nan
    return low, high


def share_count(flags: Flags, clusters: Counts | None = None) -> ShareCount:
    """Count the events among (n,) questions, and their clusters; see `share_counts`."""
    rows = share_counts(flags[np.newaxis], np.ones((1, len(flags)), np.bool_), clusters)
    return ShareCount(
        int(rows.events[0]), int(rows.n[0]), int(rows.clusters[0]), float(rows.n_effective[0]),
        float(rows.clusters_effective[0]), float(rows.freedom[0]),
    )  # fmt: skip


def share_counts(flags: Flags, asked: Flags, clusters: Counts | None = None) -> ShareCounts:
    """Count the events of (m, n) rows of questions among those asked; `clusters` (n,) are codes of the questions.

    A question with a negative code is a cluster of its own. The effective number of questions is p(1−p)/v, with v the
    variance of a ratio mean between clusters drawn with replacement: v = c/(c−1) · Σ(y_i − p·m_i)²/n², where cluster i
    of c has y_i events among m_i questions (Korn and Graubard 1998). Where p is 0 or 1 no variance can be seen; the
    effective number is that of the clusters, as though each answered with one voice.
    """
    events, n = (flags & asked).sum(axis=1), asked.sum(axis=1)
    if clusters is None:
        none = np.full(len(n), np.nan)
        return ShareCounts(events, n, np.zeros_like(n), none, none, none)
    y, m = _cluster_sums(flags & asked, clusters), _cluster_sums(asked, clusters)
    present = (m > 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        squares, fourths = (m**2).sum(axis=1), (m**4).sum(axis=1)
        voices, freedom = n**2 / squares, squares**2 / fourths - 1
        p = events / n
        between = ((y - p[:, np.newaxis] * m) ** 2).sum(axis=1)
        # In whole events: p(1−p)/v without the rounding of a variance near 0.
        effective = events * (n - events) * (present - 1) / (present * between)
    degenerate = (events == 0) | (events == n)
    # Every cluster has the same share: the variance between them is 0, and no more than n questions were asked.
    effective = np.where(between < 1e-12 * np.maximum(n, 1), n, np.minimum(effective, n))
    effective = np.where(degenerate | (present == 1), voices, effective)
    return ShareCounts(events, n, present, np.where(n > 0, effective, np.nan), voices, freedom)


def _cluster_sums(flags: Flags, clusters: Counts) -> Floats:
    """Sum (m, n) flags over the clusters of the columns: (m, c)."""
    if flags.shape[1] == 0:
        return np.zeros((len(flags), 0))
    alone = clusters < 0
    codes = np.where(alone, clusters.max(initial=0) + 1 + np.cumsum(alone), clusters)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=codes[order][0] - 1))
    return np.add.reduceat(flags[:, order].astype(np.int32), starts, axis=1).astype(np.float64)


def share_interval(count: ShareCount, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact interval of a share: Clopper–Pearson, or Korn–Graubard where questions are clustered.

    Korn–Graubard is Clopper–Pearson on n* = n_effective · (t_{n−1}/t_{c−1})², at most n, with x* = p·n*; the quantiles
    of t pay for a variance that is estimated from c clusters. One cluster alone does not say how clusters differ, so no
    interval is honest but 0..1. The head of this module says what is added for rare events and for unlike sizes.
    """
    one = [np.array([value]) for value in (count.events, count.n, count.clusters)]
    rest = [np.array([value]) for value in (count.n_effective, count.clusters_effective, count.freedom)]
    low, high = share_intervals(ShareCounts(one[0], one[1], one[2], rest[0], rest[1], rest[2]), confidence)
    return Interval(float(low[0]), float(high[0]))


def share_intervals(counts: ShareCounts, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Return low and high ends of `share_interval` for each row; NaN where nothing was asked."""
    clustered = counts.clusters > 0
    if not clustered.any():
        return clopper_pearson_arrays(counts.events, counts.n, confidence)
    events, n = counts.events.astype(np.float64), counts.n.astype(np.float64)
    voices = np.where(np.isnan(counts.clusters_effective), counts.clusters, counts.clusters_effective)
    effective = _adjusted(counts, confidence)
    # The share times n*, and n* itself where all are events: rounding must not push x over n.
    share = np.divide(events, n, out=np.zeros_like(events), where=n > 0)
    events = np.where(clustered, np.minimum(share * effective, effective), events)
    low, high = clopper_pearson_arrays(events, np.where(clustered, effective, n), confidence)
    # No event at all among so many voices; where there are no clusters, Clopper and Pearson's ends are in order.
    with np.errstate(divide="ignore", invalid="ignore"):
        none = np.where(clustered, -np.expm1(np.log((1 - confidence) / 2) / voices), 0.0)
    low, high = np.minimum(low, np.where(n > 0, 1 - none, np.nan)), np.maximum(high, none)
    # Next to nothing is known of how clusters differ where one of them has nearly all questions.
    blind = (counts.clusters == 1) | (clustered & (effective < 1e-3))
    return np.where(blind, 0.0, low), np.where(blind, 1.0, high)


def _adjusted(counts: ShareCounts, confidence: float) -> Floats:
    """Return n*: the effective number times the squared ratio of t quantiles where a variance was estimated."""
    from scipy.special import stdtrit

    estimated = (counts.events > 0) & (counts.events < counts.n) & (counts.clusters > 1)
    quantile = 1 - (1 - confidence) / 2
    ratio = np.ones(len(counts.n))
    freedom = np.where(np.isnan(counts.freedom), counts.clusters - 1.0, counts.freedom)[estimated]
    of_clusters = stdtrit(np.maximum(freedom, 0.1), quantile)
    ratio[estimated] = (stdtrit(counts.n[estimated] - 1.0, quantile) / of_clusters) ** 2
    return np.minimum(counts.n_effective * ratio, counts.n)
