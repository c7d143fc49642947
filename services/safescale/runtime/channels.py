"""Channels to services and the one place where a failed call becomes an error of our tree."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc

from safescale.runtime.errors import from_rpc_error

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Largest gRPC message either way, in bytes."""

T = TypeVar("T")


def connect(address: str) -> grpc.aio.Channel:
    """Channel to `host:port` without TLS, for loopback addresses."""
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
    return grpc.aio.insecure_channel(address, options=options)


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
