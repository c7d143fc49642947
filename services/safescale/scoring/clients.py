"""What scoring asks of orchestration: the truth of a run's questions. MemoryCache, since neither changes."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc

from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.rpc.convert import benchmark_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.memory_cache import MemoryCache, memory_of

QUICK_S = 30.0
PAGE = 200
KEPT = 32
"""Runs and benchmarks that are kept at once."""

KEPT_BYTES = 256 * 1024 * 1024
"""Memory of the benchmarks that are kept, and of what runs add to them."""

MESSAGE_TIMES = 4
"""Memory of a message by its encoded length."""


@dataclass(frozen=True)
class RunTruth:
    """What scoring needs of a run: its manifest and its questions with their truth."""

    manifest: orchestration_pb2.Manifest
    benchmark: Benchmark
    questions: dict[str, Question]


class GroundTruthCache:
    """Ground truth of runs by id, fetched once from orchestration."""

    def __init__(
        self,
        orchestration: Callable[[], grpc.aio.Channel],
        know: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        """Take the way to orchestration, and what is told the models of runs."""
        self._orchestration = orchestration
        self._know = know
        know(())
        self._runs: MemoryCache[str, RunTruth] = MemoryCache(KEPT, KEPT_BYTES)
        self._benchmarks: MemoryCache[str, Benchmark] = MemoryCache(KEPT, KEPT_BYTES)
        self._lock = asyncio.Lock()

    async def of_run(self, run_id: str) -> RunTruth:
        """Return the truth of a run.

        Raises:
            NotFoundError: orchestration has no such run.

        """
        async with self._lock:
            truth = self._runs.get(run_id)
            if truth is None:
                truth = await self._fetch(run_id)
                # A run holds its benchmark, whoever else does.
                size = await asyncio.to_thread(memory_of, (truth.benchmark, truth.questions))
                self._runs.put(run_id, truth, size + MESSAGE_TIMES * truth.manifest.ByteSize())
            return truth

    async def _fetch(self, run_id: str) -> RunTruth:
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(self._orchestration())
        with rpc_errors():
            response = await stub.GetRun(_without_progress(run_id), timeout=QUICK_S)
        manifest = response.run.manifest
        spec = manifest.spec
        self._know(name for name in (*spec.models, spec.judge_model, spec.agent_model) if name)
        benchmark_id = manifest.spec.benchmark_id
        benchmark = self._benchmarks.get(benchmark_id)
        if benchmark is None:
            request = orchestration_pb2.GetBenchmarkRequest(benchmark_id=benchmark_id)
            with rpc_errors():
                found = await stub.GetBenchmark(request, timeout=QUICK_S)
            of_proto = (found.benchmark.name, found.questions, found.benchmark.clinician_validated)
            benchmark = await asyncio.to_thread(benchmark_from_proto, *of_proto)
            self._benchmarks.put(benchmark_id, benchmark, await asyncio.to_thread(memory_of, benchmark))
        return RunTruth(manifest, benchmark, {question.question_id: question for question in benchmark.questions})

    async def earlier_runs(self, run: orchestration_pb2.Run) -> list[orchestration_pb2.Run]:
        """Return the completed runs of the series of a run that were created before it, the newest first."""
        series = run.manifest.spec.series
        if not series:
            return []
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(self._orchestration())
        request = orchestration_pb2.ListRunsRequest(page_size=PAGE, series=series)
        found: list[orchestration_pb2.Run] = []
        while True:
            with rpc_errors():
                page = await stub.ListRuns(request, timeout=QUICK_S)
            found.extend(each for each in page.runs if each.manifest.spec.series == series and _before(each, run))
            if not page.next_page_token:
                return sorted(found, key=_created, reverse=True)
            request.page_token = page.next_page_token

    async def run_id_of(self, name: str) -> str:
        """Return the full id of a run named by id, unique prefix or `latest`.

        Raises:
            NotFoundError: orchestration has no such run.

        """
        return (await self.run_of(name)).run_id

    async def run_of(self, name: str) -> orchestration_pb2.Run:
        """Run named by id, unique prefix or `latest`.

        Raises:
            NotFoundError: orchestration has no such run.

        """
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(self._orchestration())
        with rpc_errors():
            response = await stub.GetRun(_without_progress(name), timeout=QUICK_S)
        return response.run


def _created(run: orchestration_pb2.Run) -> tuple[int, str]:
    return run.created_at.ToNanoseconds(), run.run_id


def _before(earlier: orchestration_pb2.Run, run: orchestration_pb2.Run) -> bool:
    return earlier.state == orchestration_pb2.RUN_STATE_COMPLETED and _created(earlier) < _created(run)


def _without_progress(run_id: str) -> orchestration_pb2.GetRunRequest:
    return orchestration_pb2.GetRunRequest(run_id=run_id, without_progress=True)
