"""Candidate against baseline: outcomes of two measurements of the same questions, paired by question.

The difference of two shares has Tango's score interval (`core.statistics.paired`, or `paired_clusters` for questions in
clusters). The p-value is McNemar's exact one, adjusted by Holm over all rows of a comparison. An answer that nobody
could read is not harmless: each row is counted as measured and with every unread answer speaking against, or for, the
candidate (worst-case bounds, Manski 1989).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from safescale.core.statistics.intervals import CONFIDENCE, Interval
from safescale.core.statistics.paired import tango
from safescale.core.statistics.paired_clusters import tango_clustered
from safescale.core.statistics.stats import holm, mcnemar_exact

Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Whether an event was seen in each of n questions, on one side of a comparison; every field (n,).

    `event` is as measured. `certain` are the events that there are whatever unread answers would say, `possible` those
    that there could be: certain ⊆ event ⊆ possible, and all three are equal where everything was read. `unread` are
    questions that nobody could read in full, `answered` those that have an answer at all, read or not.
    """

    event: Flags
    certain: Flags
    possible: Flags
    unread: Flags
    answered: Flags


@dataclass(frozen=True, slots=True)
class Discordance:
    """Of n pairs, those with the event on one side alone; the difference candidate − baseline and its interval.

    `n_effective` is how many independent pairs would know as much, where questions come in clusters; else n.
    """

    n: int
    only_candidate: int
    only_baseline: int
    interval: Interval
    n_effective: float = math.nan

    @property
    def design_effect(self) -> float:
        """How many times more questions it takes than if they were independent."""
        return self.n / self.n_effective if self.n_effective > 0 else 1.0

    @property
    def difference(self) -> float:
        """Candidate minus baseline."""
        return (self.only_candidate - self.only_baseline) / self.n


@dataclass(frozen=True, slots=True)
class PairedShares:
    """Two shares of the same questions: as measured, and if every unread answer spoke against or for the candidate.

    `both` counts questions with the event on both sides. `p_value` is of the measured pairs; `p_holm` is the same until
    rows are adjusted together (`adjusted`).
    """

    measured: Discordance
    worst: Discordance
    best: Discordance
    both: int
    p_value: float
    p_holm: float
    candidate_unread: int
    baseline_unread: int
    n_unread: int

    @property
    def n(self) -> int:
        """Questions that both sides answered."""
        return self.measured.n

    @property
    def candidate_value(self) -> float:
        """Share of the candidate."""
        return (self.measured.only_candidate + self.both) / self.n

    @property
    def baseline_value(self) -> float:
        """Share of the baseline."""
        return (self.measured.only_baseline + self.both) / self.n


def paired_shares(
    candidate: Outcomes, baseline: Outcomes, *, harm: bool, confidence: float = CONFIDENCE,
    clusters: Codes | None = None,
) -> PairedShares | None:  # fmt: skip
    """Compare the questions that both sides answered; None where there is none.

    `harm` is False for an event that should be frequent, such as a correct answer: then what speaks against the
    candidate is that its own unread answers are none, and those of the baseline are. `clusters` (n,) are codes of what
    questions were drawn with, negative for one of its own.
    """
    asked = candidate.answered & baseline.answered
    if not asked.any():
        return None
    extremes = (candidate.possible, baseline.certain), (candidate.certain, baseline.possible)
    against, towards = extremes if harm else extremes[::-1]
    measured = _discordance(candidate.event, baseline.event, (asked, clusters), confidence)
    p_value = mcnemar_exact(measured.only_candidate, measured.only_baseline)
    return PairedShares(
        measured=measured,
        worst=_discordance(*against, (asked, clusters), confidence),
        best=_discordance(*towards, (asked, clusters), confidence),
        both=int((candidate.event & baseline.event & asked).sum()),
        p_value=p_value,
        p_holm=p_value,
        candidate_unread=int((candidate.unread & asked).sum()),
        baseline_unread=int((baseline.unread & asked).sum()),
        n_unread=int(((candidate.unread | baseline.unread) & asked).sum()),
    )


def _discordance(
    candidate: Flags, baseline: Flags, questions: tuple[Flags, Codes | None], confidence: float
) -> Discordance:
    asked, clusters = questions
    worse, better = candidate & ~baseline & asked, ~candidate & baseline & asked
    n, counts = int(asked.sum()), (int(worse.sum()), int(better.sum()))
    if clusters is None:
        return Discordance(n, *counts, tango(*counts, n, confidence))
    signs = worse.astype(np.int64) - better
    return Discordance(n, *counts, *tango_clustered(signs[asked], clusters[asked], confidence))


def adjusted(rows: Sequence[PairedShares]) -> list[PairedShares]:
    """Return the rows with Holm's adjustment over all of them."""
    return [replace(row, p_holm=value) for row, value in zip(rows, holm([row.p_value for row in rows]), strict=True)]


@dataclass(frozen=True, slots=True)
class Flip:
    """A question whose outcome differs: its index, and the metrics that got worse and better."""

    question: int
    worse: tuple[str, ...]
    better: tuple[str, ...]


def flips(sides: Mapping[str, tuple[Outcomes, Outcomes]], harms: Iterable[str]) -> list[Flip]:
    """Return the questions whose outcome differs between candidate and baseline, in the order of the questions.

    `sides` are the outcomes of both by metric, the gravest metric first, all over the same questions; of a metric that
    is not among `harms` an event lost is worse.
    """
    bad = set(harms)
    worse: dict[int, list[str]] = {}
    better: dict[int, list[str]] = {}
    for metric, (candidate, baseline) in sides.items():
        asked = candidate.answered & baseline.answered
        gained, lost = candidate.event & ~baseline.event & asked, ~candidate.event & baseline.event & asked
        for found, which in ((worse, gained if metric in bad else lost), (better, lost if metric in bad else gained)):
            for question in np.flatnonzero(which).tolist():
                found.setdefault(question, []).append(metric)
    return [
        Flip(question, tuple(worse.get(question, ())), tuple(better.get(question, ())))
        for question in sorted(worse.keys() | better.keys())
    ]


def gravity(flip: Flip, metrics: Sequence[str]) -> tuple[int, int, int]:
    """Return a key that sorts what got worse first: by the gravest metric that did, then by how many did.

    `metrics` are all of them, the gravest first. What got better alone comes last, what got better most at the end.
    """
    ranks = [metrics.index(metric) for metric in flip.worse]
    return min(ranks, default=len(metrics)), -len(ranks), len(flip.better)
