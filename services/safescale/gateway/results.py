"""What report, gate and exports read of a run."""

import asyncio
from collections.abc import AsyncIterator

from safescale.core.errors import FailedPreconditionError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.tables import Table
from safescale.gateway.clients import ask, follow
from safescale.gateway.context import Gateway
from safescale.rpc.convert import benchmark_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.tables import tables_of


async def run_named(gateway: Gateway, name: str) -> orchestration_pb2.Run:
    """Return a run by id, unique prefix or `latest`.

    Raises:
        NotFoundError: there is none.

    """
    request = orchestration_pb2.GetRunRequest(run_id=name, without_progress=True)
    found = await ask(gateway.services.orchestration.GetRun, request, gateway.config.deadlines.quick_s)
    return found.run


async def benchmark_of(gateway: Gateway, run: orchestration_pb2.Run) -> Benchmark:
    """Return the benchmark of a run, with its questions."""
    request = orchestration_pb2.GetBenchmarkRequest(benchmark_id=run.manifest.spec.benchmark_id)
    found = await ask(gateway.services.orchestration.GetBenchmark, request, gateway.config.deadlines.quick_s)
    named = found.benchmark
    return benchmark_from_proto(named.name, found.questions, named.clinician_validated)


async def tables_of_run(gateway: Gateway, run_id: str) -> dict[str, Table]:
    """Return all tables of a run by name, as scoring computed them."""
    request = pb.GetRunTablesRequest(run_id=run_id)
    stream = gateway.services.scoring.GetRunTables(request, timeout=gateway.config.deadlines.stream_s)
    chunks = [chunk async for chunk in follow(stream)]
    return await asyncio.to_thread(tables_of, chunks)


async def verdicts_of(gateway: Gateway, run_id: str) -> AsyncIterator[pb.Verdict]:
    """Yield the newest verdict of each cell, as they come.

    Raises:
        FailedPreconditionError: there are no verdicts yet.

    """
    request = pb.ExportVerdictsRequest(run_id=run_id)
    stream = gateway.services.scoring.ExportVerdicts(request, timeout=gateway.config.deadlines.stream_s)
    none = True
    try:
        async for response in follow(stream):
            none = False
            yield response.verdict
    finally:
        stream.cancel()
    if none:
        raise FailedPreconditionError(f"run {run_id} has no verdicts yet")
