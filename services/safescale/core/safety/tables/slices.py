"""Metrics by slice: the questions of one subspecialty, of one type, or of one value of a group that they are in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from safescale.core.errors import InvalidInputError, LimitExceededError
from safescale.core.safety.answers.answers import AnswerSet, LabelSet
from safescale.core.safety.metrics import METRICS, MetricDefinition
from safescale.core.safety.metrics.selection import REGIMES, Ballot, ConditionAnswers
from safescale.core.safety.tables.measure import COUNTED, SCHEMA, measure_condition, wanted_metrics, with_exact
from safescale.core.statistics.bootstrap import question_draws
from safescale.core.statistics.intervals import share_counts
from safescale.core.statistics.stats import fisher_exact, holm
from safescale.core.tables import Table, stack_tables

NO_VALUE = "(none)"
"""Value of the questions that have none, where others have one: no question is dropped."""

MAX_VALUES = 100
"""Values of a slice: one for each patient is no slice."""

_PLACE = {"slice": str, "slice_value": str}
SLICES = {**_PLACE, **SCHEMA, "p_value": float, "p_holm": float}
_ORDER = {"slice_rank": int, "value_rank": int, "model_rank": int, "condition_rank": int, "metric_rank": int}
_WHOLE = {"all_events": int, "all_n": int}


def slice_values(labels: LabelSet) -> dict[str, tuple[str, ...]]:
    """Return the value of each question by the slice's name; slices of which no question has a value are left out."""
    named = {"subspecialty": labels.subspecialty, "question_type": labels.question_type, **labels.groups}
    return {name: tuple(value or NO_VALUE for value in values) for name, values in named.items() if any(values)}


def small_slices(labels: LabelSet) -> dict[str, tuple[str, ...]]:
    """Return those of `slice_values` that have few enough values to be measured."""
    return {name: values for name, values in slice_values(labels).items() if len(set(values)) <= MAX_VALUES}


def chosen_slices(labels: LabelSet, wanted: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the wanted ones of `slice_values`.

    Raises InvalidInputError for a slice that the questions do not have, LimitExceededError for one of too many values.
    """
    known = slice_values(labels)
    chosen: dict[str, tuple[str, ...]] = {}
    for name in wanted:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "no slice"
            raise InvalidInputError(f"the questions have no slice {name!r}; expected {expected}")
        chosen[name] = known[name]
        if (count := len(set(known[name]))) > MAX_VALUES:
            raise LimitExceededError(f"the slice {name!r} has {count:,} values; the limit is {MAX_VALUES}")
    return chosen


@dataclass(frozen=True, slots=True)
class _Slices:
    """All values of all slices: names, places in their order, and which questions belong to each, (Q, V)."""

    names: tuple[tuple[str, str], ...]
    ranks: tuple[tuple[int, int], ...]
    member: npt.NDArray[np.bool_]


def _slices(values: Mapping[str, Sequence[str]], n_questions: int) -> _Slices:
    names, ranks, members = [], [], []
    for place, (name, held) in enumerate(values.items()):
        array = np.array(held, dtype=object)
        for order, value in enumerate(sorted(set(held))):
            names.append((name, value))
            ranks.append((place, order))
            members.append(array == value)
    member = np.stack(members, axis=1) if members else np.zeros((n_questions, 0))
    return _Slices(tuple(names), tuple(ranks), member.astype(bool))


def slices_table(
    answers: AnswerSet, labels: LabelSet, values: Mapping[str, Sequence[str]], views: Mapping[str, ConditionAnswers],
    bootstrap: tuple[int, int] | None = None,
) -> Table:  # fmt: skip
    """Return the metrics of each value of each slice, as in the table `metrics`, ordered by slice, value and place.

    `values` are those of `slice_values`, `views` the answers by condition. Without `bootstrap` (resamples and seed)
    shares of questions alone are there, which need none. A share is tested against that of the other questions:
    `p_value` by Fisher's exact test, `p_holm` adjusted by Holm over the values and conditions of one slice, model,
    regime and metric; NaN where questions are clustered, which the test does not allow for.
    """
    slices = _slices(values, len(answers.question_ids))
    blocks: list[Mapping[str, Any]] = []
    for place, condition in enumerate(answers.conditions):
        if condition in views:
            blocks += _shares(views[condition], place, answers, slices)
    if bootstrap is not None:
        for number in range(len(slices.names)):
            blocks += _others(answers, labels, slices, number, bootstrap)
    stacked = stack_tables("slices", {**_PLACE, **COUNTED, **_ORDER, **_WHOLE}, blocks)
    keys = [stacked.columns[name] for name in reversed(_ORDER)]
    order = np.lexsort(keys)
    table = with_exact(Table("slices", {name: column[order] for name, column in stacked.columns.items()}))
    columns = table.columns | _tests(table.columns)
    return Table("slices", {name: columns[name] for name in SLICES})


def _shares(view: ConditionAnswers, place: int, owner: AnswerSet, slices: _Slices) -> Iterable[Mapping[str, Any]]:
    """Return the shares of questions under one condition by slice, a block for each metric and regime.

    Every count is a sum over the questions of a slice, so those of all slices are one product.
    """
    member = slices.member.astype(np.float32)
    for rank, (metric, ballot) in enumerate(wanted_metrics(view.labels.labelled, lambda metric: metric.share)):
        parts = _parts(view, metric, ballot)
        sums = np.stack(list(parts.values())).astype(np.float32) @ member  # (parts, M, V)
        counts = {name: sums[row].astype(np.int64) for row, name in enumerate(parts)}
        rows, columns = np.nonzero(counts["asked"])
        picked = {name: count[rows, columns] for name, count in counts.items()}
        block = _places(owner, view.models[rows], place, [slices.names[v] for v in columns.tolist()])
        block |= {"regime": ballot.regime, "metric": metric.name, "metric_rank": rank, **_unknown(len(rows))}
        block |= {name: picked[name] for name in ("n", "n_null", "n_unread", "events")}
        if metric.worst is not None:
            block["worst_events"] = picked["worst_events"]
        with np.errstate(invalid="ignore", divide="ignore"):
            block["value"] = picked["events"] / picked["n"]
        block["slice_rank"], block["value_rank"] = (
            np.array([slices.ranks[v][level] for v in columns.tolist()], np.int64) for level in (0, 1)
        )
        whole = {"all_events": parts["events"].sum(axis=1), "all_n": parts["n"].sum(axis=1)}
        block |= {name: total[rows] for name, total in whole.items()}
        if view.labels.clusters is not None:
            block |= _clustered(parts, slices.member, view.labels.clusters, (rows, columns))
        yield block


def _parts(view: ConditionAnswers, metric: MetricDefinition, ballot: Ballot) -> dict[str, npt.NDArray[np.bool_]]:
    """Return what is counted of a share, each (M, Q)."""
    base = metric.base(view, ballot).astype(bool, copy=False)
    parts = {
        "asked": view.asked(ballot.regime), "n": base, "n_null": (view.selected(ballot) < 0) & base,
        "n_unread": view.unread(ballot.regime) & base, "events": metric.summands[0](view, ballot) & base,
    }  # fmt: skip
    if metric.worst is not None:
        parts["worst_events"] = metric.worst(view, ballot) & base if parts["n_unread"].any() else parts["events"]
    return parts


def _places(
    owner: AnswerSet, models: npt.NDArray[np.intp], place: int, names: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": np.array(owner.models, dtype=object)[models], "condition": owner.conditions[place],
        "model_rank": models.astype(np.int64), "condition_rank": place,
    }  # fmt: skip
    for level, name in enumerate(_PLACE):
        column: npt.NDArray[Any] = np.empty(len(names), dtype=object)
        column[:] = [each[level] for each in names]
        found[name] = column
    return found


def _unknown(count: int) -> dict[str, Any]:
    """Return the columns that have no value unless they get one."""
    zero = {"clusters": 0, "all_events": 0, "all_n": 0}
    return {name: np.full(count, np.nan) for name, kind in COUNTED.items() if kind is float} | zero


def _clustered(
    parts: Mapping[str, npt.NDArray[np.bool_]], member: npt.NDArray[np.bool_], clusters: npt.NDArray[np.int64],
    places: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
) -> dict[str, Any]:  # fmt: skip
    """Return what clusters leave of the questions of each slice; `places` are the rows (model, slice) there are."""
    found: dict[str, Any] = {}
    for events, effective in (("events", "n_effective"), ("worst_events", "worst_n_effective")):
        if events not in parts:
            continue
        counts = [share_counts(parts[events], parts["n"] & member[:, v], clusters) for v in range(member.shape[1])]
        for name, field in (
            (effective, "n_effective"), ("clusters", "clusters"), ("clusters_effective", "clusters_effective"),
            ("freedom", "freedom"),
        ):  # fmt: skip
            found[name] = np.stack([getattr(each, field) for each in counts], axis=1)[places]
    return found


def _others(
    answers: AnswerSet, labels: LabelSet, slices: _Slices, number: int, bootstrap: tuple[int, int]
) -> Iterable[Mapping[str, Any]]:
    """Return the metrics of a slice that are no shares of questions, with the bootstrap of its questions."""
    kept = np.flatnonzero(slices.member[:, number])
    part, truth = answers.of_questions(kept), labels.of_questions(kept)
    draws = question_draws(len(kept), *bootstrap, truth.clusters)
    ranks = {model: rank for rank, model in enumerate(answers.models)}
    name, value = slices.names[number]
    for place, condition in enumerate(part.conditions):
        view = ConditionAnswers(part, truth, place)
        if not len(view.models):
            continue
        measured = measure_condition(condition, view, part, draws, lambda metric: not metric.share)
        for rank, block in enumerate(measured, start=len(METRICS) * len(REGIMES)):
            yield {
                "metric_rank": rank,
                **_unknown(len(block["model"])), **block, "slice": name, "slice_value": value,
                "slice_rank": slices.ranks[number][0], "value_rank": slices.ranks[number][1], "condition_rank": place,
                "model_rank": np.array([ranks[model] for model in block["model"].tolist()], np.int64),
            }  # fmt: skip


def _tests(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the test of each share against that of the other questions, and its adjustment."""
    tested = ~np.isnan(columns["events"]) & (columns["clusters"] == 0)
    p_values, adjusted = np.full(len(tested), np.nan), np.full(len(tested), np.nan)
    counts = (columns[name][tested] for name in ("events", "n", "all_events", "all_n"))
    p_values[tested] = fisher_exact(*counts)
    keys = np.stack([columns[name][tested] for name in ("slice_rank", "model_rank", "metric_rank")])
    order = np.lexsort(keys)
    first = np.flatnonzero((np.diff(keys[:, order], axis=1) != 0).any(axis=0)) + 1
    for rows in np.split(np.flatnonzero(tested)[order], first):
        adjusted[rows] = holm(p_values[rows].tolist())
    return {"p_value": p_values, "p_holm": adjusted}
