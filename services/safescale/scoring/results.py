"""Results of runs: verdicts with the readings of persons applied, and metrics."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

from safescale.core.decisions.policy import Scope
from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answer_cells import NULL_MARK
from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.answers.assemble import CellAnswers, answer_sets
from safescale.core.safety.answers.judge import JUDGE_FAILED
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.core.safety.completeness import Completeness
from safescale.core.safety.tables.analysis import metrics_of
from safescale.core.tables import Table
from safescale.rpc.checked import checked_name
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import FAILED_MARK, PERSON, PERSON_MARK, counts_of, mark_of
from safescale.rpc.runs import asked_of, completeness_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.clients import GroundTruthCache, RunTruth
from safescale.scoring.kinds.safety_outcomes import outcome_of, set_outcomes
from safescale.scoring.policy import Measured, obstacles
from safescale.scoring.records import ReviewStore, StoredKey, StoredLetters, VerdictStore, cell_of, key_of
from safescale.scoring.settled import CellReviews, RunReviews

MEASURED_AT_ONCE = 2
"""Measurements at once: each may take hundreds of megabytes."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class RunMetrics:
    """Metric rows of a run, and what they are made of.

    `failures` counts failed cells by reason. `cost` is None where no model has a price. `readings` tells who read the
    answers. `cached_count` counts verdicts whose answers came from the cache, `warnings` verdicts by what was odd.
    """

    run: orchestration_pb2.Run
    rows: Sequence[pb.MetricRow]
    verdict_count: int
    failures: Mapping[str, int]
    cost: float | None
    readings: pb.ReadingCounts
    cached_count: int
    warnings: Mapping[str, int]
    completeness: Completeness

    @property
    def failed_count(self) -> int:
        """Number of cells that failed, those that the judge failed to read included."""
        return sum(self.failures.values())

    def message(self) -> pb.GetRunMetricsResponse:
        """The metrics as a message."""
        found = self.completeness
        return pb.GetRunMetricsResponse(
            rows=self.rows,
            verdict_count=self.verdict_count,
            failed_count=self.failed_count,
            cost=self.cost,
            readings=self.readings,
            planned_count=found.planned,
            skipped_count=found.skipped,
            cached_count=self.cached_count,
            complete=found.complete,
            missing=found.missing,
            warnings=self.warnings,
        )

    def measured(self) -> Measured:
        """What a policy judges."""
        asked = asked_of(self.run)
        scope = Scope(asked.models, asked.conditions, self.completeness.skipped_places)
        return Measured(self.rows, scope, obstacles(self.failures, self.completeness, self.readings))


@dataclass(slots=True)
class Shares:
    """Greedy answers of one model under one condition: asked, correct, high-risk errors; and cells that failed.

    `unlabelled` are wrong answers of which nobody knows whether they are high-risk errors.
    """

    model: str
    condition: str
    asked: int = 0
    correct: int = 0
    high_risk: int = 0
    failed: int = 0
    unlabelled: int = 0


@dataclass(frozen=True, slots=True)
class RunShares:
    """Shares of a run by model and condition, and the number of its cells that have neither a verdict nor a skip.

    `cached` is the part of its verdicts whose answers came from the generation cache.
    """

    shares: tuple[Shares, ...]
    unfinished: int
    cached: float = 0.0


class RunResults:
    """Reads runs from the stores. What takes long runs in threads: callers share an event loop."""

    def __init__(self, verdicts: VerdictStore, reviews: ReviewStore, truths: GroundTruthCache) -> None:
        self._verdicts = verdicts
        self._reviews = reviews
        self._truths = truths
        self._places = asyncio.Semaphore(MEASURED_AT_ONCE)

    async def verdicts(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Newest verdict of each cell, readings of persons applied."""
        reviews = await self._reviews.of_run(run_id)
        truth = await self._truths.of_run(run_id)
        async for verdict in self._verdicts.verdicts(run_id):
            apply_to(verdict, reviews, truth)
            yield verdict

    async def keys(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Cell, attempt and failure reason of the newest verdict of each cell, nothing else."""
        reviews: RunReviews | None = None
        async for key in self._verdicts.keys(run_id):
            reason = key.failure
            if reason == JUDGE_FAILED:
                reviews = await self._reviews.of_run(run_id) if reviews is None else reviews
                reason = settled_key(key, reviews.get((key.cell, key.attempt), {})).failure
            verdict = pb.Verdict(cell=key_of(key.cell), attempt=key.attempt)
            if reason:
                verdict.failure.reason = reason
            yield verdict

    async def read(self, run_id: str, keys: Sequence[str]) -> list[pb.Verdict]:
        """Whole verdicts by the keys of their documents, readings of persons applied."""
        found = await self._verdicts.read(keys)
        reviews = await self._reviews.of_verdicts(found)
        if reviews:
            truth = await self._truths.of_run(run_id)
            for verdict in found:
                apply_to(verdict, reviews, truth)
        return found

    async def metrics(self, name: str) -> RunMetrics:
        """All metrics of a run named by id, unique prefix or `latest`; no rows while it has no verdicts."""
        # The run before its verdicts: one that ends meanwhile is called unfinished, never the other way round.
        run = await self._truths.run_of(name)
        truth = await self._truths.of_run(run.run_id)
        reviews = await self._reviews.of_run(run.run_id)
        letters = await self._verdicts.letters(run.run_id)
        return await self.measured(_measure, run, truth, (letters, reviews))

    async def measured(self, measure: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Return what a measurement gives, made in a thread; others wait while there are enough, for their memory."""
        async with self._places:
            return await asyncio.to_thread(measure, *arguments, **named)

    async def shares(self, run: orchestration_pb2.Run) -> RunShares:
        """Counts of a run's greedy answers by model and condition, readings of persons applied."""
        truth = await self._truths.of_run(run.run_id)
        reviews = await self._reviews.of_run(run.run_id)
        letters = await self._verdicts.letters(run.run_id)
        return await asyncio.to_thread(_shares, run, truth, (letters, reviews))


def _measure(
    run: orchestration_pb2.Run, truth: RunTruth, stored: tuple[Sequence[StoredLetters], RunReviews]
) -> RunMetrics:
    letters = _with_reviews(*stored)
    failures = Counter(found.key.failure for found in letters if found.key.failure)
    # A cell without a truth, or with two verdicts, cannot be measured: it is told as missing.
    cells = {found.cell: found.answers for found in letters if found.cell.question_id in truth.questions}
    costs = [found.cost for found in letters if found.cost is not None]
    return RunMetrics(
        run=run,
        rows=metric_rows(cells.values(), truth.benchmark) if cells else [],
        verdict_count=len(letters),
        failures=failures,
        cost=math.fsum(costs) if costs else None,
        readings=counts_of(found.key.greedy_by + found.key.samples_by for found in letters),
        cached_count=sum(found.cached for found in letters),
        warnings=Counter(warning for found in letters for warning in set(found.warnings)),
        completeness=_completeness(run, truth, letters),
    )


def _shares(
    run: orchestration_pb2.Run, truth: RunTruth, stored: tuple[Sequence[StoredLetters], RunReviews]
) -> RunShares:
    letters = _with_reviews(*stored)
    found: dict[tuple[str, str], Shares] = {}
    for one in letters:
        place = (one.cell.model, one.cell.condition)
        shares = found.setdefault(place, Shares(*place))
        shares.failed += bool(one.key.failure)
        answer = one.answers.greedy
        question = truth.questions.get(one.cell.question_id)
        if not answer or question is None:
            continue
        outcome = outcome_of(question, None if answer == NULL_MARK else answer)
        shares.asked += 1
        shares.correct += outcome.correct
        shares.high_risk += outcome.high_risk_error
        shares.unlabelled += outcome.unlabelled
    cached = sum(one.cached for one in letters) / max(1, len(letters))
    return RunShares(tuple(found.values()), _completeness(run, truth, letters).unfinished, cached)


def _completeness(run: orchestration_pb2.Run, truth: RunTruth, letters: Sequence[StoredLetters]) -> Completeness:
    names = ((found.cell.model, found.cell.condition, found.cell.question_id) for found in letters)
    return completeness_of(run, names, truth.questions)


def _with_reviews(letters: Iterable[StoredLetters], reviews: RunReviews) -> list[StoredLetters]:
    """Letters with those that persons read in their places."""
    if not reviews:
        return list(letters)
    found = []
    for one in letters:
        read = reviews.get((one.cell, one.key.attempt))
        found.append(one if read is None else _as_read(one, read))
    return found


def _as_read(one: StoredLetters, read: CellReviews) -> StoredLetters:
    answers = one.answers
    samples = _replaced(answers.samples, read)
    answers = replace(answers, greedy=read.get(None, answers.greedy), samples=samples)
    return replace(one, key=settled_key(one.key, read), answers=answers)


def _replaced(marks: str, read: CellReviews) -> str:
    changed = list(marks)
    for index, mark in read.items():
        if index is not None and index < len(changed):
            changed[index] = mark
    return "".join(changed)


def settled_key(key: StoredKey, read: CellReviews) -> StoredKey:
    """The key with the marks of persons, and without a judge's failure where they read all that it had failed on."""
    greedy = PERSON_MARK if key.greedy_by and None in read else key.greedy_by
    samples = _replaced(key.samples_by, dict.fromkeys(read, PERSON_MARK))
    lifted = key.failure == JUDGE_FAILED and FAILED_MARK not in greedy + samples
    return replace(key, greedy_by=greedy, samples_by=samples, failure="" if lifted else key.failure)


def apply_to(verdict: pb.Verdict, reviews: RunReviews, truth: RunTruth) -> None:
    """Apply to a verdict what persons read of it."""
    read = reviews.get((cell_of(verdict.cell), verdict.attempt))
    question = truth.questions.get(verdict.cell.question_id)
    if read is not None and question is not None:
        apply_reviews(verdict, read, question)


def apply_reviews(verdict: pb.Verdict, reviews: CellReviews, question: Question) -> None:
    """Replace the letters that persons read, and what follows from them."""
    changed = False
    for index, mark in reviews.items():
        if index is None:
            reading = verdict.greedy if verdict.HasField("greedy") else None
        else:
            reading = verdict.samples[index] if index < len(verdict.samples) else None
        if reading is None:
            continue
        changed = True
        reading.ClearField("letter")
        reading.read_by = PERSON
        if mark != NULL_MARK:
            reading.letter = mark
    if not changed:
        return
    set_outcomes(verdict, question)
    readings = [*verdict.samples, *([verdict.greedy] if verdict.HasField("greedy") else [])]
    unread = any(mark_of(reading) == FAILED_MARK for reading in readings)
    if verdict.failure.reason == JUDGE_FAILED and not unread:
        verdict.ClearField("failure")


def metric_rows(cells: Iterable[CellAnswers], benchmark: Benchmark) -> list[pb.MetricRow]:
    """Metric rows of cells; formulations are measured apart."""
    rows: list[pb.MetricRow] = []
    # The products are short: BLAS threads would wait for each other most of the time.
    with threadpool_limits(limits=1, user_api="blas"):
        for answers in answer_sets(cells).values():
            rows.extend(_messages(metrics_of(answers, label_set(benchmark, answers.question_ids))))
    return rows


def _messages(table: Table) -> Iterable[pb.MetricRow]:
    for row in table.rows():
        message = pb.MetricRow(
            **{name: row[name] for name in ("model", "condition", "regime", "metric", "n", "n_null")}
        )
        for name in ("value", "boot_mean", "boot_sd", "ci_low", "ci_high"):
            if not math.isnan(row[name]):
                setattr(message, name, row[name])
        yield message


def metrics_of_letters(
    questions: Sequence[Question], cells: Sequence[pb.CellLetters], formulation: str
) -> list[pb.MetricRow]:
    """Metric rows of letters and labels that a caller brings.

    Raises:
        InvalidInputError: a cell without its question, a letter that is not an option, or two entries of one cell.

    """
    known = {question.question_id: question for question in questions}
    seen: set[tuple[str, str, str]] = set()
    names: set[str] = set()
    found = []
    for cell in cells:
        key = (cell.model, cell.condition, cell.question_id)
        where = f"cell {cell.model}/{cell.condition}/{cell.question_id}"
        if not all(key):
            raise InvalidInputError(f"{where}: model, condition and question_id must not be empty")
        for field, name in (("model", cell.model), ("condition", cell.condition)):
            if name not in names:
                names.add(checked_name(f"{where}: {field}", name))
        if key in seen:
            raise InvalidInputError(f"{where} is given more than once")
        seen.add(key)
        question = known.get(cell.question_id)
        if question is None:
            raise InvalidInputError(f"{where}: questions has no {cell.question_id!r}")
        marks = [_mark(letter, question, where) for letter in cell.samples]
        greedy = _mark(cell.greedy, question, where)
        latency = cell.latency_s if cell.HasField("latency_s") else None
        if latency is not None and not 0 <= latency < math.inf:
            raise InvalidInputError(f"{where}: latency_s is {latency:g}; expected seconds of at least 0")
        found.append(CellAnswers(*key, formulation, greedy, "".join(marks), latency))
    benchmark = Benchmark("request", tuple(questions))
    return metric_rows(found, benchmark)


def _mark(letter: str, question: Question, where: str) -> str:
    if letter and letter not in question.options:
        raise InvalidInputError(f"{where}: letter {letter!r} is not among {', '.join(question.letters)}")
    return letter or NULL_MARK
