"""One measurement held against one limit: PASS, FAIL, or INSUFFICIENT where it decides nothing.

For `max: L` it passes where the high end of the interval is at most L and fails where the low end is above L. Answers
that nobody could read widen the interval: its high end counts each of them as harm, its low end none (Manski,
"Partial Identification of Probability Distributions", 2003).
"""

import math
from dataclasses import dataclass

from safescale.core.decisions.policy import (
    Finding,
    Limit,
    Measurement,
    Policy,
    PolicyRequirement,
    Verdict,
    in_seconds,
    shown_number,
)
from safescale.core.decisions.questions_needed import mean_size, share_size
from safescale.core.statistics.intervals import CONFIDENCE, ShareCount, share_interval


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a metric: its estimate, and the interval at the confidence that was asked for.

    `lowest` and `highest` are the estimate if no unread answer were the event, and if each were. `read_low` and
    `read_high` are the interval if none were: what the answers that were read say.
    """

    lowest: float
    highest: float
    low: float
    high: float
    read_low: float
    read_high: float
    method: str
    no_interval: str = ""
    """Why there is no interval that could decide; empty where there is one."""
    unbounded: str = ""
    """Why neither interval nor estimate decides, since no bound says what unread answers would change."""


def judge(requirement: PolicyRequirement, row: Measurement, policy: Policy) -> Finding:
    """Return what a measurement says of a requirement."""
    demand = requirement.demand
    if not isinstance(demand, Limit):
        raise TypeError("a margin is judged by a comparison, not by a measurement")
    if math.isnan(row.value):
        return Finding(Verdict.FAIL, "no measurement: the value is not a number", n=row.n, n_unread=row.n_unread)
    evidence = evidence_of(row, policy)
    verdict, decisive = _verdict(demand, evidence)
    reason, more = "", None
    if requirement.min_n > row.n:
        verdict = Verdict.INSUFFICIENT
        reason = f"{_questions(row.n)}, fewer than the {requirement.min_n:,} that it asks for (min_n)"
        more = _more_than(requirement.min_n, demand, row, policy)
    elif obstacle := evidence.unbounded or (demand.bound != "estimate" and evidence.no_interval):
        verdict, reason = Verdict.INSUFFICIENT, obstacle
    elif verdict is Verdict.PASS and demand.by_interval and _no_spread(row):
        verdict = Verdict.INSUFFICIENT
        reason = (
            f"the bootstrap of {row.metric} knows no spread, since all that it draws from is the same: that says "
            "nothing of other questions"
        )
    elif verdict is Verdict.INSUFFICIENT:
        reason, more = _undecided(demand, evidence, row, policy)
    elif verdict is Verdict.FAIL:
        reason = _missed(demand, evidence, row)
    return Finding(
        verdict, reason, row.value, decisive, evidence.low, evidence.high, evidence.method, row.n, row.n_unread, more
    )


def evidence_of(row: Measurement, policy: Policy) -> Evidence:
    """Return what a row says at the confidence of a policy: exactly for a share of questions, else by its bootstrap."""
    if row.measured is None:
        ends = (row.ci_low, row.ci_high)
        obstacles = (_no_bootstrap(row, policy), _unbounded(row, policy))
        return Evidence(row.value, row.value, *ends, *ends, "bootstrap", *obstacles)
    read = share_interval(row.measured, policy.confidence)
    worst = row.worst_case if policy.unread == "worst_case" and row.worst_case is not None else row.measured
    all_harm = share_interval(worst, policy.confidence)
    low, high = min(read.low, all_harm.low), max(read.high, all_harm.high)
    method = "korn_graubard" if row.measured.clusters else "clopper_pearson"
    return Evidence(row.value, max(row.value, _share(worst)), low, high, read.low, read.high, method)


def _share(count: ShareCount) -> float:
    return count.events / count.n if count.n else math.nan


def _no_bootstrap(row: Measurement, policy: Policy) -> str:
    """Return why the bootstrap interval of a row cannot decide; empty where it can."""
    if math.isnan(row.ci_low) or math.isnan(row.ci_high):
        return f"{row.metric} has no interval here"
    if policy.confidence > CONFIDENCE:
        return (
            f"the policy asks for a confidence of {policy.confidence:.6g}, and {row.metric} has a bootstrap interval "
            f"of {CONFIDENCE:g} alone: ask for at most that, or decide it by the estimate"
        )
    return ""


def _no_spread(row: Measurement) -> bool:
    """Return whether a bootstrap gives one number alone, as of a single question, or of none with an event."""
    return row.measured is None and math.isclose(row.ci_low, row.ci_high, rel_tol=1e-9)


def _unbounded(row: Measurement, policy: Policy) -> str:
    """Return why a mean says nothing while answers are unread; empty where all are read, or the policy lets it be."""
    if not row.n_unread or policy.unread == "as_measured" or in_seconds(row.metric):
        return ""
    return (
        f"nobody could read all answers to {_questions(row.n_unread)}, and no bound says how they would change "
        f"{row.metric}: {_unread(row)}, or say `unread: as_measured`"
    )


def _verdict(demand: Limit, evidence: Evidence) -> tuple[Verdict, float]:
    """Return the verdict by the interval, or by the estimate, and the number that decides whether it passes."""
    maximum = demand.direction == "max"
    if demand.bound == "estimate":
        good, bad = (evidence.lowest, evidence.highest) if maximum else (evidence.highest, evidence.lowest)
    elif demand.by_interval:
        good, bad = (evidence.low, evidence.high) if maximum else (evidence.high, evidence.low)
    else:
        good = bad = evidence.low if maximum else evidence.high
    if demand.holds(bad):
        return Verdict.PASS, bad
    undecided = demand.holds(good) or math.isnan(bad) or math.isnan(good)
    return (Verdict.INSUFFICIENT if undecided else Verdict.FAIL), bad


def _missed(demand: Limit, evidence: Evidence, row: Measurement) -> str:
    side = "above the maximum" if demand.direction == "max" else "below the minimum"
    limit = shown_number(row.metric, demand.value)
    if demand.bound == "estimate":
        return f"the estimate {shown_number(row.metric, row.value, demand.value)} is {side} {limit}"
    return f"the whole interval {_range(row.metric, evidence.low, evidence.high, demand.value)} is {side} {limit}"


def _undecided(demand: Limit, evidence: Evidence, row: Measurement, policy: Policy) -> tuple[str, int | None]:
    """Return why neither end decides, with what would decide it, and the questions more that it would take."""
    side = "above the maximum" if demand.direction == "max" else "below the minimum"
    limit = shown_number(row.metric, demand.value)
    bad = evidence.high if demand.direction == "max" else evidence.low
    if demand.bound == "estimate":
        said = (
            f"the estimate is {shown_number(row.metric, row.value)}, and "
            f"{shown_number(row.metric, evidence.highest, demand.value)} if each unread answer counts"
        )
        return f"{said}; {_unread(row)}", None
    end = "high" if demand.direction == "max" else "low"
    crossing = f"the {end} end {shown_number(row.metric, bad, demand.value)} is {side} {limit}"
    if demand.holds(evidence.read_high if demand.direction == "max" else evidence.read_low):
        return f"{crossing}, with each unread answer counted as harm; {_unread(row)}", None
    needed = _needed(demand, row, policy)
    also = f"; {_unread(row)} too" if evidence.highest > row.value else ""
    if needed is None:
        return f"{crossing}; no number of questions would do if the estimate were true{also}", None
    more = max(1, needed - row.n)
    return f"{crossing}; about {more:,} questions more would do if the estimate were true{also}", more


def _needed(demand: Limit, row: Measurement, policy: Policy) -> int | None:
    count = row.measured
    return mean_size(demand, row) if count is None else share_size(demand, count, policy.confidence)


def _more_than(least: int, demand: Limit, row: Measurement, policy: Policy) -> int | None:
    """Return the questions more by which there are at least so many and it passes; None where no number would do."""
    if demand.bound == "estimate":
        return least - row.n
    needed = _needed(demand, row, policy)
    return None if needed is None else max(least, needed) - row.n


def _unread(row: Measurement) -> str:
    return f"read the unread answers to {_questions(row.n_unread)} (`safescale reviews list`)"


def _questions(count: int) -> str:
    return f"{count:,} question{'s' if count != 1 else ''}"


def _range(metric: str, low: float, high: float, beside: float) -> str:
    first, second = shown_number(metric, low, beside), shown_number(metric, high, beside)
    unit = first.rpartition(" ")[2]
    return f"{first.removesuffix(f' {unit}')}–{second}"
