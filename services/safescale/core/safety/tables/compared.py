"""Candidate and baseline compared: accuracy and every harm under each condition, and the questions that differ."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from safescale.core.decisions.compare import (
    Codes,
    Flip,
    Outcomes,
    PairedShares,
    adjusted,
    flips,
    gravity,
    paired_shares,
)
from safescale.core.safety.answers.answers import AnswerSet, LabelSet
from safescale.core.safety.metrics import COMPARED, METRICS, SAFETY_METRICS, MetricDefinition
from safescale.core.safety.metrics.selection import Ballot, ConditionAnswers, Regime
from safescale.core.statistics.intervals import CONFIDENCE

Side = Literal["candidate", "baseline"]

REGIMES: tuple[Regime, ...] = ("greedy", "majority")
"""Regimes in which one answer of a question counts, so that questions can be paired."""

GRAVEST_FIRST: tuple[str, ...] = (*SAFETY_METRICS, *(name for name in COMPARED if name not in SAFETY_METRICS))
"""The metrics compared, harms before accuracy."""

_COMPARED = [next(metric for metric in METRICS if metric.name == name) for name in GRAVEST_FIRST]


def side_model(side: Side, model: str) -> str:
    """Return the name under which a side's model stands in the answer set: both runs can have a model of one name."""
    return f"{side}/{model}"


@dataclass(frozen=True, slots=True)
class ModelPair:
    """The models of candidate and baseline that are compared."""

    candidate: str
    baseline: str


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One metric of a pair of models under one condition in one regime. `left_out` questions were not compared."""

    pair: ModelPair
    condition: str
    regime: Regime
    metric: str
    shares: PairedShares
    left_out: int


@dataclass(frozen=True, slots=True)
class ComparedFlip:
    """A question whose outcome differs, and where."""

    pair: ModelPair
    condition: str
    regime: Regime
    question_id: str
    flip: Flip


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows in the order of pairs, conditions, regimes and metrics; flips with what got worse first.

    `uncompared` are pairs, conditions and regimes that both sides were asked in without a question that both answered.
    """

    rows: tuple[ComparedRow, ...]
    flips: tuple[ComparedFlip, ...]
    uncompared: tuple[tuple[ModelPair, str, Regime], ...] = ()


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """`question_count` questions were asked of either side; `regimes` are those that may be compared."""

    question_count: int
    regimes: Sequence[Regime] = REGIMES
    confidence: float = CONFIDENCE


def compare_answers(
    sets: Sequence[tuple[AnswerSet, LabelSet]], pairs: Sequence[ModelPair], options: CompareOptions
) -> Comparison:
    """Compare pairs of models; p-values are adjusted over all rows.

    Each set is of one formulation, and holds models of both sides, named by `side_model`, without failed cells.
    """
    found = []
    for answers, labels in sets:
        # Prepared once for all pairs: votes are counted over all models of a condition together.
        conditions = [_ConditionOutcomes(answers, labels, number) for number in range(len(answers.conditions))]
        found += [_of_pair(condition, pair, options) for pair in pairs for condition in conditions]
    rows = [row for each in found for row in each.rows]
    shares = adjusted([row.shares for row in rows])
    # Stable: of equal gravity in the order of pairs, conditions, regimes and questions.
    listed = sorted((flip for each in found for flip in each.flips), key=lambda one: gravity(one.flip, GRAVEST_FIRST))
    return Comparison(
        tuple(replace(row, shares=each) for row, each in zip(rows, shares, strict=True)),
        tuple(listed),
        tuple(place for each in found for place in each.uncompared),
    )


class _ConditionOutcomes:
    """The answers of both sides under one condition, and what they come to by metric and regime."""

    def __init__(self, answers: AnswerSet, labels: LabelSet, number: int) -> None:
        self.name = answers.conditions[number]
        self.question_ids = answers.question_ids
        self.view = ConditionAnswers(answers, labels, number)
        self.models = [answers.models[model] for model in self.view.models]
        self._outcomes: dict[tuple[str, Regime], Outcomes] = {}

    def outcomes(self, sides: tuple[str, str], regime: Regime) -> dict[str, tuple[Outcomes, Outcomes]]:
        """Return the outcomes of both sides by metric, the gravest first; none where one was not asked."""
        if not set(sides) <= set(self.models):
            return {}
        rows = [self.models.index(side) for side in sides]
        asked = self.view.asked(regime)
        if not all(asked[row].any() for row in rows):
            return {}
        labelled = self.view.labels.labelled
        wanted = [metric for metric in _COMPARED if regime in metric.regimes and (labelled or not metric.labels)]
        return {
            metric.name: (self._of(metric, regime, rows[0]), self._of(metric, regime, rows[1])) for metric in wanted
        }

    def _of(self, metric: MetricDefinition, regime: Regime, row: int) -> Outcomes:
        found = self._outcomes.get((metric.name, regime))
        if found is None:
            found = self._outcomes[metric.name, regime] = _outcomes(self.view, metric, regime)
        fields = (found.event, found.certain, found.possible, found.unread, found.answered)
        return Outcomes(*(each[row] for each in fields))


def _outcomes(view: ConditionAnswers, metric: MetricDefinition, regime: Regime) -> Outcomes:
    """Return the outcomes of all models, each field (M, Q)."""
    ballot = Ballot(regime, None if regime == "greedy" else metric.rule)
    event, unread = np.asarray(metric.summands[0](view, ballot), np.bool_), view.unread(regime)
    # A harm says itself what it may be at worst; any answer that was not read may be the correct one.
    possible = unread if metric.worst is None else np.asarray(metric.worst(view, ballot), np.bool_)
    answered = np.asarray(metric.base(view, ballot), np.bool_)
    return Outcomes(event, event & ~unread, event | possible, unread, answered)


def _of_pair(condition: _ConditionOutcomes, pair: ModelPair, options: CompareOptions) -> Comparison:
    """Compare one pair under one condition; nothing where one of the two was not asked there."""
    sides = side_model("candidate", pair.candidate), side_model("baseline", pair.baseline)
    rows: list[ComparedRow] = []
    listed: list[ComparedFlip] = []
    empty: list[tuple[ModelPair, str, Regime]] = []
    for regime in options.regimes:
        outcomes = condition.outcomes(sides, regime)
        made = _rows(outcomes, condition.view.labels.clusters, options)
        if outcomes and not made:
            empty.append((pair, condition.name, regime))
        rows += [
            ComparedRow(pair, condition.name, regime, name, shares, options.question_count - shares.n)
            for name, shares in made
        ]
        listed += [
            ComparedFlip(pair, condition.name, regime, condition.question_ids[flip.question], flip)
            for flip in flips(outcomes, SAFETY_METRICS)
        ]
    return Comparison(tuple(rows), tuple(listed), tuple(empty))


def _rows(
    outcomes: dict[str, tuple[Outcomes, Outcomes]], clusters: Codes | None, options: CompareOptions
) -> list[tuple[str, PairedShares]]:
    """Return the compared metrics in the order of `METRICS`; none where nothing was answered by both."""
    made = []
    for name in (metric.name for metric in METRICS if metric.name in outcomes):
        candidate, baseline = outcomes[name]
        shares = paired_shares(
            candidate, baseline, harm=name in SAFETY_METRICS, confidence=options.confidence, clusters=clusters
        )
        if shares is not None:
            made.append((name, shares))
    return made
