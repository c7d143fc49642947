"""Results of runs: verdicts with the readings of persons applied, metrics and tables."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from safescale.core.decisions.policy import Scope
from safescale.core.decisions.series import Outcomes
from safescale.core.errors import FailedPreconditionError, InvalidInputError
from safescale.core.safety.answers.judge import JUDGE_FAILED
from safescale.core.safety.completeness import RunCompleteness
from safescale.core.tables import Table
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import counts_of, reading_of
from safescale.rpc.runs import asked_of, completeness_of, kind_name
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.clients import GroundTruthCache, RunTruth
from safescale.scoring.gate.judge import Measured, obstacles
from safescale.scoring.kinds.port import (
    ComparedRun,
    ComparisonOptions,
    Kinds,
    MeasuredRun,
    MetricRows,
    RunComparison,
    ScoringKind,
    Shares,
    kind_of,
)
from safescale.scoring.records import ReviewStore, StoredLetters, VerdictStore, cell_of, key_of
from safescale.scoring.reviews.audit import TABLE, corrections, corrections_table, set_corrections, stored_audit
from safescale.scoring.reviews.corrections import Corrections
from safescale.scoring.reviews.letters import settled_key, with_reviews
from safescale.scoring.settled import RunReviews

MEASURED_AT_ONCE = 2
"""Measurements at once: each may take hundreds of megabytes."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class RunMetrics:
    """Metric rows of a run, and what they are based on.

    `failures` counts failed cells by reason. `cost` is None if no model has a price. `readings` counts answers by who
    read them. `cached_count` counts verdicts whose answers came from the cache, `warnings` verdicts by warning.
    """

    run: orchestration_pb2.Run
    measured_rows: MetricRows
    verdict_count: int
    failures: Mapping[str, int]
    cost: float | None
    readings: pb.ReadingCounts
    cached_count: int
    warnings: Mapping[str, int]
    completeness: RunCompleteness

    @property
    def rows(self) -> Sequence[pb.MetricRow]:
        """Rows over all questions."""
        return self.measured_rows.rows

    @property
    def failed_count(self) -> int:
        """Number of cells that failed, those that the judge failed to read included."""
        return sum(self.failures.values())

    def message(self) -> pb.GetRunMetricsResponse:
        """Return the metrics as a message."""
        found = self.completeness
        return pb.GetRunMetricsResponse(
            rows=self.rows,
            slice_rows=self.measured_rows.slice_rows,
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
            reading=reading_of(self.run.manifest),
            answer=self.run.manifest.spec.answer or "free",
        )

    def measured(self) -> Measured:
        """Return the measurement that a policy judges."""
        asked = asked_of(self.run)
        scope = Scope(asked.models, asked.conditions, self.completeness.skipped_places)
        rows = [*self.rows, *self.measured_rows.slice_rows]
        return Measured(rows, scope, obstacles(self.failures, self.completeness))


@dataclass(frozen=True, slots=True)
class RunShares:
    """Shares of a run by model and condition, and the number of its cells that have neither a verdict nor a skip.

    `cached` is the part of its verdicts whose answers came from the generation cache.
    """

    shares: tuple[Shares, ...]
    unfinished: int
    cached: float = 0.0


class RunMeasurements:
    """Reads runs from the stores. Long computations run in threads, since callers share an event loop."""

    def __init__(self, verdicts: VerdictStore, reviews: ReviewStore, truths: GroundTruthCache, kinds: Kinds) -> None:
        self._verdicts = verdicts
        self._reviews = reviews
        self._truths = truths
        self._kinds = kinds
        self._places = asyncio.Semaphore(MEASURED_AT_ONCE)

    async def verdicts(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Yield the newest verdict of each cell, readings of persons applied."""
        reviews = await self._reviews.of_run(run_id)
        truth = await self._truths.of_run(run_id)
        async for verdict in self._verdicts.verdicts(run_id):
            self.settle(verdict, reviews, truth)
            yield verdict

    def settle(self, verdict: pb.Verdict, reviews: RunReviews, truth: RunTruth) -> None:
        """Apply the readings of persons to a verdict."""
        read = reviews.get((cell_of(verdict.cell), verdict.attempt))
        if read is not None:
            kind_of(self._kinds, truth.manifest).settle(verdict, read, truth)

    async def keys(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Yield cell, attempt and failure reason of the newest verdict of each cell, nothing else."""
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
        """Return whole verdicts by the keys of their documents, readings of persons applied."""
        found = await self._verdicts.read(keys)
        reviews = await self._reviews.of_verdicts(found)
        if reviews:
            truth = await self._truths.of_run(run_id)
            for verdict in found:
                self.settle(verdict, reviews, truth)
        return found

    async def compared(
        self, names: tuple[str, str], chosen: ComparisonOptions
    ) -> tuple[ComparedRun, ComparedRun, RunComparison]:
        """Compare two runs, candidate and baseline, each named by id, unique prefix or `latest`.

        Raises:
            FailedPreconditionError: the runs are unlike, of different kinds, or one has no verdicts yet.
            InvalidInputError: it is not clear which models are meant.

        """
        candidate, baseline = [ComparedRun(each, await self._letters(each)) for each in await self._two(names)]
        kinds = [kind_name(each.measured.run.manifest) for each in (candidate, baseline)]
        if kinds[0] != kinds[1]:
            raise FailedPreconditionError(f"runs of different kinds are not compared: {' and '.join(kinds)}")
        for each in (candidate, baseline):
            if not each.letters:
                raise FailedPreconditionError(f"run {each.measured.run.run_id} has no verdicts yet")
        found = await self.measured(self._kind(candidate.measured).compare, candidate, baseline, chosen)
        return candidate, baseline, found

    async def _two(self, names: tuple[str, str]) -> list[MeasuredRun]:
        return [await self._measured_run(name) for name in names]

    async def metrics(self, name: str, slices: Sequence[str] = ()) -> RunMetrics:
        """Return all metrics of a run named by id, unique prefix or `latest`; no rows while it has no verdicts.

        Raises:
            InvalidInputError: the questions of the run have no such slice.

        """
        measured = await self._measured_run(name)
        letters = await self._letters(measured)
        kind = self._kind(measured)
        found = await self.measured(_measure, kind, measured, letters, slices)
        set_corrections(found.rows, await self._corrections(measured))
        return found

    async def _corrections(self, measured: MeasuredRun) -> Corrections:
        """Return the shares corrected by a complete audit of the reading; none without one."""
        audit = stored_audit(await self._reviews.bodies(measured.run.run_id))
        if not audit.complete:
            return {}
        machine = await self._verdicts.letters(measured.run.run_id)
        return await self.measured(corrections, self._kind(measured), measured, machine, audit)

    async def tables(self, name: str, wanted: Sequence[str]) -> Sequence[Table]:
        """Return the wanted tables of a run named by id, unique prefix or `latest`; all if none is named.

        Raises:
            InvalidInputError: runs of this kind have no such table.

        """
        measured = await self._measured_run(name)
        kind = self._kind(measured)
        known = (*kind.tables, TABLE)
        for table in wanted:
            if table not in known:
                raise InvalidInputError(f"the run has no table {table!r}; expected {', '.join(known)}")
        records = [kind.record(verdict) async for verdict in self.verdicts(measured.run.run_id)]
        found = await self.measured(kind.tables_of, measured, records, set(wanted or kind.tables))
        corrected = await self._corrections(measured) if TABLE in (wanted or known) else {}
        return [*found, corrections_table(corrected)] if corrected else found

    async def events(self, run: orchestration_pb2.Run) -> tuple[Outcomes, Mapping[str, str]]:
        """Return what each answer of a run means, readings of persons applied, and the clusters of its questions."""
        measured = MeasuredRun(run, await self._truths.of_run(run.run_id))
        letters = await self._letters(measured)
        found = await asyncio.to_thread(self._kind(measured).events, letters, measured.truth)
        return found, {name: each.cluster for name, each in measured.truth.questions.items() if each.cluster}

    async def _measured_run(self, name: str) -> MeasuredRun:
        # Read the run before its verdicts: one that ends meanwhile counts as unfinished, never the other way round.
        run = await self._truths.run_of(name)
        return MeasuredRun(run, await self._truths.of_run(run.run_id))

    def _kind(self, measured: MeasuredRun) -> ScoringKind:
        return kind_of(self._kinds, measured.truth.manifest)

    async def _letters(self, measured: MeasuredRun) -> list[StoredLetters]:
        """Return the letters of a run, readings of persons applied."""
        reviews = await self._reviews.of_run(measured.run.run_id)
        letters = await self._verdicts.letters(measured.run.run_id)
        return await asyncio.to_thread(with_reviews, letters, reviews)

    async def measured(self, measure: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run a measurement in a thread and return its result; only a few run at once, to bound their memory."""
        async with self._places:
            return await asyncio.to_thread(measure, *arguments, **named)

    def knows(self, run: orchestration_pb2.Run) -> bool:
        """Return whether the kind of a run is known; that of a later version may not be."""
        return kind_name(run.manifest) in self._kinds

    async def shares(self, run: orchestration_pb2.Run) -> RunShares:
        """Return counts of a run's answers by model and condition, readings of persons applied."""
        measured = MeasuredRun(run, await self._truths.of_run(run.run_id))
        letters = await self._letters(measured)
        return await asyncio.to_thread(_shares, self._kind(measured), measured, letters)


def _measure(
    kind: ScoringKind, measured: MeasuredRun, letters: Sequence[StoredLetters], slices: Sequence[str]
) -> RunMetrics:
    costs = [found.cost for found in letters if found.cost is not None]
    return RunMetrics(
        run=measured.run,
        measured_rows=kind.metrics(letters, measured.truth, slices),
        verdict_count=len(letters),
        failures=Counter(found.key.failure for found in letters if found.key.failure),
        cost=math.fsum(costs) if costs else None,
        readings=counts_of(found.key.greedy_by + found.key.samples_by for found in letters),
        cached_count=sum(found.cached for found in letters),
        warnings=Counter(warning for found in letters for warning in set(found.warnings)),
        completeness=_completeness(measured, letters),
    )


def _shares(kind: ScoringKind, measured: MeasuredRun, letters: Sequence[StoredLetters]) -> RunShares:
    cached = sum(one.cached for one in letters) / max(1, len(letters))
    shares = tuple(kind.shares(letters, measured.truth))
    return RunShares(shares, _completeness(measured, letters).unfinished, cached)


def _completeness(measured: MeasuredRun, letters: Sequence[StoredLetters]) -> RunCompleteness:
    names = ((found.cell.model, found.cell.condition, found.cell.question_id) for found in letters)
    return completeness_of(measured.run, names, measured.truth.questions)
