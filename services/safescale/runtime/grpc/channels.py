"""Channels to services and the one place where a failed call becomes an error of our tree."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from safescale.runtime.addresses import checked
from safescale.runtime.errors import from_rpc_error
from safescale.runtime.grpc.credentials import Access, AccessChannel

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Largest gRPC message either way, in bytes."""

READS: Mapping[str, Sequence[str]] = {
    "safescale.inference.v1.InferenceService": ("Tokenize", "ListModels", "GetModel"),
    "safescale.retrieval.v1.RetrievalService": ("Search", "GetContext", "ListCorpora"),
    "safescale.orchestration.v1.OrchestrationService": (
        "GetBenchmark", "ListBenchmarks", "GetRun", "ListRuns", "ListSeries", "GetResearch",
    ),
    "safescale.scoring.v1.ScoringService": (
        "ScoreAnswer", "ComputeMetrics", "GetRunMetrics", "EvaluatePolicy", "PlanPolicy", "CompareRuns", "ListVerdicts",
        "ListReviews", "GetSeries", "GetAudit",
    ),
}  # fmt: skip
"""Methods that change nothing: gRPC itself repeats them where a server went away before it answered."""

RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "3s",
    "backoffMultiplier": 2.5,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

SERVICE_CONFIG = json.dumps(
    {
        # Calls of one channel spread over all addresses of a name, such as the pods behind a headless Service.
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [
                    {"service": service, "method": method} for service, methods in READS.items() for method in methods
                ],
                "retryPolicy": RETRY_POLICY,
            }
        ],
    }
)

OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config", SERVICE_CONFIG),
    # A name is resolved again when a connection ends, which servers cause now and then: replicas come and go.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # A peer whose machine vanished is noticed: calls to it fail instead of waiting for their deadline.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
"""Options of every channel to our services."""

T = TypeVar("T")


SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:")


def connect(
    address: str, interceptors: Sequence[grpc.aio.ClientInterceptor] = (), access: Access | None = None
) -> grpc.aio.Channel:
    """Channel to `host:port`, or to a target in gRPC's own notation; calls spread over all addresses of the name.

    Raises:
        InvalidInputError: a file of `access` cannot be used.

    """

    def make(credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        if credentials is None:
            return grpc.aio.insecure_channel(target_of(address), OPTIONS, interceptors=interceptors)
        return grpc.aio.secure_channel(target_of(address), credentials, OPTIONS, interceptors=interceptors)

    return make(None) if access is None or access.plain else AccessChannel(access, make)


def target_of(address: str) -> str:
    """Target of an address as gRPC has it: a name is resolved to all of its addresses, again and again.

    Raises:
        InvalidInputError: an IPv6 address without brackets.

    """
    return address if address.startswith(SCHEMES) else f"dns:///{checked(address)}"


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Turn a failed call within into the SafescaleError that the server raised."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def responses(stream: AsyncIterable[T]) -> AsyncIterator[T]:
    """Iterate over a response stream; a failure is raised as a SafescaleError."""
    with rpc_errors():
        async for response in stream:
            yield response
