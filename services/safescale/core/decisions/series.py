"""Evidence that a system got worse from run to run of a series, valid however often one looks.

*Drift*: the same questions as in the reference run. Of each question whose outcome differs from the reference's, worse
or better is a fair coin where nothing drifted, since its two outcomes are exchangeable then. Where questions come in
clusters, the coin is that of the cluster: worse where more of its questions got worse than better. So each comparison
of a run with the reference is an e-value (`core.statistics.evalues.drift_evidence`).

The e-values of a series are neither multiplied nor pooled, for all of them share the reference: where its outcome was
lucky a question can only get worse, again and again. They are added, the r-th revision of the system by the weight
½/(r·(r+1)) and the t-th run of a revision that is known by ½/(t·(t+1)). The weights sum to 1 and each summand has an
expectation of its weight at most, whatever depends on what; the sum never falls, and so ever reaches 1/α with a
probability of α at most (Markov; Vovk and Wang, Annals of Statistics 49 (2021) 1736, on means of e-values). A run that
answers as its revision did before adds nothing: asking a deterministic model again is no new evidence.

*Rate*: fresh questions in each run, against the most that a harm may be (`core.statistics.evalues.rate_evidence`).

The combined evidence of a kind is the mean over its family, all models, conditions, regimes and metrics of the first
run. The mean of e-values is an e-value, so α is the error of the whole kind; a member alone has an error of α each.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from safescale.core.statistics.evalues import ALARM_ERROR, drift_evidence, log_rate_evidence

DRIFT, RATE = "drift", "rate"
ALARM_AT = 1 / ALARM_ERROR
MOST_LOG10 = 308
MOST = 1e308
"""The most that evidence is said to be: what is infinite cannot be written everywhere."""

GOOD = frozenset({"accuracy"})
"""Metrics of which the event is good; of all others it is harm."""

Events = Mapping[str, bool]
"""Whether a question counts, by metric."""


class AnswerPlace(NamedTuple):
    """Where answers are compared."""

    model: str
    condition: str
    regime: str


@dataclass(frozen=True, slots=True)
class System:
    """What answered under a condition: the model's revision, and the identity of all that decides its answers."""

    revision: str
    identity: str


@dataclass(frozen=True, slots=True)
class SeriesRun:
    """A completed run of a series.

    `setting` is what must be alike in all runs, by words for it; empty values are not known and not compared. `limits`
    are those of fresh questions by metric, where the questions were `drawn`; without any, those `of_policy` hold.
    """

    run_id: str
    created_at_s: int
    setting: Mapping[str, str]
    systems: Mapping[tuple[str, str], System]
    regimes: Sequence[str]
    question_ids: frozenset[str]
    drawn: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    of_policy: Mapping[AnswerPlace, Mapping[str, float]] = field(default_factory=dict)

    def limits_at(self, place: AnswerPlace) -> list[tuple[str, float]]:
        """Return metrics and limits of fresh questions at a place, in order."""
        return sorted((self.limits or self.of_policy.get(place, {})).items())

    def places(self) -> list[AnswerPlace]:
        """Return where it has answers."""
        return [AnswerPlace(*pair, regime) for pair in self.systems for regime in self.regimes]

    def unlike(self, other: "SeriesRun") -> list[str]:
        """Return each setting in which two runs differ."""
        return [
            f"{name} was {other.setting[name]} and is {value}"
            for name, value in self.setting.items()
            if value and other.setting.get(name) and other.setting[name] != value
        ]


Outcomes = Mapping[AnswerPlace, Mapping[str, Events]]
"""What the answers of a run mean, by place and question; without what nobody could read, and what failed."""


@dataclass(frozen=True, slots=True)
class Point:
    """The evidence up to a run, at one place; of a whole kind where `place` and `metric` are empty.

    `n` are questions that count as new evidence in this run, `left_out` those that could not be read.
    """

    run: SeriesRun
    kind: str
    place: AnswerPlace
    metric: str
    n: int
    worse: int
    better: int
    left_out: int
    evidence: float
    alarm: bool
    limit: float | None = None

    @property
    def revision(self) -> str:
        """Revision of the model; all revisions of the run where the point is of a whole kind."""
        if self.place.model:
            return self.run.systems[self.place.model, self.place.condition].revision
        return ", ".join(dict.fromkeys(system.revision for system in self.run.systems.values() if system.revision))


WHOLE = AnswerPlace("", "", "")


class _Member(NamedTuple):
    place: AnswerPlace
    metric: str
    limit: float | None = None


@dataclass(slots=True)
class _Compared:
    """What was compared at a place: the last outcomes of each revision, and how many runs had one that was known."""

    last: dict[str, Mapping[str, Events]]
    repeats: int = 0

    def weight(self, identity: str, outcomes: Mapping[str, Events]) -> float:
        """Return the weight of a run's comparison, and take it up; 0 where it answers as its revision did before."""
        before = self.last.get(identity)
        self.last[identity] = outcomes
        if before is None:
            # The revision of the reference is known from the start.
            number = len(self.last) - 1
        else:
            self.repeats += 1
            number = self.repeats
            if all(before[question] == outcomes[question] for question in before.keys() & outcomes.keys()):
                return 0.0
        return 0.5 / (number * (number + 1))


class DriftEvidence:
    """Evidence that answers to the same questions got worse than those of the reference run."""

    def __init__(self, reference: SeriesRun, outcomes: Outcomes, clusters: Mapping[str, str] | None = None) -> None:
        """Take the reference run, what its answers mean, and the clusters of its questions, where it has any."""
        self.reference = reference
        self._outcomes = outcomes
        self._clusters = clusters or {}
        self._compared = {place: _Compared({_identity(reference, place): outcomes[place]}) for place in outcomes}
        self._evidence: dict[_Member, float] = {
            _Member(place, metric): 0.0
            for place, questions in outcomes.items()
            for metric in sorted({metric for events in questions.values() for metric in events})
        }

    def add(self, run: SeriesRun, outcomes: Outcomes) -> list[Point]:
        """Compare a run with the reference; return its points, that of the whole kind first."""
        points: list[Point] = []
        asked = len(run.question_ids & self.reference.question_ids)
        for place in run.places():
            before, now = self._outcomes.get(place, {}), outcomes.get(place, {})
            if not before.keys() & now.keys():
                continue
            weight = self._compared[place].weight(_identity(run, place), now)
            for member in [each for each in self._evidence if each.place == place and weight]:
                n, worse, better = self._changes(member.metric, before, now)
                self._evidence[member] += weight * drift_evidence(worse, better)
                points.append(_point(run, DRIFT, member, (n, worse, better, asked - n), self._evidence[member]))
        mean = math.fsum(self._evidence.values()) / max(1, len(self._evidence))
        return [_whole(run, DRIFT, points, mean, mean >= ALARM_AT), *points]

    def _changes(self, metric: str, before: Mapping[str, Events], now: Mapping[str, Events]) -> tuple[int, int, int]:
        """Return the questions whose outcome is known in both, and the clusters that got worse and better.

        A question of no cluster is one by itself.
        """
        n = 0
        changed: Counter[str] = Counter()
        for question in before.keys() & now.keys():
            was, is_now = before[question].get(metric), now[question].get(metric)
            if was is not None and is_now is not None:
                n += 1
                changed[self._clusters.get(question) or question] += is_now - was
        appeared, vanished = (sum(sign * net > 0 for net in changed.values()) for sign in (1, -1))
        return (n, vanished, appeared) if metric in GOOD else (n, appeared, vanished)

    def without_reference(self, run: SeriesRun) -> list[str]:
        """Return the models and conditions of a run that the reference has no answers of."""
        known = {(place.model, place.condition) for place in self._outcomes}
        return [f"{model} / {condition}" for model, condition in run.systems if (model, condition) not in known]


def _identity(run: SeriesRun, place: AnswerPlace) -> str:
    return run.systems[place.model, place.condition].identity


class RateEvidence:
    """Evidence that a harm among fresh questions is over its limit. A question that is asked again counts once."""

    def __init__(self, first: SeriesRun) -> None:
        self.reference = first
        self._family = [_Member(place, *limit) for place in first.places() for limit in first.limits_at(place)]
        self._counts: dict[_Member, tuple[int, int]] = {}
        self._asked: dict[AnswerPlace, set[str]] = {}
        self._evidence: dict[_Member, float] = {}
        self._alarms: set[_Member | None] = set()

    def add(self, run: SeriesRun, outcomes: Outcomes) -> list[Point]:
        """Count the fresh questions of a run; return its points, that of the whole kind first."""
        points = []
        for place in run.places():
            asked = self._asked.setdefault(place, set())
            fresh = run.question_ids - asked
            known = {name: events for name, events in outcomes.get(place, {}).items() if name in fresh}
            asked.update(known)
            for metric, limit in run.limits_at(place):
                member = _Member(place, metric, limit)
                counted = [events[metric] for events in known.values() if metric in events]
                evidence = self._bet(member, sum(counted), len(counted))
                counts = (len(counted), sum(counted), 0, len(fresh) - len(counted))
                points.append(_point(run, RATE, member, counts, evidence, alarm=member in self._alarms))
        mean = math.fsum(self._evidence.get(member, 1.0) for member in self._family) / max(1, len(self._family))
        if mean >= ALARM_AT:
            self._alarms.add(None)
        return [_whole(run, RATE, points, mean, None in self._alarms), *points]

    def _bet(self, member: _Member, events: int, n: int) -> float:
        # The sums of the nights decide, not their order.
        before = self._counts.get(member, (0, 0))
        self._counts[member] = (before[0] + events, before[1] + n)
        logarithm = float(log_rate_evidence([self._counts[member]], member.limit or 0.0)[-1])
        evidence = self._evidence[member] = MOST if logarithm > MOST_LOG10 else 10.0**logarithm
        if evidence >= ALARM_AT:
            self._alarms.add(member)
        return evidence


_Counts = tuple[int, int, int, int]
"""Questions that count, those that got worse, those that got better, those left out."""


def _point(
    run: SeriesRun, kind: str, member: _Member, counts: _Counts, evidence: float, *, alarm: bool = False
) -> Point:
    n, worse, better, left_out = counts
    reached = alarm or evidence >= ALARM_AT
    return Point(
        run, kind, member.place, member.metric, n, worse, better, left_out, min(evidence, MOST), reached, member.limit
    )


def _whole(run: SeriesRun, kind: str, points: Sequence[Point], mean: float, alarm: bool) -> Point:
    """Return the point of a whole kind: of its counts those of the place and metric where most are new."""
    most = max(points, key=lambda point: (point.n, point.worse, point.better), default=None)
    counts = (0, 0, 0, 0) if most is None else (most.n, most.worse, most.better, most.left_out)
    return _point(run, kind, _Member(WHOLE, ""), counts, mean, alarm=alarm)
