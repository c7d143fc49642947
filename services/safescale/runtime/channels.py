"""Channels to services and the one place where a failed call becomes an error of our tree."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import grpc

from safescale.runtime.errors import from_rpc_error

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Largest gRPC message either way, in bytes."""

READS: Mapping[str, Sequence[str]] = {
    "safescale.inference.v1.InferenceService": ("Tokenize", "ListModels", "GetModel"),
    "safescale.retrieval.v1.RetrievalService": ("Search", "GetContext", "ListCorpora"),
    "safescale.orchestration.v1.OrchestrationService": (
        "GetBenchmark", "ListBenchmarks", "GetRun", "ListRuns", "GetResearch",
    ),
    "safescale.scoring.v1.ScoringService": (
        "ScoreAnswer", "ComputeMetrics", "GetRunMetrics", "EvaluatePolicy", "ListVerdicts", "ListReviews",
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
        "methodConfig": [
            {
                "name": [
                    {"service": service, "method": method} for service, methods in READS.items() for method in methods
                ],
                "retryPolicy": RETRY_POLICY,
            }
        ]
    }
)

T = TypeVar("T")


def connect(address: str, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()) -> grpc.aio.Channel:
    """Channel to `host:port` without TLS, for loopback addresses."""
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config", SERVICE_CONFIG),
        # A peer whose machine vanished is noticed: calls to it fail instead of waiting for their deadline.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)


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
