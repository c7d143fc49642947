"""The gRPC server of a process: health, reflection, error mapping, call times, drain."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from safescale.core.errors import AddressInUseError
from safescale.runtime.addresses import address_of
from safescale.runtime.auth.audit import Audit
from safescale.runtime.auth.guard import Guard
from safescale.runtime.auth.interceptor import GuardInterceptor
from safescale.runtime.errors import as_safescale_error, to_status
from safescale.runtime.grpc.channels import MAX_MESSAGE_BYTES
from safescale.runtime.grpc.handlers import Continuation, rewrapped
from safescale.runtime.grpc.tls import ServerTls, server_credentials
from safescale.runtime.grpc.trace_context import traceparent_of
from safescale.runtime.log import get_logger
from safescale.runtime.service import Service
from safescale.runtime.telemetry import Telemetry

DRAIN_SECONDS = 10.0
"""Seconds that calls in flight have to end when the server stops."""

CONNECTION_AGE_S = 60
"""Seconds after which a client is asked to connect anew, so that it finds replicas that came since. Calls that are
under way on the old connection, such as streams of hours, end there: no bound is set on them."""

MAX_METADATA_BYTES = 32 * 1024
"""Largest metadata of a call, in bytes: tokens of issuers hold lists of groups."""


@dataclass(frozen=True)
class Protection:
    """What protects the services of a server: TLS, the guard, the audit log."""

    tls: ServerTls | None = None
    guard: Guard | None = None
    audit: Audit | None = None


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Times each call and answers each error of a handler with a status that carries its reason."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._log = get_logger("server")

    async def intercept_service(self, continuation: Continuation, handler_call_details: Any) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if method.startswith(("/grpc.health.", "/grpc.reflection.")):
            return handler
        return rewrapped(handler, lambda one: self._one(one, method), lambda many: self._many(many, method))

    def _one(self, behaviour: Any, method: str) -> Any:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            begin = time.perf_counter()
            try:
                with self._telemetry.serving(method, traceparent_of(context)):
                    response = await behaviour(request, context)
            except Exception as error:
                await self._fail(error, context, method, begin)
                raise
            self._observe(method, "OK", begin)
            return response

        return call

    def _many(self, behaviour: Any, method: str) -> Any:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            begin = time.perf_counter()
            try:
                with self._telemetry.serving(method, traceparent_of(context)):
                    async for response in behaviour(request, context):
                        yield response
            except Exception as error:
                await self._fail(error, context, method, begin)
                raise
            self._observe(method, "OK", begin)

        return call

    async def _fail(
        self, error: Exception, context: grpc.aio.ServicerContext[Any, Any], method: str, begin: float
    ) -> None:
        if isinstance(error, grpc.aio.AbortError):
            return
        known = as_safescale_error(error)
        self._observe(method, known.code, begin)
        if known.reason == "INTERNAL":
            self._log.error("call failed", method=method, exception_type=type(error).__name__, where=_where(error))
        await context.abort_with_status(rpc_status.to_status(to_status(known)))

    def _observe(self, method: str, code: str, begin: float) -> None:
        _, service, name = method.split("/", 2)
        labels = {"service": service, "method": name, "code": code}
        self._telemetry.observe("safescale_rpc_seconds", time.perf_counter() - begin, labels)


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"


class GrpcServer:
    """One listening server for one or more services."""

    def __init__(self, services: Sequence[Service], telemetry: Telemetry, protection: Protection | None = None) -> None:
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            # What our own clients do is no abuse.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
            ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1000),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
        ]
        self._protection = protection or Protection()
        interceptors = [
            CallInterceptor(telemetry),
            GuardInterceptor(self._protection.guard, self._protection.audit),
        ]
        self._server = grpc.aio.server(interceptors=interceptors, options=options)
        self._services = tuple(services)
        self._health = health.aio.HealthServicer()
        self.port = 0

    async def listen(self, host: str, port: int, socket_path: Path | None = None) -> int:
        """Listen; the services answer NOT_SERVING until `serving`. Returns the port (port 0 takes a free one).

        `socket_path` is a Unix socket besides, for this process itself: without TLS, in a folder of its user alone.

        Raises:
            AddressInUseError: the address cannot be had.
            InvalidInputError: a file of TLS cannot be used.

        """
        for service in self._services:
            service.register(self._server)
            await self._health.set(service.name, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [service.name for service in self._services]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        tls = self._protection.tls
        credentials = None if tls is None else server_credentials(tls)
        address = address_of(host, port)
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
            if socket_path is not None:
                self._server.add_insecure_port(f"unix:{socket_path}")
        except RuntimeError as error:
            raise AddressInUseError(
                f"cannot listen on {address}: the address is in use or not of this machine"
            ) from error
        await self._server.start()
        return self.port

    async def serving(self) -> None:
        """Report to health checks that every service answers."""
        for name in ("", *(service.name for service in self._services)):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def not_serving(self) -> None:
        """Report to health checks, for good, that no new work should come."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float = DRAIN_SECONDS) -> None:
        """Answer NOT_SERVING, let calls in flight end within `grace_s` seconds, stop."""
        await self.not_serving()
        await self._server.stop(grace_s)
