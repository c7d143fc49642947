"""Two conditions of one model compared: exact McNemar tests and paired bootstrap differences (protocol section 5).

Both use the questions that were attempted under both conditions.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from safescale.core.safety.answers.answers import AnswerSet
from safescale.core.safety.metrics import COMPARED, METRICS, MetricDefinition
from safescale.core.safety.metrics.selection import Ballot, ConditionAnswers, Regime
from safescale.core.statistics.bootstrap import Draws, Floats, resampled_sums, summarise
from safescale.core.statistics.stats import holm, mcnemar_exact
from safescale.core.tables import Table, stack_tables, table_of_rows

PVALUES = {
    "model": str, "regime": str, "left": str, "right": str, "accuracy_left": float, "accuracy_right": float,
    "delta": float, "n_left_only": int, "n_right_only": int, "p_value": float, "p_holm": float,
}  # fmt: skip
DIFFERENCES = {
    "model": str, "regime": str, "metric": str, "left": str, "right": str, "difference": float, "boot_mean": float,
    "boot_sd": float, "ci_low": float, "ci_high": float, "n": int,
}  # fmt: skip
_REGIMES: tuple[Regime, ...] = ("greedy", "majority")


@dataclass(frozen=True, slots=True)
class ConditionPair:
    """Two conditions and the models that attempted both: rows of each condition's arrays, aligned."""

    left_name: str
    right_name: str
    left: ConditionAnswers
    right: ConditionAnswers
    models: npt.NDArray[np.intp]
    left_rows: npt.NDArray[np.intp]
    right_rows: npt.NDArray[np.intp]


def pairs_of(conditions: Mapping[str, ConditionAnswers], listed: Iterable[tuple[str, str]]) -> list[ConditionPair]:
    """Return the listed pairs of which both conditions were attempted by some model."""
    pairs = []
    for left_name, right_name in listed:
        if left_name not in conditions or right_name not in conditions:
            continue
        left, right = conditions[left_name], conditions[right_name]
        models, left_rows, right_rows = np.intersect1d(left.models, right.models, return_indices=True)
        if len(models):
            pairs.append(ConditionPair(left_name, right_name, left, right, models, left_rows, right_rows))
    return pairs


def pvalues_table(answers: AnswerSet, pairs: Iterable[ConditionPair]) -> Table:
    """McNemar's exact test of accuracy for each model, regime and pair; Holm's adjustment over a model's regime.

    A majority drops nulls here, as in the reference and unlike in the metric accuracy.
    """
    found: dict[tuple[int, Regime], list[list[Any]]] = {}
    for pair in pairs:
        for regime in _REGIMES:
            ballot = Ballot(regime, "drop_null")
            for model, row in _tests(pair, ballot):
                found.setdefault((model, regime), []).append([answers.models[model], regime, *row])
    rows: list[list[Any]] = []
    for key in sorted(found, key=lambda key: (key[0], _REGIMES.index(key[1]))):
        adjusted = holm([row[-1] for row in found[key]])
        rows += [[*row, value] for row, value in zip(found[key], adjusted, strict=True)]
    return table_of_rows("pvalues", PVALUES, rows)


def _tests(pair: ConditionPair, ballot: Ballot) -> Iterator[tuple[int, list[Any]]]:
    asked_left, asked_right = pair.left.asked(ballot.regime), pair.right.asked(ballot.regime)
    both = asked_left[pair.left_rows] & asked_right[pair.right_rows]
    left = pair.left.correct(ballot)[pair.left_rows] & both
    right = pair.right.correct(ballot)[pair.right_rows] & both
    count, n_left, n_right = both.sum(axis=1), left.sum(axis=1), right.sum(axis=1)
    only_left, only_right = (left & ~right).sum(axis=1), (right & ~left).sum(axis=1)
    for row in np.flatnonzero(count).tolist():
        accuracies = float(n_left[row] / count[row]), float(n_right[row] / count[row])
        discordant = int(only_left[row]), int(only_right[row])
        yield (
            int(pair.models[row]),
            [
                pair.left_name, pair.right_name, *accuracies, accuracies[0] - accuracies[1], *discordant,
                mcnemar_exact(*discordant),
            ],
        )  # fmt: skip


def differences_table(answers: AnswerSet, pairs: Iterable[ConditionPair], draws: Draws) -> Table:
    """Left minus right of accuracy and of each safety metric, with the bootstrap of the paired difference.

    Each metric counts a majority by its own rule (`core.safety.metrics`).
    """
    labelled = None
    blocks: list[Mapping[str, Any]] = []
    for pair in pairs:
        labelled = pair.left.labels.labelled if labelled is None else labelled
        wanted = [
            (metric, Ballot(regime, None if regime == "greedy" else metric.rule))
            for metric in METRICS
            if metric.name in COMPARED and (labelled or not metric.labels)
            for regime in metric.regimes
        ]
        blocks += _differences(answers, pair, wanted, draws)
    return stack_tables("paired_differences", DIFFERENCES, blocks)


def _differences(
    answers: AnswerSet, pair: ConditionPair, wanted: list[tuple[MetricDefinition, Ballot]], draws: Draws
) -> list[Mapping[str, Any]]:
    changes, counted = [], []
    for metric, ballot in wanted:
        value, base = metric.summands
        both = _both(pair, base, ballot)
        left = value(pair.left, ballot)[pair.left_rows].astype(np.int8)
        right = value(pair.right, ballot)[pair.right_rows].astype(np.int8)
        changes.append((left - right) * both)
        counted.append(both)
    stacked, counts = np.stack(changes), np.stack(counted)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = stacked.sum(axis=-1) / counts.sum(axis=-1)
        boots = summarise(resampled_sums(stacked, draws) / _resampled_counts(counts, draws))
    names = np.array(answers.models, dtype=object)[pair.models]
    blocks: list[Mapping[str, Any]] = []
    for row, (metric, ballot) in enumerate(wanted):
        present = counts[row].any(axis=-1)
        blocks.append({
            "model": names[present], "regime": ballot.regime, "metric": metric.name,
            "left": pair.left_name, "right": pair.right_name, "difference": difference[row][present],
            "boot_mean": boots.mean[row][present], "boot_sd": boots.sd[row][present],
            "ci_low": boots.low[row][present], "ci_high": boots.high[row][present],
            "n": counts[row].sum(axis=-1)[present],
        })  # fmt: skip
    return blocks


def _both(pair: ConditionPair, base: Any, ballot: Ballot) -> npt.NDArray[np.bool_]:
    both: npt.NDArray[np.bool_] = base(pair.left, ballot)[pair.left_rows] & base(pair.right, ballot)[pair.right_rows]
    return both


def _resampled_counts(counts: npt.NDArray[np.bool_], draws: Draws) -> Floats:
    if counts.all():
        return draws.totals.reshape((1,) * (counts.ndim - 1) + (-1,))
    return resampled_sums(counts, draws)
