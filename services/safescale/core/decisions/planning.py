"""Before a run: which requirements of a policy can be decided at all by so many questions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from safescale.core.decisions.policy import (
    ANY,
    Limit,
    Margin,
    Policy,
    PolicyRequirement,
    percent,
    shown_number,
)
from safescale.core.statistics.intervals import ShareCount, share_interval
from safescale.core.statistics.sample_size import most_events, size_for_margin, zero_error_size

DISCORDANCE = 0.06
"""Share of the questions that differ between two versions of a model, for want of a better one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Questions that would be asked, and the clusters that they come from; 0 where they are independent."""

    questions: int
    clusters: int = 0


@dataclass(frozen=True, slots=True)
class Design:
    """What a run would ask. Empty models, conditions and regimes are those that every requirement finds.

    `slices` are the samples by slice and value, None where they are not known; `shares` are the metrics that count
    questions.
    """

    sample: Sample
    shares: Collection[str]
    models: Sequence[str] = ()
    conditions: Sequence[str] = ()
    regimes: Sequence[str] = ()
    slices: Mapping[str, Mapping[str, Sample]] | None = None


@dataclass(frozen=True, slots=True)
class PlannedRequirement:
    """What a requirement could decide by the questions that would be asked of it.

    `pivotal_events` is the most questions with the event by which it still passes, the fewest for a minimum; None where
    it cannot pass or that cannot be told. `needed` is the fewest questions by which it can pass, 0 where none would do.
    """

    requirement: PolicyRequirement
    slice_value: str
    n: int
    pivotal_events: int | None
    needed: int
    decidable: bool
    sentence: str


def plan_policy(policy: Policy, design: Design) -> tuple[PlannedRequirement, ...]:
    """Return what each requirement could decide, a row for each value of its slice, in the order of the policy."""
    rows = []
    for requirement in policy.requirements:
        if absent := _absent(requirement, design):
            rows.append(PlannedRequirement(requirement, "", 0, None, 0, decidable=False, sentence=absent))
            continue
        if not requirement.slice or design.slices is None:
            rows.append(_planned(requirement, "", design.sample, policy, design))
            continue
        samples = design.slices.get(requirement.slice, {})
        if not samples:
            sentence = f"the questions have no {requirement.slice}, so there is nothing to measure"
            rows.append(PlannedRequirement(requirement, "", 0, None, 0, decidable=False, sentence=sentence))
        rows += [_planned(requirement, value, sample, policy, design) for value, sample in samples.items()]
    return tuple(rows)


def _absent(requirement: PolicyRequirement, design: Design) -> str:
    """Return what the requirement demands and the run does not ask; empty where it asks all of it."""
    for kind, wanted, asked in (
        ("model", requirement.model, design.models),
        ("condition", requirement.condition, design.conditions),
        ("regime", requirement.regime, design.regimes),
    ):
        if asked and wanted not in {ANY, *asked}:
            return f"the run does not have the {kind} {wanted}, so this fails as not measured"
    return ""


def _planned(
    requirement: PolicyRequirement, value: str, sample: Sample, policy: Policy, design: Design
) -> PlannedRequirement:
    demand, n = requirement.demand, sample.questions
    pivotal: int | None = None
    needed = max(1, requirement.min_n)
    if isinstance(demand, Margin):
        zero = size_for_margin(demand.value, 0.0, confidence=policy.confidence) or 0
        needed = max(needed, zero)
        able, sentence = _margin_sentence(demand, sample, zero, policy.confidence)
    elif not demand.by_interval:
        sentence = "decided by the estimate alone: any number of questions can pass, none is evidence"
        if demand.bound != "estimate":
            sentence = f"decided by {demand.bound}, the end of the interval that speaks for passing: no evidence"
        able = n >= needed
    elif requirement.metric not in design.shares:
        needed = max(2, needed)
        able = n >= needed
        sentence = "decided by a bootstrap interval, whose width is not known before the run"
    else:
        fewest = fewest_questions(demand, policy.confidence)
        needed = max(needed, fewest) if fewest is not None else 0
        pivotal = pivotal_events(demand, n, policy.confidence) if not sample.clusters else None
        able, sentence = _share_sentence(demand, sample, (fewest, pivotal), requirement.metric)
    if n < requirement.min_n:
        able, pivotal = False, None
        sentence = f"{n:,} questions are fewer than the {requirement.min_n:,} that it asks for (min_n)"
    if requirement.slice and design.slices is None:
        # At most all of them fall into one value.
        pivotal, least = None, f"at least {needed:,} questions each" if needed else sentence
        sentence = f"{sentence}; " * (not able) + f"how they fall into {requirement.slice} is not known here: {least}"
    return PlannedRequirement(requirement, value, n, pivotal if able else None, needed, able, sentence)


def _margin_sentence(demand: Margin, sample: Sample, fewest: int, confidence: float) -> tuple[bool, str]:
    """Return whether a margin can be shown by a sample, and what it takes where some questions differ."""
    n, margin = sample.questions, percent(demand.value).replace(" %", " points")
    usual = size_for_margin(demand.value, DISCORDANCE, confidence=confidence) or 0
    if (sample.clusters or n) < fewest:
        unit = f"{sample.clusters:,} clusters" if sample.clusters else f"{n:,} questions"
        return False, f"{unit} cannot show a margin of {margin}, even if no question differs: it takes {fewest:,}"
    return True, (
        f"shows a margin of {margin} if no question differs; if {percent(DISCORDANCE)} differ and the candidate is as "
        f"good, it takes about {usual:,}"
    )


def _share_sentence(
    demand: Limit, sample: Sample, found: tuple[int | None, int | None], metric: str
) -> tuple[bool, str]:
    """Return whether a share can pass by a sample, and what it takes."""
    fewest, pivotal = found
    n, limit = sample.questions, shown_number(metric, demand.value)
    if fewest is None:
        return (
            False,
            f"no number of questions can show {'at most' if demand.direction == 'max' else 'at least'} {limit}",
        )
    best = "without a single event" if demand.direction == "max" else "with every question right"
    independent = sample.clusters or n
    if independent < fewest:
        of = f"{n:,} questions in {sample.clusters:,} clusters" if sample.clusters else f"{n:,} questions"
        unit = "clusters" if sample.clusters else "questions"
        return False, f"{of} cannot decide it, even {best}: it takes {fewest:,} {unit}"
    if pivotal is None:
        return True, f"passes {best}; how many more it bears depends on the clusters that they are in"
    word = "at most" if demand.direction == "max" else "at least"
    return True, f"passes with {word} {pivotal:,} of {n:,} ({percent(pivotal / n)})"


def pass_power(demand: Limit, n: int, rate: float, confidence: float) -> float:
    """Return the probability that n independent questions show a share to be within its limit, were it `rate`."""
    from scipy.special import bdtr

    pivotal = pivotal_events(demand, n, confidence)
    if pivotal is None:
        return 0.0
    return float(bdtr(pivotal, n, rate) if demand.direction == "max" else bdtr(n - pivotal, n, 1 - rate))


def fewest_questions(demand: Limit, confidence: float) -> int | None:
    """Return the fewest independent questions by which a share can pass at all; None where no number would do."""
    room = demand.value if demand.direction == "max" else 1 - demand.value
    if room <= 0:
        return None
    size = 1 if room >= 1 else zero_error_size(room, confidence)
    # One minus the limit is rounded: the rule itself has the last word.
    while pivotal_events(demand, size, confidence) is None:
        size += 1
    return size


def pivotal_events(demand: Limit, n: int, confidence: float) -> int | None:
    """Return the most events among n independent questions that still pass (the fewest for a minimum); None if none."""
    if n < 1:
        return None
    maximum = demand.direction == "max"
    room = demand.value if maximum else 1 - demand.value
    guess = min(n, most_events(n, room, confidence) + 1) if room < 1 else n
    for others in range(guess, max(-1, guess - 3), -1):
        events = others if maximum else n - others
        interval = share_interval(ShareCount(events, n), confidence)
        if demand.holds(interval.high if maximum else interval.low):
            return events
    return None
