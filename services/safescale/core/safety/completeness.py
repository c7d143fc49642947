"""What of a run is missing: the cells that it has, against those that have a verdict and those that were skipped.

Metrics are computed of what there is. Only a run of which nothing is missing shows no less harm than was measured.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

ModelCondition = tuple[str, str]
"""A model and a condition."""

CellName = tuple[str, str, str]
"""Model, condition and question id of a cell."""

NAMED = 20
"""Sentences about single places that are given at most; further places are counted."""

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class PlannedCells:
    """The cells of a run: each question of each model under each condition.

    `skips` are (model, condition, question id, reason); an empty question id means all questions.
    """

    models: Sequence[str]
    conditions: Sequence[str]
    question_ids: Sequence[str]
    skips: Sequence[tuple[str, str, str, str]] = ()


@dataclass(frozen=True, slots=True)
class RunCompleteness:
    """How much of a run there is.

    `planned` counts its cells, `skipped` those of them that were skipped; `left` has the questions of each place with
    neither a verdict nor a skip. `stray` counts cells with a verdict that the run does not have, `twice` verdicts of
    cells that have one. `skipped_places` are the places where every question was skipped, with the reason. `missing`
    states in sentences what keeps the run from being complete.
    """

    planned: int
    skipped: int
    left: Mapping[ModelCondition, tuple[str, ...]]
    stray: int
    twice: int
    skipped_places: Mapping[ModelCondition, str]
    missing: tuple[str, ...] = field(default=())

    @property
    def unfinished(self) -> int:
        """Number of cells with neither a verdict nor a skip."""
        return sum(len(questions) for questions in self.left.values())

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        return not self.missing


def completeness(
    asked: PlannedCells, cells: Iterable[CellName], state: str, known_questions: Collection[str]
) -> RunCompleteness:  # fmt: skip
    """Compare the cells of a run with those that have a verdict.

    `state` is that of the run, `completed` when it ended with all its cells. `known_questions` are the ids of the
    benchmark, without whose truth nothing can be measured.
    """
    questions = set(asked.question_ids)
    places = [(model, name) for model in dict.fromkeys(asked.models) for name in dict.fromkeys(asked.conditions)]
    ended: dict[ModelCondition, set[str]] = {place: set() for place in places}
    skips, reasons = _skips(asked.skips, ended, questions)
    stray, twice = _take(cells, ended, questions)
    left = {place: questions - ended[place] - skips[place] for place in places}
    skipped = {place: skips[place] - ended[place] for place in places}
    missing = [
        *([] if state == "completed" else [f"The run is {state}, not completed"]),
        *([] if places and questions else ["The run has no cells: its manifest lacks a model, condition or question"]),
        *_places_left(asked, ended, left),
        *_others(stray, twice, sorted(questions.difference(known_questions))),
    ]
    return RunCompleteness(
        planned=len(places) * len(questions),
        skipped=sum(len(found) for found in skipped.values()),
        left={place: tuple(sorted(found)) for place, found in left.items() if found},
        stray=len(stray),
        twice=twice,
        skipped_places={
            place: reasons[place] for place in places if questions and len(skipped[place]) == len(questions)
        },
        missing=tuple(f"{sentence}." for sentence in missing),
    )


def _skips(
    skips: Iterable[tuple[str, str, str, str]], places: Mapping[ModelCondition, object], questions: set[str]
) -> tuple[dict[ModelCondition, set[str]], dict[ModelCondition, str]]:
    """Questions skipped at each place, and the first reason. Skips of cells that the run lacks are nothing."""
    found: dict[ModelCondition, set[str]] = {place: set() for place in places}
    reasons: dict[ModelCondition, str] = {}
    for model, condition, question_id, reason in skips:
        place = (model, condition)
        if place not in found:
            continue
        found[place] |= questions if not question_id else questions & {question_id}
        reasons.setdefault(place, reason)
    return found, reasons


def _take(
    cells: Iterable[CellName], ended: Mapping[ModelCondition, set[str]], questions: set[str]
) -> tuple[list[CellName], int]:  # fmt: skip
    """Sort cells with a verdict by place; those that the run does not have, and the number that came twice."""
    stray: list[CellName] = []
    twice = 0
    for cell in cells:
        model, condition, question_id = cell
        at = ended.get((model, condition))
        if at is None or question_id not in questions:
            stray.append(cell)
        elif question_id in at:
            twice += 1
        else:
            at.add(question_id)
    return stray, twice


def _places_left(
    asked: PlannedCells, ended: Mapping[ModelCondition, set[str]], left: Mapping[ModelCondition, set[str]]
) -> list[str]:
    """Sentences about cells without a verdict: whole models, then whole conditions, then what is left of each place."""
    total = len(set(asked.question_ids))
    bare = {place for place, found in left.items() if found and not ended[place]}
    sentences: list[str] = []
    named: set[ModelCondition] = set()
    for kind, index, names in (("model", 0, asked.models), ("condition", 1, asked.conditions)):
        for name in dict.fromkeys(names):
            of_name = {place for place in left if place[index] == name}
            open_places = of_name & bare
            if open_places and not any(ended[place] for place in of_name) and not open_places <= named:
                sentences.append(f"The {kind} {name} has no verdict")
                named |= open_places
    rest = [place for place, found in left.items() if found and place not in named]
    for place in rest[:NAMED]:
        ids = sorted(left[place])
        sentences.append(f"{place[0]} under {place[1]}: {len(ids)} of {total} questions have no verdict{_such_as(ids)}")
    if len(rest) > NAMED:
        sentences.append(f"{len(rest) - NAMED} more models and conditions lack verdicts")
    return sentences


def _others(stray: Sequence[CellName], twice: int, unknown: Sequence[str]) -> list[str]:
    sentences = []
    if stray:
        names = ["/".join(cell) for cell in stray[:EXAMPLES]]
        sentences.append(f"{_cells(len(stray))} with a verdict that the run does not have{_such_as(names)}")
    if twice:
        sentences.append(f"{_cells(twice)} with more than one verdict of the same attempt")
    if unknown:
        sentences.append(f"{len(unknown)} questions of the run are not in its benchmark{_such_as(unknown)}")
    return sentences


def _cells(count: int) -> str:
    return f"There {'is' if count == 1 else 'are'} {count} cell{'' if count == 1 else 's'}"


def _such_as(names: Sequence[str]) -> str:
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return f": {', '.join(names[:EXAMPLES])}{more}"
