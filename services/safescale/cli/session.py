"""A command's connection to the services: a named server, the process that holds the data folder, or its own host."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from safescale.core.errors import BackendUnavailableError
from safescale.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.channels import connect
from safescale.runtime.datadir import announced_address
from safescale.runtime.settings import Settings

if TYPE_CHECKING:
    from safescale.rpc.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub
    from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceAsyncStub
    from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceAsyncStub
    from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceAsyncStub

CONNECT_S = 5.0


@dataclass(frozen=True)
class Client:
    """Stubs of the four services on one channel. `embedded` tells that they live in this process."""

    address: str
    embedded: bool
    inference: "InferenceServiceAsyncStub"
    retrieval: "RetrievalServiceAsyncStub"
    orchestration: "OrchestrationServiceAsyncStub"
    scoring: "ScoringServiceAsyncStub"


def _client(channel: grpc.aio.Channel, address: str, embedded: bool) -> Client:
    return Client(
        address,
        embedded,
        InferenceServiceStub(channel),
        RetrievalServiceStub(channel),
        OrchestrationServiceStub(channel),
        ScoringServiceStub(channel),
    )


@asynccontextmanager
async def session(settings: Settings) -> AsyncIterator[Client]:
    """Connect to the services.

    Raises:
        BackendUnavailableError: the named server does not answer.
        SafescaleError: the services cannot be hosted here.

    """
    address = settings.server or announced_address(settings.data_dir)
    if address:
        channel = connect(address)
        try:
            await _wait_serving(channel, address)
            yield _client(channel, address, embedded=False)
        finally:
            await channel.close()
        return
    # Here and not above: a command that finds a server needs none of the services' libraries.
    from safescale.hosting import Host, HostOptions

    async with Host(settings, HostOptions()) as host:
        channel = connect(host.address)
        try:
            yield _client(channel, host.address, embedded=True)
        finally:
            await channel.close()


async def _wait_serving(channel: grpc.aio.Channel, address: str) -> None:
    try:
        response: health_pb2.HealthCheckResponse = await health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(), timeout=CONNECT_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError as error:
        raise BackendUnavailableError(f"no safescale server answers at {address}") from error
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        raise BackendUnavailableError(f"the safescale server at {address} is not ready")
