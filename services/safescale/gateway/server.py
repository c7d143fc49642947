"""Listens and answers until asked to stop; then finishes requests in flight."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import uvicorn

from safescale.core.errors import AddressInUseError
from safescale.gateway.app import create_app
from safescale.gateway.clients import open_services
from safescale.gateway.config import GatewayConfig
from safescale.gateway.context import Gateway
from safescale.runtime.addresses import address_of, bare
from safescale.runtime.grpc.tls import https_context
from safescale.runtime.grpc.trace_context import client_interceptors
from safescale.runtime.log import get_logger
from safescale.runtime.reloading import CHECK_S


async def serve(config: GatewayConfig, stop: asyncio.Event, ready: Callable[[str], None] | None = None) -> None:
    """Serve REST until `stop` is set, then drain; `ready` gets host:port once it listens (port 0: a free one).

    Signals are the caller's: none is taken here.

    Raises:
        AddressInUseError: the address cannot be bound.
        InvalidInputError: a file of TLS cannot be used.

    """
    context, renew = (None, None) if config.pair is None else https_context(config.pair)
    listener = _listen(config.host, config.port)
    async with open_services(config.addresses, client_interceptors(config.telemetry.tracer), config.access) as services:
        gateway = Gateway(config, services)
        server = uvicorn.Server(_uvicorn_config(gateway, context))
        server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopped = asyncio.create_task(stop.wait())
        renewing = asyncio.create_task(_renewing(renew))
        try:
            address = address_of(*listener.getsockname()[:2])
            get_logger("gateway").info("serving", address=address)
            if ready is not None:
                ready(address)
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            renewing.cancel()
            # Event streams end first: the server waits for every other answer.
            gateway.draining.set()
            server.should_exit = True
            await asyncio.shield(serving)


def _listen(host: str, port: int) -> socket.socket:
    listener: socket.socket | None = None
    try:
        found = socket.getaddrinfo(bare(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, where = found[0][0], found[0][4]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(1024)
        listener.setblocking(False)
    except (OSError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        reason = getattr(error, "strerror", None) or error
        raise AddressInUseError(f"cannot listen on {address_of(host, port)}: {reason}") from error
    return listener


async def _renewing(renew: Callable[[], object] | None) -> None:
    while renew is not None:
        await asyncio.sleep(CHECK_S)
        renew()


def _uvicorn_config(gateway: Gateway, context: ssl.SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(gateway),
        lifespan="off",
        ssl_context_factory=None if context is None else lambda *_: context,
        ws="none",
        # Its lines name paths and hold tracebacks; ours have an allow-list of fields.
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(gateway.config.deadlines.drain_s),
    )
