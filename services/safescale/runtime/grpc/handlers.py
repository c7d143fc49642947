"""Wraps the handlers of gRPC methods, whatever their kind."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


def rewrapped(handler: Any, one: Callable[[Any], Any], many: Callable[[Any], Any]) -> Any:
    """Return a handler whose behaviour is wrapped by `one` (one response) or by `many` (a stream of responses)."""
    if handler.unary_unary or handler.stream_unary:
        make: Any = grpc.unary_unary_rpc_method_handler if handler.unary_unary else grpc.stream_unary_rpc_method_handler
        wrapped = one(handler.unary_unary or handler.stream_unary)
    else:
        make = grpc.unary_stream_rpc_method_handler if handler.unary_stream else grpc.stream_stream_rpc_method_handler
        wrapped = many(handler.unary_stream or handler.stream_stream)
    return make(wrapped, handler.request_deserializer, handler.response_serializer)
