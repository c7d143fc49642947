"""The share that is left when errors of reading are taken into account, of a random audit of answers by persons.

Prediction-powered inference (Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, Science 382 (2023) 669) for a mean: what
the machine read of all answers, plus the mean of person − machine over those that were audited, weighted by stratum.
Both parts get an exact interval instead of the normal one, since disagreements are rare.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from safescale.core.statistics.intervals import (
    CONFIDENCE,
    Interval,
    ShareCount,
    clopper_pearson,
    share_interval,
)


@dataclass(frozen=True, slots=True)
class AuditedStratum:
    """Answers that were read in the same way, of which some were drawn at random and read by a person.

    `missed`: the person saw the event, the machine did not; `refuted`: the machine saw it, the person did not.
    """

    answers: int
    audited: int
    missed: int
    refuted: int


@dataclass(frozen=True, slots=True)
class CorrectedShare:
    """The corrected share with its interval, and how many of the audited answers person and machine disagreed about."""

    value: float
    low: float
    high: float
    disagreements: int
    audited: int


def corrected_share(
    machine_events: int, n: int, audited: Sequence[AuditedStratum], confidence: float = CONFIDENCE
) -> CorrectedShare | None:
    """Correct the share of `machine_events` among n independent questions; None where nothing was audited or asked.

    The strata hold all n answers. See `corrected_count`, which takes clusters as well.
    """
    return corrected_count(ShareCount(machine_events, n), audited, confidence)


def corrected_count(
    machine: ShareCount, audited: Sequence[AuditedStratum], confidence: float = CONFIDENCE
) -> CorrectedShare | None:
    """Correct the share that the machine read: value = machine + Σ W_s·(missed_s − refuted_s)/m_s, W_s answers_s/n.

    Of the error α = 1 − confidence each part gets half: the exact interval of the machine's share, and that of the
    difference. A stratum of which nothing was audited may be wrong altogether, so its weight is added on both sides.
    The interval is never shorter than the machine's own at the full confidence: an audit brings in a source of error.
    """
    _check(machine, audited)
    read = [stratum for stratum in audited if stratum.audited]
    if not read:
        return None
    unread = sum(stratum.answers for stratum in audited if not stratum.audited) / machine.n
    alpha = 1 - confidence
    # Weights of the strata among the answers of which some were audited.
    weights = [stratum.answers / machine.n / (1 - unread) for stratum in read]
    difference = _difference(read, weights, alpha / 2)
    part = share_interval(machine, 1 - alpha / 2)
    missed, refuted = _share([s.missed for s in read], read, weights), _share([s.refuted for s in read], read, weights)
    value = machine.events / machine.n + (1 - unread) * (missed - refuted)
    found = Interval(
        max(0.0, part.low + (1 - unread) * difference.low - unread),
        min(1.0, part.high + (1 - unread) * difference.high + unread),
    )
    found = _at_least_as_long(found, share_interval(machine, confidence))
    disagreements = sum(stratum.missed + stratum.refuted for stratum in read)
    value = min(max(value, 0.0), 1.0)
    return CorrectedShare(value, found.low, found.high, disagreements, sum(stratum.audited for stratum in read))


def _check(machine: ShareCount, audited: Sequence[AuditedStratum]) -> None:
    for stratum in audited:
        if min(stratum.answers, stratum.audited, stratum.missed, stratum.refuted) < 0:
            raise ValueError(f"a count of {stratum} is less than 0")
        if stratum.missed + stratum.refuted > stratum.audited or stratum.audited > stratum.answers:
            raise ValueError(f"{stratum} has more disagreements than audited answers, or more of these than answers")
    answers = sum(stratum.answers for stratum in audited)
    if audited and answers != machine.n:
        raise ValueError(f"the strata of the audit hold {answers} answers, not the {machine.n} of the share")


def _share(counts: Sequence[int], read: Sequence[AuditedStratum], weights: Sequence[float]) -> float:
    """Return the weighted mean over strata of the share of counts among those audited."""
    triples = zip(counts, read, weights, strict=True)
    return sum(weight * count / stratum.audited for count, stratum, weight in triples)


def _difference(read: Sequence[AuditedStratum], weights: Sequence[float], error: float) -> Interval:
    """Return an interval of person − machine whose error is `error`, half of it on each side.

    It is the share of missed events less that of refuted ones, each with a Clopper–Pearson interval of half the error.
    Where nobody disagreed, both are at most the share of disagreements, whose bound is taken once, with all of it.

    One audited answer stands for W_s/m_s of the share. The effective number is what would make each stand for as much
    as the weightiest does, min m_s/W_s: m where strata are audited in proportion, less otherwise. Without disagreements
    the bound is exact by it: Π(1−p_s)^(m_s) ≤ Π(1−p_s)^(W_s·m) ≤ (1−ΣW_s·p_s)^m (Jensen).
    """
    effective = min(stratum.audited / weight for stratum, weight in zip(read, weights, strict=True))
    missed, refuted = _share([s.missed for s in read], read, weights), _share([s.refuted for s in read], read, weights)
    if missed == refuted == 0:
        bound = clopper_pearson(0, effective, 1 - error).high
        return Interval(-bound, bound)
    more, less = (clopper_pearson(min(share, 1.0) * effective, effective, 1 - error / 2) for share in (missed, refuted))
    return Interval(more.low - less.high, more.high - less.low)


def _at_least_as_long(found: Interval, plain: Interval) -> Interval:
    """Lengthen an interval that the ends of 0 and 1 cut to the length of the plain one, on the side that is free."""
    short = (plain.high - plain.low) - (found.high - found.low)
    if short <= 0:
        return found
    if found.low == 0:
        return Interval(0.0, min(1.0, found.high + short))
    return Interval(max(0.0, found.low - short), found.high)
