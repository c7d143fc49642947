"""The table `metrics`: every metric of every (model, condition, regime) with its bootstrap and exact interval."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from safescale.core.decisions.policy import Measurement
from safescale.core.safety.answers.answers import AnswerSet
from safescale.core.safety.metrics import METRICS, MetricDefinition
from safescale.core.safety.metrics.parts import Part
from safescale.core.safety.metrics.selection import Ballot, ConditionAnswers, Regime
from safescale.core.statistics.bootstrap import Bootstrap, Draws, Floats, resampled_sums, summarise
from safescale.core.statistics.intervals import ShareCount, ShareCounts, share_counts, share_intervals
from safescale.core.tables import Table, stack_tables

COUNTED = {
    "model": str, "condition": str, "regime": str, "metric": str, "value": float, "boot_mean": float, "boot_sd": float,
    "ci_low": float, "ci_high": float, "n": int, "n_null": int, "n_unread": int, "events": float, "n_effective": float,
    "worst_events": float, "worst_n_effective": float, "clusters": int, "clusters_effective": float, "freedom": float,
}  # fmt: skip
"""What is counted of each metric; `events` and what follows from them are NaN for what is no share of questions."""

EXACT = {"exact_low": float, "exact_high": float, "worst_high": float, "interval": str}
"""Intervals that follow from the counts."""

SCHEMA = {**COUNTED, **EXACT}

CLOPPER_PEARSON, KORN_GRAUBARD, BOOTSTRAP = "clopper_pearson", "korn_graubard", "bootstrap"
"""How the interval to be shown is made."""

_Key = tuple[Part, Ballot]


class _Sums:
    """Sums of parts over the questions and over the resamples, each part taken once."""

    def __init__(self, answers: ConditionAnswers, wanted: Iterable[_Key], draws: Draws) -> None:
        self._once: dict[_Key, Floats] = {}
        self._resampled: dict[_Key, Floats] = {}
        self._values = values = {key: key[0](answers, key[1]) for key in dict.fromkeys(wanted)}
        everywhere = {key for key, value in values.items() if value.dtype == np.bool_ and value.all()}
        for key in everywhere:
            # Every resample has as many of them as it has questions.
            self._once[key] = np.full(len(answers.models), float(values[key].shape[-1]))
            self._resampled[key] = np.broadcast_to(draws.totals, (len(answers.models), len(draws.totals)))
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

    def values(self, key: _Key) -> npt.NDArray[Any]:
        """Return the values of each question: (M, Q), or (bins, M, Q)."""
        return self._values[key]

    def once(self, key: _Key) -> Floats:
        """Return the sums over the questions: (M,), or (bins, M)."""
        return self._once[key]

    def resampled(self, key: _Key) -> Floats:
        """Return the sums over each resample: (M, B), or (bins, M, B); (M, 1) where all are the same."""
        return self._resampled[key]


def _every(metric: MetricDefinition) -> bool:
    del metric
    return True


def wanted_metrics(labelled: bool, kind: Callable[[MetricDefinition], bool]) -> list[tuple[MetricDefinition, Ballot]]:
    """Return the metrics of a kind that can be measured, in each of their regimes."""
    return [
        (metric, Ballot(regime, _rule(metric, regime)))
        for metric in METRICS
        if (labelled or not metric.labels) and kind(metric)
        for regime in metric.regimes
    ]


def _rule(metric: MetricDefinition, regime: Regime) -> Any:
    return None if regime == "greedy" else metric.rule


def measure_condition(
    name: str, answers: ConditionAnswers, owner: AnswerSet, draws: Draws,
    kind: Callable[[MetricDefinition], bool] = _every,
) -> list[Mapping[str, Any]]:  # fmt: skip
    """Return the metrics of a kind under one condition as blocks of rows, a block for each metric and regime."""
    wanted = wanted_metrics(answers.labels.labelled, kind)
    keys = [(part, ballot) for metric, ballot in wanted for part in (*metric.summands, metric.base)]
    sums = _Sums(answers, keys, draws)
    boots = _bootstraps(sums, wanted, draws)
    models = np.array(owner.models, dtype=object)[answers.models]
    blocks: list[Mapping[str, Any]] = []
    for row, (metric, ballot) in enumerate(wanted):
        present = answers.asked(ballot.regime).any(axis=1)
        base = sums.values((metric.base, ballot)).astype(bool, copy=False)
        columns = {
            "value": metric.combine(*(sums.once((part, ballot)) for part in metric.summands)),
            "boot_mean": boots.mean[row], "boot_sd": boots.sd[row], "ci_low": boots.low[row],
            "ci_high": boots.high[row], "n": base.sum(axis=1),
            "n_null": ((answers.selected(ballot) < 0) & base).sum(axis=1),
            "n_unread": (answers.unread(ballot.regime) & base).sum(axis=1),
            **_counts(answers, metric, ballot, sums),
        }  # fmt: skip
        block: dict[str, Any] = {column: values[present] for column, values in columns.items()}
        blocks.append(
            {"model": models[present], "condition": name, "regime": ballot.regime, "metric": metric.name, **block}
        )
    return blocks


def _bootstraps(sums: _Sums, wanted: list[tuple[MetricDefinition, Ballot]], draws: Draws) -> Bootstrap:
    """Return the bootstrap of each metric and model."""
    distributions = []
    for metric, ballot in wanted:
        # (M, 1) where every part counts all questions, such as an accuracy of 1.
        distribution = metric.combine(*(sums.resampled((part, ballot)) for part in metric.summands))
        distributions.append(np.broadcast_to(distribution, (len(distribution), draws.double.shape[1])))
    return summarise(np.stack(distributions))


def _counts(answers: ConditionAnswers, metric: MetricDefinition, ballot: Ballot, sums: _Sums) -> dict[str, Any]:
    """Return what exact intervals are made of: events, those at worst, and what clusters leave of n; each (M,)."""
    clusters = answers.labels.clusters
    base = sums.values((metric.base, ballot)).astype(bool, copy=False)
    unknown = np.full(len(base), np.nan)
    # Of what is no share no more than the number of clusters matters.
    flags = sums.values((metric.summands[0], ballot)) if metric.share else base
    measured = share_counts(flags, base, clusters)
    found: dict[str, Any] = {
        "events": unknown, "n_effective": unknown, "worst_events": unknown, "worst_n_effective": unknown,
        "clusters": measured.clusters, "clusters_effective": measured.clusters_effective, "freedom": measured.freedom,
    }  # fmt: skip
    if not metric.share:
        return found
    found |= {"events": measured.events, "n_effective": measured.n_effective}
    if metric.worst is not None:
        worst = measured
        if (answers.unread(ballot.regime) & base).any():
            worst = share_counts(metric.worst(answers, ballot), base, clusters)
        found |= {"worst_events": worst.events, "worst_n_effective": worst.n_effective}
    return found


def metrics_table(blocks: Iterable[Mapping[str, Any]], models: tuple[str, ...], conditions: tuple[str, ...]) -> Table:
    """Return the table of all blocks, ordered by model, condition, regime and metric as they are listed."""
    table = with_exact(stack_tables("metrics", COUNTED, blocks))
    order = np.lexsort(
        [
            _ranks(table.columns["condition"], conditions),
            _ranks(table.columns["model"], models),
        ]
    )
    return Table(table.name, {column: values[order] for column, values in table.columns.items()})


def with_exact(counted: Table) -> Table:
    """Return a table of counts (`COUNTED` and others) with the exact intervals of all its rows, made at once.

    Of one cluster nothing is known about how clusters differ: a bootstrap that draws it again and again shows no spread
    where there may be any, so its interval is left empty.
    """
    columns = dict(counted.columns)
    low, high = _intervals(columns, "events", "n_effective")
    worst_high = high.copy()
    worse = columns["worst_events"] != columns["events"]
    worst_high[worse] = _intervals(_rows(columns, worse), "worst_events", "worst_n_effective")[1]
    share = ~np.isnan(columns["events"])
    names = np.full(len(share), BOOTSTRAP, dtype=object)
    names[share] = np.where(columns["clusters"][share] > 0, KORN_GRAUBARD, CLOPPER_PEARSON)
    single = columns["clusters"] == 1
    if single.any():
        columns |= {name: np.where(single, np.nan, columns[name]) for name in ("boot_sd", "ci_low", "ci_high")}
    return Table(
        counted.name, columns | {"exact_low": low, "exact_high": high, "worst_high": worst_high, "interval": names}
    )


def _rows(columns: Mapping[str, npt.NDArray[Any]], kept: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[Any]]:
    return {name: column[kept] for name, column in columns.items()}


def _intervals(columns: Mapping[str, npt.NDArray[Any]], events: str, effective: str) -> tuple[Floats, Floats]:
    """Return the ends of the exact interval of each row; NaN where `events` is.

    Many rows without clusters have the same counts: each is computed once.
    """
    low, high = np.full(len(columns["n"]), np.nan), np.full(len(columns["n"]), np.nan)
    known = ~np.isnan(columns[events])
    if not known.any():
        return low, high
    counts, n, clusters = (columns[name][known].astype(np.int64) for name in (events, "n", "clusters"))
    spread = [columns[name][known] for name in (effective, "clusters_effective", "freedom")]
    if clusters.any():
        ends = share_intervals(ShareCounts(counts, n, clusters, *spread))
        place = np.arange(len(n))
    else:
        _, first, place = np.unique(counts * (n.max() + 1) + n, return_index=True, return_inverse=True)
        ends = share_intervals(ShareCounts(counts[first], n[first], clusters[first], spread[0][first]))
    low[known], high[known] = (end[place.reshape(-1)] for end in ends)
    return low, high


def _ranks(values: npt.NDArray[Any], listed: tuple[str, ...]) -> npt.NDArray[np.int64]:
    ranks = {value: rank for rank, value in enumerate(listed)}
    return np.array([ranks[value] for value in values.tolist()], dtype=np.int64)


def measurements(metrics: Table) -> tuple[Measurement, ...]:
    """Return the rows of the table `metrics` (or `slices`) as a policy judges them (`core.decisions.policy`)."""
    return tuple(
        Measurement(
            row["model"], row["condition"], row["regime"], row["metric"], row["value"], row["ci_low"], row["ci_high"],
            row["n"], share_of(row, "events", "n_effective"), share_of(row, "worst_events", "worst_n_effective"),
            row["n_unread"], row.get("slice", ""), row.get("slice_value", ""),
        )
        for row in metrics.rows()
    )  # fmt: skip


def share_of(row: Mapping[str, Any], events: str, effective: str) -> ShareCount | None:
    """Return the count behind a row; None where it is no share."""
    if np.isnan(row[events]):
        return None
    spread = (row[effective], row["clusters_effective"], row["freedom"])
    return ShareCount(int(row[events]), row["n"], row["clusters"], *spread)
