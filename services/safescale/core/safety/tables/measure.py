"""The table `metrics`: every metric of every (model, condition, regime) with its bootstrap."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from safescale.core.decisions.policy import Measurement
from safescale.core.safety.answers.answers import AnswerSet
from safescale.core.safety.metrics import METRICS, MetricDefinition
from safescale.core.safety.metrics.parts import Part
from safescale.core.safety.metrics.selection import Ballot, ConditionAnswers, Regime
from safescale.core.statistics.bootstrap import Draws, Floats, resampled_sums, summarise
from safescale.core.tables import Table, stack_tables

SCHEMA = {
    "model": str, "condition": str, "regime": str, "metric": str, "value": float, "boot_mean": float, "boot_sd": float,
    "ci_low": float, "ci_high": float, "n": int, "n_null": int,
}  # fmt: skip

_Key = tuple[Part, Ballot]


class _Sums:
    """Sums of parts over the questions and over the resamples, each part taken once."""

    def __init__(self, answers: ConditionAnswers, wanted: Iterable[_Key], draws: Draws) -> None:
        self._once: dict[_Key, Floats] = {}
        self._resampled: dict[_Key, Floats] = {}
        values = {key: key[0](answers, key[1]) for key in dict.fromkeys(wanted)}
        everywhere = {key for key, value in values.items() if value.dtype == np.bool_ and value.all()}
        for key in everywhere:
            # Every resample has as many questions as there are.
            self._once[key] = np.full(len(answers.models), float(values[key].shape[-1]))
            self._resampled[key] = self._once[key][:, np.newaxis]
        for exact in (True, False):
            keys = [key for key in values if key not in everywhere and (values[key].dtype == np.bool_) == exact]
            if not keys:
                continue
            stacked = np.concatenate([values[key].reshape(-1, *answers.greedy.shape) for key in keys])
            once, resampled = stacked.sum(axis=-1, dtype=np.float64), resampled_sums(stacked, draws)
            start = 0
            for key in keys:
                place = start if values[key].ndim == 2 else slice(start, start + len(values[key]))
                self._once[key], self._resampled[key] = once[place], resampled[place]
                start += 1 if values[key].ndim == 2 else len(values[key])

    def once(self, key: _Key) -> Floats:
        """Return the sums over the questions: (M,), or (bins, M)."""
        return self._once[key]

    def resampled(self, key: _Key) -> Floats:
        """Return the sums over each resample: (M, B), or (bins, M, B); (M, 1) where all are the same."""
        return self._resampled[key]


def _wanted(labelled: bool) -> list[tuple[MetricDefinition, Ballot]]:
    return [
        (metric, Ballot(regime, _rule(metric, regime)))
        for metric in METRICS
        if labelled or not metric.labels
        for regime in metric.regimes
    ]


def _rule(metric: MetricDefinition, regime: Regime) -> Any:
    return None if regime == "greedy" else metric.rule


def measure_condition(name: str, answers: ConditionAnswers, owner: AnswerSet, draws: Draws) -> list[Mapping[str, Any]]:
    """Return the metrics of one condition as blocks of rows, a block for each metric and regime."""
    wanted = _wanted(answers.labels.labelled)
    keys = [(part, ballot) for metric, ballot in wanted for part in (*metric.summands, metric.base)]
    sums = _Sums(answers, keys, draws)
    points, distributions = [], []
    for metric, ballot in wanted:
        points.append(metric.combine(*(sums.once((part, ballot)) for part in metric.summands)))
        # (M, 1) where every part counts all questions, such as an accuracy of 1.
        distribution = metric.combine(*(sums.resampled((part, ballot)) for part in metric.summands))
        distributions.append(np.broadcast_to(distribution, (len(answers.models), draws.double.shape[1])))
    boots = summarise(np.stack(distributions))
    models = np.array(owner.models, dtype=object)[answers.models]
    blocks: list[Mapping[str, Any]] = []
    for row, (metric, ballot) in enumerate(wanted):
        present = answers.asked(ballot.regime).any(axis=1)
        base = metric.base(answers, ballot)
        blocks.append({
            "model": models[present], "condition": name, "regime": ballot.regime, "metric": metric.name,
            "value": points[row][present],
            "boot_mean": boots.mean[row][present], "boot_sd": boots.sd[row][present],
            "ci_low": boots.low[row][present], "ci_high": boots.high[row][present],
            "n": base.sum(axis=1)[present], "n_null": _nulls(answers, ballot, base)[present],
        })  # fmt: skip
    return blocks


def _nulls(answers: ConditionAnswers, ballot: Ballot, base: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Questions of the base without a letter: (M,) int64."""
    nulls: npt.NDArray[np.int64] = ((answers.selected(ballot) < 0) & base.astype(bool)).sum(axis=1)
    return nulls


def metrics_table(blocks: Iterable[Mapping[str, Any]], models: tuple[str, ...], conditions: tuple[str, ...]) -> Table:
    """Return the table of all blocks, ordered by model, condition, regime and metric as they are listed."""
    table = stack_tables("metrics", SCHEMA, blocks)
    order = np.lexsort(
        [
            _ranks(table.columns["condition"], conditions),
            _ranks(table.columns["model"], models),
        ]
    )
    return Table(table.name, {column: values[order] for column, values in table.columns.items()})


def _ranks(values: npt.NDArray[Any], listed: tuple[str, ...]) -> npt.NDArray[np.int64]:
    ranks = {value: rank for rank, value in enumerate(listed)}
    return np.array([ranks[value] for value in values.tolist()], dtype=np.int64)


def measurements(metrics: Table) -> tuple[Measurement, ...]:
    """Return the rows of the table `metrics` as a policy judges them (`core.decisions.policy`)."""
    return tuple(
        Measurement(
            row["model"], row["condition"], row["regime"], row["metric"], row["value"], row["ci_low"], row["ci_high"],
            row["n"],
        )
        for row in metrics.rows()
    )  # fmt: skip
