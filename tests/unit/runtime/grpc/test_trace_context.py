from collections.abc import AsyncIterator

import grpc
import pytest
from tests.support.spans import RecordedSpans

from safescale.runtime.grpc.channels import connect
from safescale.runtime.grpc.trace_context import client_interceptors, traceparent_of
from safescale.runtime.telemetry import Telemetry
from safescale.runtime.tracing import trace_headers


async def _traceparent(_: object, context: grpc.aio.ServicerContext) -> bytes:
    return traceparent_of(context).encode()


async def _traceparents(_: object, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    yield traceparent_of(context).encode()


@pytest.fixture
async def address() -> AsyncIterator[str]:
    handlers = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(_traceparent),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(_traceparents),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(_traceparent),
        "StreamStream": grpc.stream_stream_rpc_method_handler(_traceparents),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def _seen(channel: grpc.aio.Channel) -> list[str]:
    """What a server sees of each kind of call, made with metadata of its own."""
    own = (("own", "x"),)
    return [
        (await channel.unary_unary("/test/UnaryUnary")(b"", metadata=own)).decode(),
        *[each.decode() async for each in channel.unary_stream("/test/UnaryStream")(b"", metadata=own)],
        (await channel.stream_unary("/test/StreamUnary")(iter([b""]), metadata=own)).decode(),
        *[each.decode() async for each in channel.stream_stream("/test/StreamStream")(iter([b""]), metadata=own)],
    ]


async def test_each_kind_of_call_carries_the_current_span(address: str) -> None:
    telemetry = Telemetry(tracer=RecordedSpans().tracer)
    async with connect(address, client_interceptors(telemetry.tracer)) as channel:
        assert await _seen(channel) == [""] * 4
        with telemetry.span("work"):
            assert await _seen(channel) == [trace_headers()["traceparent"]] * 4


def test_without_a_tracer_a_channel_has_no_interceptors() -> None:
    assert client_interceptors(None) == ()
