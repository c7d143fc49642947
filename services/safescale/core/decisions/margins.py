"""A candidate held against its baseline: not worse by the margin, worse by more, or not decided.

Non-inferiority of paired shares: it passes where the end of the interval of candidate − baseline that speaks against
the candidate is below the margin, and fails where the other end is above it. Unread answers widen the interval on both
sides (Manski 1989), as they do where a run is judged alone.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from safescale.core.decisions.compare import Discordance
from safescale.core.decisions.policy import Finding, Margin, Policy, PolicyRequirement, Verdict, percent
from safescale.core.decisions.questions_needed import POWER
from safescale.core.statistics.sample_size import size_for_margin


@dataclass(frozen=True, slots=True)
class PairedMeasurement:
    """One metric of a candidate and its baseline on the n questions that both answered.

    `harm` is False for an event that should be frequent. `worst` and `best` are the pairs if every unread answer spoke
    against or for the candidate; intervals are at the confidence of the policy. `n_unread` counts questions that nobody
    could read in full, on either side.
    """

    model: str
    condition: str
    regime: str
    metric: str
    harm: bool
    candidate_value: float
    baseline_value: float
    measured: Discordance
    worst: Discordance
    best: Discordance
    n_unread: int

    slice: ClassVar[str] = ""
    slice_value: ClassVar[str] = ""

    @property
    def n(self) -> int:
        """Questions compared."""
        return self.measured.n


@dataclass(frozen=True, slots=True)
class _Loss:
    """By how much the candidate is worse: estimate, and the interval with what is unread counted for and against it.

    `read_high` is the high end if nothing unread were held against it. `new` are questions that got worse, `possible`
    those that may have.
    """

    estimate: float
    low: float
    high: float
    read_high: float
    new: int
    possible: int


def judge_pair(requirement: PolicyRequirement, row: PairedMeasurement, policy: Policy) -> Finding:
    """Return what a comparison says of a margin."""
    margin = requirement.demand
    if not isinstance(margin, Margin):
        raise TypeError("a limit is judged by a measurement, not by a comparison")
    loss = _loss(row, policy)
    verdict, reason, more = _judged(margin, loss, row, policy)
    if requirement.min_n > row.n and not (verdict is Verdict.FAIL and margin.forbid_new and loss.new):
        verdict, more = Verdict.INSUFFICIENT, requirement.min_n - row.n
        reason = f"{_questions(row.n)}, fewer than the {requirement.min_n:,} that it asks for (min_n)"
    low, high = (loss.low, loss.high) if row.harm else (-loss.high, -loss.low)
    return Finding(
        verdict=verdict,
        reason=reason,
        value=row.candidate_value,
        decisive=high if row.harm else low,
        low=low,
        high=high,
        interval="tango" if math.isnan(row.measured.n_effective) else "tango_clusters",
        n=row.n,
        n_unread=row.n_unread,
        questions_more=more,
        baseline_value=row.baseline_value,
    )


def _loss(row: PairedMeasurement, policy: Policy) -> _Loss:
    counted = policy.unread == "worst_case"
    worst, best = (row.worst, row.best) if counted else (row.measured, row.measured)
    held = [_ends(each, harm=row.harm) for each in (worst, best, row.measured)]
    new, possible = ((each.only_candidate if row.harm else each.only_baseline) for each in (row.measured, worst))
    difference = row.measured.difference
    return _Loss(
        difference if row.harm else -difference,
        min(low for low, _ in held),
        max(high for _, high in held),
        held[2][1],
        new,
        max(new, possible),
    )


def _ends(pairs: Discordance, *, harm: bool) -> tuple[float, float]:
    low, high = pairs.interval.low, pairs.interval.high
    return (low, high) if harm else (-high, -low)


def _judged(margin: Margin, loss: _Loss, row: PairedMeasurement, policy: Policy) -> tuple[Verdict, str, int | None]:
    """Return the verdict with its reason, and the questions more that it would take where that is known."""
    what = "harm" if row.harm else "mistake"
    if margin.forbid_new and loss.new:
        said = "shows" if loss.new == 1 else "show"
        return Verdict.FAIL, f"{_questions(loss.new)} {said} a {what} that the baseline does not have there", None
    if loss.low > margin.value:
        return (
            Verdict.FAIL,
            f"the whole interval {_range(loss, margin)} is above the margin {_points(margin.value)}",
            None,
        )
    unread = f"read the unread answers to {_questions(row.n_unread)} (`safescale reviews list`)"
    if loss.high < margin.value:
        if margin.forbid_new and loss.possible:
            return Verdict.INSUFFICIENT, f"an answer that nobody could read may be a new {what}: {unread}", None
        return Verdict.PASS, "", None
    crossing = f"the interval {_range(loss, margin)} reaches the margin {_points(margin.value)}"
    if loss.read_high < margin.value:
        return Verdict.INSUFFICIENT, f"{crossing}, with each unread answer held against the candidate; {unread}", None
    also = f"; {unread} too" if row.n_unread and policy.unread == "worst_case" else ""
    discordance = (row.measured.only_candidate + row.measured.only_baseline) / row.n
    needed = size_for_margin(margin.value, discordance, POWER, policy.confidence, loss.estimate)
    if needed is None:
        return (
            Verdict.INSUFFICIENT,
            f"{crossing}; no number of questions would show it if the estimate were true{also}",
            None,
        )
    # In clusters as many times more as they leave fewer of them.
    more = max(1, math.ceil(needed * row.measured.design_effect) - row.n)
    return (
        Verdict.INSUFFICIENT,
        f"{crossing}; about {more:,} questions more would show it if the estimate were true{also}",
        more,
    )


def _questions(count: int) -> str:
    return f"{count:,} question{'s' if count != 1 else ''}"


def _points(value: float, beside: float = float("nan")) -> str:
    return percent(value, beside).replace(" %", " points")


def _range(loss: _Loss, margin: Margin) -> str:
    """Return by how many points the candidate is worse; negative where it is better."""
    ends = (_points(each, margin.value).removesuffix(" points") for each in (loss.low, loss.high))
    return f"{' to '.join(ends)} points".replace("-", "\u2212")
