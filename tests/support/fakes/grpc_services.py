"""Scripted gRPC services on one port, as commands reach those of a server."""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

Register = Callable[[Any, grpc.Server], None]
"""A function `add_…Servicer_to_server` of a stub."""


@contextmanager
def serving(servicer: object, *services: Register) -> Iterator[str]:
    """host:port at which a servicer answers for some services, and says that it is healthy."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    for register in services:
        register(servicer, server)
    ready = health.HealthServicer()
    ready.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(ready, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0)
