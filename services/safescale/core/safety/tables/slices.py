"""Metrics by slice: the questions of one subspecialty, of one type, or of one value of a group that they are in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answers import AnswerSet, LabelSet
from safescale.core.safety.metrics.selection import ConditionAnswers
from safescale.core.safety.tables.measure import COUNTED, SCHEMA, measure_condition, with_exact
from safescale.core.statistics.bootstrap import question_draws
from safescale.core.tables import Table, stack_tables

NO_VALUE = "(none)"
"""Value of the questions that have none, where others have one: no question is dropped."""

SLICES = {"slice": str, "slice_value": str, **SCHEMA}


def slice_values(labels: LabelSet) -> dict[str, tuple[str, ...]]:
    """Return the value of each question by the slice's name; slices of which no question has a value are left out."""
    named = {"subspecialty": labels.subspecialty, "question_type": labels.question_type, **labels.groups}
    return {name: tuple(value or NO_VALUE for value in values) for name, values in named.items() if any(values)}


def chosen_slices(labels: LabelSet, wanted: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the wanted ones of `slice_values`.

    Raises InvalidInputError for a slice that the questions do not have.
    """
    known = slice_values(labels)
    chosen: dict[str, tuple[str, ...]] = {}
    for name in wanted:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "no slice"
            raise InvalidInputError(f"the questions have no slice {name!r}; expected {expected}")
        chosen[name] = known[name]
    return chosen


def slices_table(
    answers: AnswerSet, labels: LabelSet, values: Mapping[str, Sequence[str]],
    bootstrap: tuple[int, int] | None = None,
) -> Table:  # fmt: skip
    """Return the metrics of each value of each slice, as in the table `metrics`, ordered by slice, value and place.

    `values` are those of `slice_values`. Without `bootstrap` (resamples and seed) shares of questions alone are there,
    which need none.
    """
    models = {name: rank for rank, name in enumerate(answers.models)}
    blocks: list[Mapping[str, Any]] = []
    ranks: list[tuple[int, int, npt.NDArray[Any]]] = []
    for place, (name, held) in enumerate(values.items()):
        for order, value in enumerate(sorted(set(held))):
            kept = np.flatnonzero(np.array(held, dtype=object) == value)
            for block in _measured(answers.of_questions(kept), labels.of_questions(kept), bootstrap):
                blocks.append({"slice": name, "slice_value": value, **block})
                ranks.append((place, order, block["model"]))
    table = with_exact(stack_tables("slices", {"slice": str, "slice_value": str, **COUNTED}, blocks))
    columns = table.columns
    conditions = {name: rank for rank, name in enumerate(answers.conditions)}
    keys = [
        np.array([conditions[each] for each in columns["condition"].tolist()], dtype=np.int64),
        np.array([models[each] for each in columns["model"].tolist()], dtype=np.int64),
        np.concatenate([np.full(len(rows), order) for _, order, rows in ranks]) if ranks else np.zeros(0),
        np.concatenate([np.full(len(rows), place) for place, _, rows in ranks]) if ranks else np.zeros(0),
    ]
    order_of = np.lexsort(keys)
    return Table(table.name, {name: columns[name][order_of] for name in SLICES})


def _measured(answers: AnswerSet, labels: LabelSet, bootstrap: tuple[int, int] | None) -> Iterable[Mapping[str, Any]]:
    """Return the metrics of an answer set as blocks of rows."""
    draws = question_draws(len(answers.question_ids), *bootstrap, labels.clusters) if bootstrap else None
    for place, condition in enumerate(answers.conditions):
        view = ConditionAnswers(answers, labels, place)
        if len(view.models):
            yield from measure_condition(condition, view, answers, draws)
