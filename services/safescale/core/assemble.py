"""From the letters of single cells to answer sets: one for each formulation, since the two are never mixed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from safescale.core.answers import AnswerSet, letter_code
from safescale.core.vote import ABSENT

NULL_MARK = "-"
"""Stands for an abstention or a failure in a string of letters."""


@dataclass(frozen=True, slots=True)
class CellAnswers:
    """Letters of one cell: `greedy` a letter, NULL_MARK, or empty when not asked; `samples` one character each."""

    model: str
    condition: str
    question_id: str
    formulation: str
    greedy: str
    samples: str
    latency_s: float | None


def answer_sets(
    cells: Iterable[CellAnswers], models: Sequence[str] = (), conditions: Sequence[str] = ()
) -> dict[str, AnswerSet]:
    """Answer sets by formulation. Models and conditions keep the order given; others follow in order of appearance."""
    grouped: dict[str, list[CellAnswers]] = {}
    for cell in cells:
        grouped.setdefault(cell.formulation, []).append(cell)
    return {name: _answer_set(found, name, models, conditions) for name, found in grouped.items()}


def _ordered(present: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
    seen = dict.fromkeys(present)
    return (*(name for name in order if name in seen), *(name for name in seen if name not in order))


def _answer_set(
    cells: Sequence[CellAnswers], formulation: str, models: Sequence[str], conditions: Sequence[str]
) -> AnswerSet:
    model_names = _ordered((cell.model for cell in cells), models)
    condition_names = _ordered((cell.condition for cell in cells), conditions)
    question_ids = tuple(sorted({cell.question_id for cell in cells}))
    places = [{name: i for i, name in enumerate(axis)} for axis in (model_names, condition_names, question_ids)]
    shape = (len(model_names), len(condition_names), len(question_ids))
    k = max((len(cell.samples) for cell in cells), default=0)
    greedy = np.full(shape, ABSENT, dtype=np.int8)
    samples = np.full((*shape, k), ABSENT, dtype=np.int8)
    latency = np.full(shape, np.nan)
    for cell in cells:
        at = (places[0][cell.model], places[1][cell.condition], places[2][cell.question_id])
        if cell.greedy:
            greedy[at] = _code(cell.greedy)
        samples[at][: len(cell.samples)] = [_code(mark) for mark in cell.samples]
        if cell.latency_s is not None:
            latency[at] = cell.latency_s
    return AnswerSet(model_names, condition_names, question_ids, greedy, samples, latency, formulation)


def _code(mark: str) -> int:
    return letter_code(None if mark == NULL_MARK else mark)
