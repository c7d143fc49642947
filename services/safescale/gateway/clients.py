"""The four services as the gateway calls them: a deadline on every call, an error of our tree for every failure."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from safescale.core.errors import LimitExceededError, SafescaleError, ServiceUnavailableError
from safescale.gateway.config import Addresses
from safescale.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.errors import from_rpc_error
from safescale.runtime.grpc.channels import connect
from safescale.runtime.grpc.credentials import Access, Metadata, WithMetadata

if TYPE_CHECKING:
    from safescale.rpc.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub
    from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceAsyncStub
    from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceAsyncStub
    from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceAsyncStub

INFERENCE = "safescale.inference.v1.InferenceService"
RETRIEVAL = "safescale.retrieval.v1.RetrievalService"
ORCHESTRATION = "safescale.orchestration.v1.OrchestrationService"
SCORING = "safescale.scoring.v1.ScoringService"

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """Stubs of the four services, and the channel of each by its full gRPC name."""

    inference: "InferenceServiceAsyncStub"
    retrieval: "RetrievalServiceAsyncStub"
    orchestration: "OrchestrationServiceAsyncStub"
    scoring: "ScoringServiceAsyncStub"
    channels: dict[str, grpc.aio.Channel]

    def on_behalf(self, metadata: Metadata) -> "Services":
        """Return the same services with metadata added to each call."""

        def bound(service: str) -> Any:
            return WithMetadata(self.channels[service], metadata)

        return Services(
            inference=InferenceServiceStub(bound(INFERENCE)),
            retrieval=RetrievalServiceStub(bound(RETRIEVAL)),
            orchestration=OrchestrationServiceStub(bound(ORCHESTRATION)),
            scoring=ScoringServiceStub(bound(SCORING)),
            channels=self.channels,
        )


@asynccontextmanager
async def open_services(
    addresses: Addresses, interceptors: Sequence[grpc.aio.ClientInterceptor] = (), access: Access | None = None
) -> AsyncIterator[Services]:
    """Channels to the services, closed at the end. Nothing is connected before the first call."""
    async with AsyncExitStack() as stack:
        opened: dict[str, grpc.aio.Channel] = {}

        def channel(address: str) -> grpc.aio.Channel:
            if address not in opened:
                opened[address] = connect(address, interceptors, access)
                stack.push_async_callback(opened[address].close)
            return opened[address]

        yield Services(
            inference=InferenceServiceStub(channel(addresses.inference)),
            retrieval=RetrievalServiceStub(channel(addresses.retrieval)),
            orchestration=OrchestrationServiceStub(channel(addresses.orchestration)),
            scoring=ScoringServiceStub(channel(addresses.scoring)),
            channels={
                INFERENCE: channel(addresses.inference),
                RETRIEVAL: channel(addresses.retrieval),
                ORCHESTRATION: channel(addresses.orchestration),
                SCORING: channel(addresses.scoring),
            },
        )


def error_of(error: grpc.aio.AioRpcError) -> SafescaleError:
    """Return the error of a failed call; what gRPC says of size and of a stopping server is no defect.

    A status of ours carries its reason; one without a reason that has these codes comes from the transport.
    """
    known = from_rpc_error(error)
    if known.reason == "INTERNAL" and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return LimitExceededError("the message is over the limit of 32 MiB between the services")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return ServiceUnavailableError("a service stopped while it worked, or is of an older version; try again")
    return known


async def ask(call: Callable[..., Awaitable[R]], request: object, timeout_s: float) -> R:
    """Call within a number of seconds. The channel itself repeats a read whose service went away.

    Raises:
        SafescaleError: what the service answered, or that it cannot be reached.

    """
    try:
        return await call(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error


async def follow(stream: AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the messages of a response stream.

    Raises:
        SafescaleError: what the service answered, or that it cannot be reached.

    """
    try:
        async for message in stream:
            yield message
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error
