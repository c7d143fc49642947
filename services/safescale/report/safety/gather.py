"""From a run, its verdicts and its benchmark to tables and to the input of a report."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from safescale.core.safety.answers.answer_cells import NULL_MARK
from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.answers.assemble import CellAnswers, answer_sets
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.completeness import RunCompleteness
from safescale.core.safety.regimes import Ensemble
from safescale.core.safety.tables.analysis import AnalysisOptions, analyse
from safescale.core.safety.tables.scaling import ModelInfo
from safescale.report.inputs import FailedCell, ReportInput
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import READERS, counts_of, marks_of
from safescale.rpc.runs import asked_of, completeness_of, names_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

ANSWER_COLUMNS = (
    "model",
    "condition",
    "question_id",
    "greedy_letter",
    "correct",
    "high_risk_error",
    "unsafe_answer",
    "contradiction",
    "abstention",
    "failed",
)
LATENCY_COLUMNS = ("model", "condition", "greedy_s", "queue_wait_s", "time_to_first_token_s")


@dataclass(frozen=True)
class RunRecord:
    """A run with its verdicts and its benchmark."""

    run: orchestration_pb2.Run
    verdicts: Sequence[pb.Verdict]
    benchmark: Benchmark


def cell_answers(verdict: pb.Verdict) -> CellAnswers:
    """Letters of a verdict; where it failed what is missing is null, and what was read counts."""
    failed = verdict.HasField("failure")
    samples = "".join(_mark(reading) for reading in verdict.samples)
    return CellAnswers(
        model=verdict.cell.model,
        condition=verdict.cell.condition,
        question_id=verdict.cell.question_id,
        formulation=formulation_from_proto(verdict.formulation),
        greedy=_mark(verdict.greedy) if verdict.greedy_asked else "",
        # A cell on which the judge failed has answers, and the letters that were read of them count.
        samples=samples.ljust(verdict.samples_asked, NULL_MARK) if failed else samples,
        latency_s=verdict.timings.greedy_s if verdict.timings.HasField("greedy_s") else None,
    )


def _mark(reading: pb.Reading) -> str:
    return reading.letter if reading.HasField("letter") else NULL_MARK


def run_tables(record: RunRecord) -> dict[str, pd.DataFrame]:
    """Every table of the analysis; formulations are analysed apart and stand under each other, told by their column."""
    spec = record.run.manifest.spec
    catalog = {model.id: ModelInfo(model.family, model.parameters_b or None) for model in record.run.manifest.models}
    ensembles = tuple(Ensemble(each.name, tuple(each.members)) for each in spec.ensembles)
    parts: dict[str, list[pd.DataFrame]] = {}
    # What has no truth cannot be measured; it is told as missing.
    known = {question.question_id for question in record.benchmark.questions}
    cells = [cell_answers(verdict) for verdict in record.verdicts if verdict.cell.question_id in known]
    for answers in answer_sets(cells).values():
        labels = label_set(record.benchmark, answers.question_ids)
        with threadpool_limits(limits=1, user_api="blas"):
            tables = analyse(answers, labels, catalog, AnalysisOptions(ensembles=ensembles))
        for name, table in tables.items():
            parts.setdefault(name, []).append(pd.DataFrame(table.columns))
    made = {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}
    return made | {"readings": _readings(record.verdicts)}


def _readings(verdicts: Sequence[pb.Verdict]) -> pd.DataFrame:
    """Answers by who read them, a row for each formulation, model and condition."""
    marks: dict[tuple[str, str, str], list[str]] = {}
    for verdict in verdicts:
        key = (formulation_from_proto(verdict.formulation), verdict.cell.model, verdict.cell.condition)
        marks.setdefault(key, []).extend(marks_of(verdict))
    counts = {key: counts_of(texts) for key, texts in marks.items()}
    rows = [[*key, *(getattr(count, name) for name in READERS)] for key, count in counts.items()]
    return pd.DataFrame(rows, columns=["formulation", "model", "condition", *READERS])


def report_input(
    record: RunRecord,
    tables: Mapping[str, pd.DataFrame],
    policy: pb.EvaluatePolicyResponse | None,
    generated_at: datetime,
) -> ReportInput:
    """Input of a report."""
    wanted = set(record.run.manifest.question_ids)
    failed = [
        FailedCell(
            verdict.cell.model, verdict.cell.condition, verdict.cell.question_id, verdict.failure.reason,
            verdict.failure.message,
        )
        for verdict in record.verdicts
        if verdict.HasField("failure")
    ]  # fmt: skip
    return ReportInput(
        run=record.run,
        tables=tables,
        questions=[question for question in record.benchmark.questions if question.question_id in wanted],
        verdict_count=len(record.verdicts),
        failed=failed,
        policy=policy,
        generated_at=generated_at,
        latency=pd.DataFrame([_latency(verdict) for verdict in record.verdicts], columns=list(LATENCY_COLUMNS)),
        answers=pd.DataFrame([_answer(verdict) for verdict in record.verdicts], columns=list(ANSWER_COLUMNS)),
        missing=[*found_of(record).missing, *voteless(record.run.manifest.spec, tables)],
        cached_count=sum(verdict.cached for verdict in record.verdicts),
        warnings=Counter(warning for verdict in record.verdicts for warning in set(verdict.warnings)),
    )


def found_of(record: RunRecord) -> RunCompleteness:
    """How much of a run there is."""
    known = {question.question_id for question in record.benchmark.questions}
    return completeness_of(record.run, names_of(record.verdicts), known)


def completeness_of_record(record: RunRecord, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """How much of a run there is, as JSON values: whether it is complete, what is missing, cells by place."""
    found = found_of(record)
    return {
        "complete": found.complete,
        "missing": [*found.missing, *voteless(record.run.manifest.spec, tables)],
        "planned": found.planned,
        "verdicts": len(record.verdicts),
        "skipped": found.skipped,
        "cells": completeness_table(record).to_dict(orient="records"),
        "missing_cells": [[*place, question] for place, questions in found.left.items() for question in questions],
    }


def completeness_table(record: RunRecord) -> pd.DataFrame:
    """Cells of a run by model and condition: asked, with a verdict, failed, skipped, missing."""
    found, asked = found_of(record), asked_of(record.run)
    verdicts = Counter((verdict.cell.model, verdict.cell.condition) for verdict in record.verdicts)
    failed = Counter(
        (verdict.cell.model, verdict.cell.condition) for verdict in record.verdicts if verdict.HasField("failure")
    )
    count = len(set(asked.question_ids))
    places = [(model, name) for model in asked.models for name in dict.fromkeys(asked.conditions)]
    left = {place: len(found.left.get(place, ())) for place in places}
    rows = [
        (*place, count, verdicts[place], failed[place], max(0, count - verdicts[place] - left[place]), left[place])
        for place in places
    ]
    return pd.DataFrame(
        rows, columns=["model", "condition", "n_cells", "n_verdicts", "n_failed", "n_skipped", "n_missing"]
    )


def voteless(spec: orchestration_pb2.RunSpec, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Sentences about ensembles that have no vote under a condition of the run."""
    table = tables.get("ensembles", pd.DataFrame())
    voted = set(zip(table["ensemble"], table["condition"], strict=True)) if len(table) else set()
    sentences = []
    for ensemble in spec.ensembles:
        without = [name for name in spec.conditions if (ensemble.name, name) not in voted]
        if without:
            sentences.append(
                f"The ensemble {ensemble.name} has no vote under {', '.join(without)}: not all of its members "
                f"({', '.join(ensemble.members)}) have answers there in one formulation."
            )
    return sentences


def _latency(verdict: pb.Verdict) -> tuple[str, str, float, float, float]:
    timings = verdict.timings
    greedy = timings.greedy_s if timings.HasField("greedy_s") else math.nan
    first = timings.time_to_first_token_s if timings.HasField("time_to_first_token_s") else math.nan
    return verdict.cell.model, verdict.cell.condition, greedy, timings.queue_wait_s, first


def _answer(verdict: pb.Verdict) -> tuple[str | bool | None, ...]:
    if verdict.greedy_asked:
        outcome = verdict.greedy_outcome
        letter = verdict.greedy.letter if verdict.greedy.HasField("letter") else None
    else:
        outcome = verdict.majority_outcome
        letter = verdict.majority_letter if verdict.HasField("majority_letter") else None
    cell = verdict.cell
    return (
        cell.model, cell.condition, cell.question_id, letter, outcome.correct, outcome.high_risk_error,
        outcome.unsafe_answer, outcome.contradiction, outcome.abstention,
        # A letter that was read is shown as what it is, though the judge failed on another answer of the cell.
        verdict.HasField("failure") and letter is None,
    )  # fmt: skip
