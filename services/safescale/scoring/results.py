"""Results of runs: verdicts with the readings of persons applied, and metrics."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace

from threadpoolctl import threadpool_limits

from safescale.core.analysis import metrics_of
from safescale.core.answer_cells import NULL_MARK
from safescale.core.answers import label_set
from safescale.core.assemble import CellAnswers, answer_sets
from safescale.core.benchmark import Benchmark, Question
from safescale.core.errors import InvalidInputError
from safescale.core.judge import JUDGE_FAILED
from safescale.core.tables import Table
from safescale.rpc.checked import checked_name
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.outcomes import outcome_of, set_outcomes
from safescale.scoring.peers import Truths
from safescale.scoring.readers import FAILED_MARK, PERSON, PERSON_MARK, counts_of, mark_of
from safescale.scoring.records import ReviewStore, StoredKey, StoredLetters, VerdictStore, cell_of, key_of, review_id

Settled = dict[str, pb.Review]
"""Settled reviews by id."""


@dataclass(frozen=True)
class RunMetrics:
    """Metric rows of a run, the verdicts that they count, and their cost (None where no model has a price).

    `readings` tells who read their answers.
    """

    rows: Sequence[pb.MetricRow]
    verdict_count: int
    failed_count: int
    cost: float | None
    readings: pb.ReadingCounts


@dataclass(slots=True)
class Shares:
    """Greedy answers of one model under one condition: asked, correct, high-risk errors; and cells that failed."""

    model: str
    condition: str
    asked: int = 0
    correct: int = 0
    high_risk: int = 0
    failed: int = 0


class RunResults:
    """Reads runs from the stores."""

    def __init__(self, verdicts: VerdictStore, reviews: ReviewStore, truths: Truths) -> None:
        self._verdicts = verdicts
        self._reviews = reviews
        self._truths = truths

    async def _settled(self, run_id: str) -> Settled:
        return {review.review_id: review async for review in self._reviews.scan(run_id) if review.resolved}

    async def verdicts(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Newest verdict of each cell, readings of persons applied."""
        settled = await self._settled(run_id)
        truth = await self._truths.of_run(run_id)
        async for verdict in self._verdicts.verdicts(run_id):
            if settled:
                apply_reviews(verdict, settled, truth.questions[verdict.cell.question_id])
            yield verdict

    async def keys(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Cell, attempt and failure reason of the newest verdict of each cell, nothing else."""
        settled: Settled | None = None
        async for key in self._verdicts.keys(run_id):
            reason = key.failure
            if reason == JUDGE_FAILED:
                settled = await self._settled(run_id) if settled is None else settled
                reason = settled_key(key, settled).failure
            verdict = pb.Verdict(cell=key_of(key.cell), attempt=key.attempt)
            if reason:
                verdict.failure.reason = reason
            yield verdict

    async def read(self, run_id: str, keys: Sequence[str]) -> list[pb.Verdict]:
        """Whole verdicts by the keys of their documents, readings of persons applied."""
        found = await self._verdicts.read(keys)
        settled = await self._reviews.settled(found)
        if settled:
            truth = await self._truths.of_run(run_id)
            for verdict in found:
                apply_reviews(verdict, settled, truth.questions[verdict.cell.question_id])
        return found

    async def metrics(self, run_id: str) -> RunMetrics:
        """All metrics of a run; no rows while it has no verdicts."""
        settled = await self._settled(run_id)
        letters = await self._verdicts.letters(run_id)
        if not letters:
            return RunMetrics([], 0, 0, None, pb.ReadingCounts())
        truth = await self._truths.of_run(run_id)
        letters = [_with_reviews(found, settled) for found in letters]
        failed = sum(bool(found.key.failure) for found in letters)
        readings = counts_of(found.key.greedy_by + found.key.samples_by for found in letters)
        cells = [found.answers for found in letters]
        rows = await asyncio.to_thread(metric_rows, cells, truth.benchmark)
        costs = [found.cost for found in letters if found.cost is not None]
        return RunMetrics(rows, len(letters), failed, math.fsum(costs) if costs else None, readings)

    async def settled_count(self, run_id: str) -> int:
        """Answers of a run that persons read."""
        return len(await self._settled(run_id))

    async def shares(self, run_id: str) -> list[Shares]:
        """Counts of a run's greedy answers by model and condition, readings of persons applied."""
        settled = await self._settled(run_id)
        letters = await self._verdicts.letters(run_id)
        questions = (await self._truths.of_run(run_id)).questions
        found: dict[tuple[str, str], Shares] = {}
        for number, stored in enumerate(letters):
            if number % 1000 == 0:
                await asyncio.sleep(0)
            one = _with_reviews(stored, settled)
            place = (one.cell.model, one.cell.condition)
            shares = found.setdefault(place, Shares(*place))
            shares.failed += bool(one.key.failure)
            answer = one.answers.greedy
            if not answer:
                continue
            outcome = outcome_of(questions[one.cell.question_id], None if answer == NULL_MARK else answer)
            shares.asked += 1
            shares.correct += outcome.correct
            shares.high_risk += outcome.high_risk_error
        return list(found.values())


def _letter(review: pb.Review) -> str:
    return review.resolved_letter if review.HasField("resolved_letter") else NULL_MARK


def _with_reviews(found: StoredLetters, settled: Settled) -> StoredLetters:
    answers = found.answers
    if not settled:
        return found
    cell, attempt = found.key.cell, found.key.attempt
    greedy = settled.get(review_id(cell, attempt, None))
    marks = list(answers.samples)
    for index in range(len(marks)):
        review = settled.get(review_id(cell, attempt, index))
        if review is not None:
            marks[index] = _letter(review)
    answers = replace(answers, greedy=_letter(greedy) if greedy else answers.greedy, samples="".join(marks))
    return replace(found, key=settled_key(found.key, settled), answers=answers)


def settled_key(key: StoredKey, settled: Settled) -> StoredKey:
    """The key with the marks of persons, and without a judge's failure where they read all that it had failed on."""
    greedy = PERSON_MARK if key.greedy_by and review_id(key.cell, key.attempt, None) in settled else key.greedy_by
    samples = "".join(
        PERSON_MARK if review_id(key.cell, key.attempt, index) in settled else mark
        for index, mark in enumerate(key.samples_by)
    )
    lifted = key.failure == JUDGE_FAILED and FAILED_MARK not in greedy + samples
    return replace(key, greedy_by=greedy, samples_by=samples, failure="" if lifted else key.failure)


def apply_reviews(verdict: pb.Verdict, settled: Settled, question: Question) -> None:
    """Replace the letters that persons read, and what follows from them."""
    cell = cell_of(verdict.cell)
    readings: list[tuple[int | None, pb.Reading]] = list(enumerate(verdict.samples))
    if verdict.HasField("greedy"):
        readings.append((None, verdict.greedy))
    changed = False
    for index, reading in readings:
        review = settled.get(review_id(cell, verdict.attempt, index))
        if review is None:
            continue
        changed = True
        reading.ClearField("letter")
        reading.read_by = PERSON
        if review.HasField("resolved_letter"):
            reading.letter = review.resolved_letter
    if not changed:
        return
    set_outcomes(verdict, question)
    unread = any(mark_of(reading) == FAILED_MARK for _, reading in readings)
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
