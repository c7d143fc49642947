"""gRPC face of orchestration: thin over the runs and the research."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from safescale.core.errors import InvalidInputError, LimitExceededError, NotFoundError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.orchestration.agent.research import ResearchRunner
from safescale.orchestration.runs import Runs
from safescale.orchestration.series import series_of
from safescale.orchestration.store import BenchmarkStore, RunStore
from safescale.rpc.checked import checked_benchmark, checked_name, checked_stem
from safescale.rpc.convert import question_to_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

MAX_PAGE = 1000
DEFAULT_PAGE = 100


def benchmark_message(benchmark: Benchmark) -> pb.Benchmark:
    """Return a benchmark as a message, its questions left out."""
    return pb.Benchmark(
        benchmark_id=benchmark.content_hash,
        name=benchmark.name,
        question_count=len(benchmark.questions),
        clinician_validated=benchmark.validated,
    )


class OrchestrationServicer(orchestration_pb2_grpc.OrchestrationServiceServicer):
    """Checks requests and hands them on."""

    def __init__(self, benchmarks: BenchmarkStore, store: RunStore, runs: Runs, researcher: ResearchRunner) -> None:
        self._benchmarks = benchmarks
        self._store = store
        self._runs = runs
        self._researcher = researcher

    async def ImportBenchmark(self, request: pb.ImportBenchmarkRequest, context: Context) -> pb.ImportBenchmarkResponse:
        """Store a benchmark under its content hash."""
        # Thousands of questions take a while to check.
        benchmark = await asyncio.to_thread(
            checked_benchmark, request.name, request.questions, request.clinician_validated
        )
        created = await self._benchmarks.put(benchmark)
        stored = await self._benchmarks.get(benchmark.content_hash)
        return pb.ImportBenchmarkResponse(benchmark=benchmark_message(stored), created=created)

    async def GetBenchmark(self, request: pb.GetBenchmarkRequest, context: Context) -> pb.GetBenchmarkResponse:
        """Read a benchmark."""
        benchmark = await self._benchmarks.get(request.benchmark_id)
        return pb.GetBenchmarkResponse(
            benchmark=benchmark_message(benchmark),
            questions=[question_to_proto(question) for question in benchmark.questions],
        )

    async def ListBenchmarks(self, request: pb.ListBenchmarksRequest, context: Context) -> pb.ListBenchmarksResponse:
        """List the benchmarks."""
        return pb.ListBenchmarksResponse(benchmarks=[benchmark_message(b) for b in await self._benchmarks.all()])

    async def CreateRun(self, request: pb.CreateRunRequest, context: Context) -> pb.CreateRunResponse:
        """Create or continue a run, or only plan it."""
        if request.validate_only:
            return await self._runs.plan(request.spec)
        return await self._runs.create(request.spec, force_new=request.force_new)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        """Read a run with its progress."""
        stored = await self._store.find(request.run_id)
        progress = None if request.without_progress else await self._runs.progress(stored.run)
        return pb.GetRunResponse(run=stored.run, progress=progress)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        """List runs, newest first."""
        size = request.page_size or DEFAULT_PAGE
        if size > MAX_PAGE:
            raise LimitExceededError(f"page_size {size} is over the limit of {MAX_PAGE}")
        if request.page_token and not (request.page_token.isdecimal() and len(request.page_token) < 10):
            raise InvalidInputError(f"page_token {request.page_token[:40]!r} is none of ours")
        begin = int(request.page_token or 0)
        runs = [stored.run for stored in await self._store.all(request.series)]
        token = str(begin + size) if begin + size < len(runs) else ""
        return pb.ListRunsResponse(runs=runs[begin : begin + size], next_page_token=token)

    async def ListSeries(self, request: pb.ListSeriesRequest, context: Context) -> pb.ListSeriesResponse:
        """List the series that runs belong to."""
        return pb.ListSeriesResponse(series=series_of([stored.run for stored in await self._store.all()]))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        """Follow a run until it ends."""
        stored = await self._store.find(request.run_id)
        async for response in self._runs.watch(stored.run):
            yield response

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        """Stop a run."""
        stored = await self._store.find(request.run_id)
        return pb.CancelRunResponse(run=await self._runs.cancel(stored.run))

    async def RetryFailed(self, request: pb.RetryFailedRequest, context: Context) -> pb.RetryFailedResponse:
        """Ask the failed cells of a run again."""
        stored = await self._store.find(request.run_id)
        return await self._runs.retry_failed(stored.run, request.attempt)

    async def Research(self, request: pb.ResearchRequest, context: Context) -> pb.ResearchResponse:
        """Research one question and wait for the report."""
        for field in ("corpus_id", "agent_model"):
            checked_name(field, getattr(request, field))
        checked_stem(request.question)
        return pb.ResearchResponse(research=await self._researcher.research(request))

    async def GetResearch(self, request: pb.GetResearchRequest, context: Context) -> pb.GetResearchResponse:
        """Read the state of a research."""
        research = await self._researcher.get(request.research_id)
        if research is None:
            raise NotFoundError(f"no research {request.research_id!r}")
        return pb.GetResearchResponse(research=research)
