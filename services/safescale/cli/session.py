"""A command's connection to the services: a named server, the process that holds the data folder, or its own host."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from safescale.core.errors import InvalidInputError, ServiceUnavailableError
from safescale.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.channels import connect
from safescale.runtime.credentials import access_of
from safescale.runtime.datadir import announced_address
from safescale.runtime.settings import Settings

if TYPE_CHECKING:
    from safescale.building import ServiceName
    from safescale.rpc.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub
    from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceAsyncStub
    from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceAsyncStub
    from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceAsyncStub

CONNECT_S = 5.0
SERVICES: tuple["ServiceName", ...] = ("inference", "retrieval", "orchestration", "scoring")


@dataclass(frozen=True)
class Client:
    """Stubs of the four services. `address` is orchestration's; `embedded` tells that they live in this process."""

    address: str
    embedded: bool
    inference: "InferenceServiceAsyncStub"
    retrieval: "RetrievalServiceAsyncStub"
    orchestration: "OrchestrationServiceAsyncStub"
    scoring: "ScoringServiceAsyncStub"


def _client(channels: Mapping[str, grpc.aio.Channel], address: str, embedded: bool) -> Client:
    return Client(
        address,
        embedded,
        InferenceServiceStub(channels["inference"]),
        RetrievalServiceStub(channels["retrieval"]),
        OrchestrationServiceStub(channels["orchestration"]),
        ScoringServiceStub(channels["scoring"]),
    )


@asynccontextmanager
async def session(settings: Settings) -> AsyncIterator[Client]:
    """Connect to the services: each where the settings say, or all of the process that holds the data folder.

    Raises:
        ServiceUnavailableError: a named server does not answer.
        SafescaleError: the services cannot be hosted here.

    """
    common = settings.server or ("" if settings.distributed else announced_address(settings.data_dir))
    if common or settings.distributed:
        addresses: dict[str, str] = {name: getattr(settings, name) or common or "" for name in SERVICES}
        if missing := [name for name, address in addresses.items() if not address]:
            names = " and ".join(f"SAFESCALE_{name.upper()}" for name in missing)
            raise InvalidInputError(f"{names} not set; expected host:port of each service, or SAFESCALE_SERVER")
        async with AsyncExitStack() as stack:
            access = access_of(settings)
            opened = {address: connect(address, access=access) for address in dict.fromkeys(addresses.values())}
            for channel in opened.values():
                stack.push_async_callback(channel.close)
            await asyncio.gather(*(wait_serving(channel, address) for address, channel in opened.items()))
            channels = {name: opened[address] for name, address in addresses.items()}
            yield _client(channels, addresses["orchestration"], embedded=False)
        return
    # Here and not above: a command that finds a server needs none of the services' libraries.
    from safescale.hosting import Host, HostOptions

    async with Host(settings, HostOptions()) as host:
        yield _client({name: host.channel(name) for name in SERVICES}, host.address, embedded=True)


async def wait_serving(channel: grpc.aio.Channel, address: str) -> None:
    """Return when the server says that it serves.

    Raises:
        ServiceUnavailableError: it does not answer, or says that it is not ready.

    """
    try:
        response: health_pb2.HealthCheckResponse = await health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(), timeout=CONNECT_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError as error:
        raise ServiceUnavailableError(f"no safescale server answers at {address}") from error
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        raise ServiceUnavailableError(f"the safescale server at {address} is not ready")
