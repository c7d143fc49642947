"""The current span in the metadata of gRPC calls."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from opentelemetry.trace import Tracer

from safescale.runtime.tracing import TRACEPARENT, trace_headers

T = TypeVar("T")


def traceparent_of(context: Any) -> str:
    """Return the traceparent in the metadata of a call that is served; empty where the caller sent none."""
    for name, value in context.invocation_metadata() or ():
        if name == TRACEPARENT and isinstance(value, str):
            return value
    return ""


def _traced(details: Any) -> Any:
    """Return the details of a call with the current span in its metadata."""
    headers = trace_headers()
    if not headers:
        return details
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    for name, value in headers.items():
        metadata[name] = value
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, go: Callable[[Any, Any], Awaitable[T]], details: Any, request: Any) -> T:
        return await go(_traced(details), request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, go: Callable[[Any, Any], Awaitable[T]], details: Any, request: Any) -> T:
        return await go(_traced(details), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, go: Callable[[Any, Any], Awaitable[T]], details: Any, requests: Any) -> T:
        return await go(_traced(details), requests)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, go: Callable[[Any, Any], Awaitable[T]], details: Any, requests: Any) -> T:
        return await go(_traced(details), requests)


def client_interceptors(tracer: Tracer | None) -> Sequence[grpc.aio.ClientInterceptor]:
    """Return what a channel needs so that its calls carry the current span; nothing where tracing is off."""
    return () if tracer is None else (_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream())
