"""What commands fetch of a run: the run, its metrics, its tables, its verdicts, its benchmark."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

from safescale.cli.session import Client
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.rpc.convert import benchmark_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.errors import from_rpc_error
from safescale.runtime.grpc.channels import responses, rpc_errors

if TYPE_CHECKING:
    from safescale.core.tables import Table

QUICK_S = 60.0
METRICS_DEADLINE_S = 600.0
PAGE_SIZE = 1000


async def pages(call: Callable[..., Awaitable[Any]], request: Any) -> AsyncIterator[Any]:
    """Yield every page of a list call, from the page that `request` names on."""
    while True:
        with rpc_errors():
            page = await call(request, timeout=QUICK_S)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def fetch_run(client: Client, name: str) -> orchestration_pb2.Run:
    """Return a run by id, unique prefix or `latest`.

    Raises:
        NotFoundError: there is none.

    """
    with rpc_errors():
        request = orchestration_pb2.GetRunRequest(run_id=name, without_progress=True)
        response = await client.orchestration.GetRun(request, timeout=QUICK_S)
    return response.run


async def run_metrics(client: Client, run_id: str) -> scoring_pb2.GetRunMetricsResponse:
    """Return the metrics of a run."""
    with rpc_errors():
        return await client.scoring.GetRunMetrics(
            scoring_pb2.GetRunMetricsRequest(run_id=run_id), timeout=METRICS_DEADLINE_S
        )


async def fetch_verdicts(client: Client, run_id: str) -> list[scoring_pb2.Verdict]:
    """Return all verdicts of a run, the newest attempt of each cell."""
    stream = client.scoring.ExportVerdicts(scoring_pb2.ExportVerdictsRequest(run_id=run_id))
    return [response.verdict async for response in responses(stream)]


async def fetch_tables(client: Client, run_id: str) -> "dict[str, Table]":
    """Return all tables of a run by name, as scoring computed them."""
    # Here and not above: commands that need no tables should not wait for numpy.
    from safescale.rpc.tables import tables_of

    request = scoring_pb2.GetRunTablesRequest(run_id=run_id)
    stream = client.scoring.GetRunTables(request, timeout=METRICS_DEADLINE_S)
    return tables_of([chunk async for chunk in responses(stream)])


async def fetch_audit(client: Client, run_id: str) -> scoring_pb2.ReadingAudit | None:
    """Return the audit of a run's reading; None where it has none, or scoring is too old to know of audits."""
    try:
        found = await client.scoring.GetAudit(scoring_pb2.GetAuditRequest(run_id=run_id), timeout=QUICK_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise from_rpc_error(error) from error
    return found.audit if found.HasField("audit") else None


async def failed_verdicts(client: Client, run_id: str) -> list[scoring_pb2.Verdict]:
    """Return verdicts of a run that are failures, the newest attempt of each cell."""
    request = scoring_pb2.ListVerdictsRequest(run_id=run_id, page_size=PAGE_SIZE, failed_only=True)
    return [verdict async for page in pages(client.scoring.ListVerdicts, request) for verdict in page.verdicts]


async def fetch_benchmark(client: Client, benchmark_id: str) -> Benchmark:
    """Return a stored benchmark with its questions.

    Raises:
        NotFoundError: there is none.

    """
    request = orchestration_pb2.GetBenchmarkRequest(benchmark_id=benchmark_id)
    with rpc_errors():
        response = await client.orchestration.GetBenchmark(request, timeout=QUICK_S)
    found = response.benchmark
    return benchmark_from_proto(found.name, response.questions, found.clinician_validated)
