"""Every table of a safety run: the analysis of its answers, who read them, what failed and what is missing."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.answers.assemble import CellAnswers, answer_sets
from safescale.core.safety.completeness import RunCompleteness
from safescale.core.safety.regimes import Ensemble
from safescale.core.safety.tables.analysis import TABLES, AnalysisOptions, analyse
from safescale.core.safety.tables.scaling import ModelInfo
from safescale.core.tables import Table, table_of_rows
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import READERS, counts_of, marks_of, reading_of
from safescale.rpc.runs import asked_of, completeness_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.verdicts import answers_of, counted
from safescale.scoring.kinds.port import MeasuredRun

_CELL = {"model": str, "condition": str, "question_id": str}
FLAGS = ("correct", "high_risk_error", "unsafe_answer", "contradiction", "abstention")

SCHEMAS: Mapping[str, Mapping[str, type]] = {
    "readings": {
        "formulation": str, "model": str, "condition": str, **dict.fromkeys(READERS, int), "reading": str,
    },
    "completeness": {
        "model": str, "condition": str,
        **dict.fromkeys(("n_cells", "n_verdicts", "n_failed", "n_skipped", "n_missing"), int),
    },
    "summary": {
        "complete": bool, "n_planned": int, "n_verdicts": int, "n_failed": int, "n_skipped": int, "n_cached": int,
        "reading": str,
    },
    "missing": {"sentence": str},
    "missing_cells": _CELL,
    "failed_cells": {**_CELL, "reason": str, "message": str},
    "warnings": {"warning": str, "n_cells": int},
    "answers": {**_CELL, "greedy_letter": str, **dict.fromkeys(FLAGS, bool), "failed": bool},
    "latency": {
        "model": str, "condition": str, "greedy_s": float, "queue_wait_s": float, "time_to_first_token_s": float,
    },
}  # fmt: skip
"""Columns of the tables beside those of the analysis."""

NAMES: tuple[str, ...] = (*TABLES, *SCHEMAS)

Rows = Iterable[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class ScoredCell:
    """What tables need of a verdict.

    `letter` stands for the cell, None for an abstention; `flags` say what it means (`FLAGS`). `marks` say who read the
    answers. `seconds` are those of the greedy answer, of the queue and of the first token; NaN where not measured.
    `failure` is a reason and a sentence, None for a cell that did not fail.
    """

    answers: CellAnswers
    letter: str | None
    flags: tuple[bool, ...]
    marks: str
    seconds: tuple[float, float, float]
    failure: tuple[str, str] | None
    cached: bool
    warnings: frozenset[str]

    @property
    def name(self) -> tuple[str, str, str]:
        """Model, condition and question."""
        return self.answers.model, self.answers.condition, self.answers.question_id

    @property
    def place(self) -> tuple[str, str]:
        """Model and condition."""
        return self.answers.model, self.answers.condition


def scored_cell(verdict: pb.Verdict) -> ScoredCell:
    """Return what tables need of a verdict."""
    letter, outcome = counted(verdict)
    timings = verdict.timings
    first = timings.time_to_first_token_s if timings.HasField("time_to_first_token_s") else math.nan
    answers = answers_of(verdict)
    return ScoredCell(
        answers=answers,
        letter=letter,
        flags=tuple(getattr(outcome, name) for name in FLAGS),
        marks="".join(marks_of(verdict)),
        seconds=(math.nan if answers.latency_s is None else answers.latency_s, timings.queue_wait_s, first),
        failure=(verdict.failure.reason, verdict.failure.message) if verdict.HasField("failure") else None,
        cached=verdict.cached,
        warnings=frozenset(verdict.warnings),
    )


def safety_tables(measured: MeasuredRun, cells: Sequence[ScoredCell], wanted: Collection[str]) -> list[Table]:
    """Return the wanted tables of a run; those of the analysis are absent while there is nothing to measure."""
    made = _RunTables(measured, cells)
    rows = {
        "readings": made.readings,
        "completeness": made.completeness,
        "summary": made.summary,
        "missing": made.missing,
        "missing_cells": made.missing_cells,
        "failed_cells": made.failed_cells,
        "warnings": made.warnings,
        "answers": made.answers,
        "latency": made.latency,
    }
    found = []
    if not set(TABLES).isdisjoint(wanted):
        found += [table for name, table in made.analysis.items() if name in wanted]
    return found + [table_of_rows(name, SCHEMAS[name], made_of()) for name, made_of in rows.items() if name in wanted]


class _RunTables:
    """The tables of a run; the analysis and the search for missing cells are done once, where they are needed."""

    def __init__(self, measured: MeasuredRun, cells: Sequence[ScoredCell]) -> None:
        self._run, self._truth = measured.run, measured.truth
        self._cells = cells

    @cached_property
    def analysis(self) -> dict[str, Table]:
        """Tables of the analysis; formulations are analysed apart and follow each other, told apart by a column."""
        spec = self._run.manifest.spec
        catalog = {model.id: ModelInfo(model.family, model.parameters_b or None) for model in self._run.manifest.models}
        ensembles = tuple(Ensemble(each.name, tuple(each.members)) for each in spec.ensembles)
        parts: dict[str, list[Table]] = {}
        # What has no truth cannot be measured; it is reported as missing.
        cells = [cell.answers for cell in self._cells if cell.answers.question_id in self._truth.questions]
        # The products are short: BLAS threads would wait for each other most of the time.
        with threadpool_limits(limits=1, user_api="blas"):
            for answers in answer_sets(cells, reading_of(self._run.manifest)).values():
                labels = label_set(self._truth.benchmark, answers.question_ids)
                for name, table in analyse(answers, labels, catalog, AnalysisOptions(ensembles=ensembles)).items():
                    parts.setdefault(name, []).append(table)
        return {name: _stacked(tables) for name, tables in parts.items()}

    @cached_property
    def _found(self) -> RunCompleteness:
        return completeness_of(self._run, (cell.name for cell in self._cells), self._truth.questions)

    @cached_property
    def _sentences(self) -> list[str]:
        return [*self._found.missing, *_voteless(self._run.manifest.spec, self.analysis.get("ensembles"))]

    def readings(self) -> Rows:
        """Return answers by who read them."""
        marks: dict[tuple[str, ...], list[str]] = {}
        for cell in self._cells:
            marks.setdefault((cell.answers.formulation, *cell.place), []).append(cell.marks)
        counts = {key: counts_of(texts) for key, texts in marks.items()}
        reading = reading_of(self._run.manifest)
        return [
            [*key, *(getattr(count, name) for name in READERS), reading if key[0] == "letter" else ""]
            for key, count in counts.items()
        ]

    def completeness(self) -> Rows:
        """Return cells of the run by model and condition: requested, with a verdict, failed, skipped, missing."""
        found, asked = self._found, asked_of(self._run)
        verdicts = Counter(cell.place for cell in self._cells)
        failed = Counter(cell.place for cell in self._cells if cell.failure)
        count = len(set(asked.question_ids))
        places = [(model, name) for model in asked.models for name in dict.fromkeys(asked.conditions)]
        left = {place: len(found.left.get(place, ())) for place in places}
        return [
            (*place, count, verdicts[place], failed[place], max(0, count - verdicts[place] - left[place]), left[place])
            for place in places
        ]

    def summary(self) -> Rows:
        """Return the one row on the whole run."""
        found, cells = self._found, self._cells
        failed, cached = sum(cell.failure is not None for cell in cells), sum(cell.cached for cell in cells)
        reading = reading_of(self._run.manifest)
        return [(found.complete, found.planned, len(cells), failed, found.skipped, cached, reading)]

    def missing(self) -> Rows:
        """Return what keeps the run from being complete, and ensembles without a vote."""
        return [(sentence,) for sentence in self._sentences]

    def missing_cells(self) -> Rows:
        """Return cells with neither a verdict nor a skip."""
        return [(*place, question) for place, questions in self._found.left.items() for question in questions]

    def failed_cells(self) -> Rows:
        """Return cells that failed, and why."""
        return [(*cell.name, *cell.failure) for cell in self._cells if cell.failure is not None]

    def warnings(self) -> Rows:
        """Return cells by what was odd about their answers."""
        return sorted(Counter(warning for cell in self._cells for warning in cell.warnings).items())

    def answers(self) -> Rows:
        """Return the letter of each cell and what it means."""
        return [
            # A letter that was read is shown as what it is, though the judge failed on another answer of the cell.
            (*cell.name, cell.letter, *cell.flags, cell.failure is not None and cell.letter is None)
            for cell in self._cells
        ]

    def latency(self) -> Rows:
        """Return seconds of each cell."""
        return [(*cell.place, *cell.seconds) for cell in self._cells]


def _stacked(parts: Sequence[Table]) -> Table:
    columns = parts[0].columns
    return Table(parts[0].name, {name: np.concatenate([part.columns[name] for part in parts]) for name in columns})


def _voteless(spec: orchestration_pb2.RunSpec, table: Table | None) -> list[str]:
    """Return sentences about ensembles that have no vote under a condition of the run."""
    voted = {(row["ensemble"], row["condition"]) for row in table.rows()} if table is not None else set()
    sentences = []
    for ensemble in spec.ensembles:
        without = [name for name in spec.conditions if (ensemble.name, name) not in voted]
        if without:
            sentences.append(
                f"The ensemble {ensemble.name} has no vote under {', '.join(without)}: not all of its members "
                f"({', '.join(ensemble.members)}) have answers there in one formulation."
            )
    return sentences
