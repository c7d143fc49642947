"""Hosts services in one process on one port: all four by default, or one of a grid. The one place that builds them."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from safescale.app.bootstrap import BUILDERS, Parts, ServiceName, open_bus, open_documents, open_telemetry
from safescale.core.errors import AddressInUseError, DependencyUnavailableError, InvalidInputError, SafescaleError
from safescale.runtime.addresses import LOOPBACK, address_of, reachable
from safescale.runtime.auth.audit import Audit
from safescale.runtime.auth.guard import guard_of
from safescale.runtime.bus.port import Bus, back_off_s
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.extras import lacking
from safescale.runtime.files.atomic import PRIVATE, write_text
from safescale.runtime.files.data_folder import DataDir
from safescale.runtime.grpc.channels import connect
from safescale.runtime.grpc.credentials import Access, access_of
from safescale.runtime.grpc.server import GrpcServer, Protection
from safescale.runtime.grpc.tls import server_tls
from safescale.runtime.grpc.trace_context import client_interceptors
from safescale.runtime.log import get_logger
from safescale.runtime.service import Service
from safescale.runtime.settings import Settings

PING_INTERVAL_S = 10.0
"""Seconds between two checks of the bus and the store."""

PING_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class HostOptions:
    """Where to listen, which services, and whether to take up unfinished runs and to serve /metrics.

    `data` is the data folder where it is held already; the host gives it back at its end.
    `services` are in the order in which they start: consumers before producers, orchestration last.
    """

    host: str = LOOPBACK
    port: int = 0
    services: Sequence[ServiceName] = ("scoring", "inference", "retrieval", "orchestration")
    resume_on_start: bool = False
    metrics_port: int | None = None
    data: DataDir | None = None


class Host:
    """The services of a process. Use as an async context manager; `address` is set within."""

    def __init__(self, settings: Settings, options: HostOptions) -> None:
        self._settings = settings
        self._options = options
        self._stack = AsyncExitStack()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._log = get_logger("host")
        alone = options.services[0] if len(options.services) == 1 else "all"
        self.telemetry = open_telemetry(settings, alone, self._stack)
        self._own = ""
        self._own_access = Access()
        self._access = Access()
        self._port = 0
        self._data = None if settings.elasticsearch else options.data or DataDir(settings.data_dir)
        self.address = ""
        self.metrics_address = ""

    def channel(self, service: ServiceName) -> grpc.aio.Channel:
        """Channel to a service: the own one where it is hosted here, else to where the settings say that it is."""
        own = service in self._options.services
        address = self._own if own else self._settings.address_of(service)
        if not address:
            raise RuntimeError("the host does not listen yet")
        if address not in self._channels:
            self._channels[address] = connect(
                address, client_interceptors(self.telemetry.tracer), self._own_access if own else self._access
            )
        return self._channels[address]

    async def _close_channels(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    @property
    def _reachable(self) -> str:
        return address_of(reachable(self._options.host), self._port)

    @property
    def description(self) -> str:
        """Where it answers, in a line."""
        return f"gRPC on {self.address}, metrics on {self.metrics_address}"

    async def __aenter__(self) -> "Host":
        """Start everything; waits for the bus and the store of a grid.

        Raises:
            SafescaleError: the folder, the port or a service cannot be had.

        """
        try:
            self._check()
            # Before anything is opened: wrong settings are reported at once.
            self._access = access_of(self._settings, "+".join(self._options.services))
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    def _check(self) -> None:
        settings = self._settings
        if len(self._options.services) == len(BUILDERS):
            return
        if not (settings.kafka and settings.elasticsearch):
            raise InvalidInputError(
                "a service in a process of its own needs SAFESCALE_KAFKA and SAFESCALE_ELASTICSEARCH; "
                "expected both, or `safescale serve all`"
            )
        for name in BUILDERS:
            if name not in self._options.services and not settings.address_of(name):
                raise InvalidInputError(f"SAFESCALE_{name.upper()} is empty; expected host:port of the service {name}")

    async def _start(self) -> None:
        stack = self._stack
        data = self._data
        if data is not None:
            stack.enter_context(data)
        documents = await open_documents(self._settings, data, self.telemetry)
        stack.push_async_callback(documents.close)
        bus = open_bus(self._settings, self.telemetry)
        # Closed after the services and the calls that are served, whenever they were opened: both still ask peers.
        stack.push_async_callback(self._close_channels)
        parts = Parts(self._settings, bus, documents, self.telemetry, self.channel, self._options.resume_on_start)
        services = [_built(name, parts, self._options.services) for name in self._options.services]
        protection = Protection(server_tls(self._settings), guard_of(self._settings), Audit(documents))
        server = GrpcServer(services, self.telemetry, protection)
        socket = self._own_socket(protection)
        port = await server.listen(self._options.host, self._options.port, socket)
        # Stopped after the services: cells that they finish while draining still ask each other over gRPC.
        stack.push_async_callback(server.stop)
        self._port = port
        self.address = address_of(self._options.host, port)
        self._own = self._reachable if socket is None else f"unix:{socket}"
        stack.push_async_callback(bus.close)
        if self._options.metrics_port is not None:
            self.metrics_address = self._serve_metrics(self._options.metrics_port)
        await self._until_there(bus, documents)
        # Consumers before producers: orchestration, the last, may take up runs at once. Stopped in reverse.
        for service in services:
            await self._until_started(service)
            stack.push_async_callback(service.stop)
        stack.push_async_callback(server.not_serving)
        await server.serving()
        self.announce()
        watch = asyncio.create_task(self._watch(bus, documents))
        stack.callback(watch.cancel)
        self._log.info("serving", address=self.address)

    def announce(self) -> None:
        """Let other commands on the data folder find this process.

        Raises:
            StorageError: the folder cannot be written.

        """
        if self._data is not None:
            self._data.announce(self._reachable, server=self._options.resume_on_start)

    def withdraw(self) -> None:
        """Let no further command find it."""
        if self._data is not None:
            self._data.withdraw()

    def _own_socket(self, protection: Protection) -> Path | None:
        """Where this process calls itself when its port is protected; None: at the port.

        The port's certificate need not name this machine, and its clients' CA need not know this process.
        """
        if protection.tls is None and protection.guard is None:
            return None
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="safescale-")))
        if protection.guard is not None:
            token = folder / "token"
            write_text(token, protection.guard.own_token, PRIVATE)
            self._own_access = Access(token_file=token)
        return folder / "grpc"

    async def _until_there(self, bus: Bus, documents: DocumentStore) -> None:
        """Wait until the bus and the store answer: in a grid everything starts at once."""
        tries = 0
        while not await self._check_dependencies(bus, documents):
            tries += 1
            await asyncio.sleep(back_off_s(tries))

    async def _until_started(self, service: Service) -> None:
        tries = 0
        while True:
            try:
                return await service.start()
            except DependencyUnavailableError as error:
                tries += 1
                self._log.warning("waiting for a dependency", service=service.name, reason=error.message)
                await service.stop()
                await asyncio.sleep(back_off_s(tries))

    async def _check_dependencies(self, bus: Bus, documents: DocumentStore) -> bool:
        there = True
        for name, ping in (("bus", bus.ping), ("documents", documents.ping)):
            try:
                await asyncio.wait_for(ping(), PING_TIMEOUT_S)
                up = True
            except (DependencyUnavailableError, TimeoutError) as error:
                up = False
                reason = getattr(error, "message", "no answer in time")
                self._log.warning("dependency does not answer", dependency=name, reason=reason)
            except SafescaleError:
                self.telemetry.gauge("safescale_dependency_up", 0.0, {"dependency": name})
                raise
            self.telemetry.gauge("safescale_dependency_up", float(up), {"dependency": name})
            there = there and up
        return there

    async def _watch(self, bus: Bus, documents: DocumentStore) -> None:
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            try:
                await self._check_dependencies(bus, documents)
            except SafescaleError as error:
                # Nothing that time mends, such as an index of another version.
                self._log.error("dependency cannot be used", reason=error.message)
            except Exception as error:
                self._log.error("dependency cannot be looked at", exception_type=type(error).__name__)

    def _serve_metrics(self, port: int) -> str:
        try:
            actual = self.telemetry.serve(self._options.host, port)
        except OSError as error:
            message = f"cannot serve /metrics on {address_of(self._options.host, port)}: {error.strerror}"
            raise AddressInUseError(message) from error
        return f"http://{address_of(self._options.host, actual)}/metrics"

    async def __aexit__(self, *_: object) -> None:
        """Drain and stop everything, in reverse order."""
        await asyncio.shield(self._stack.aclose())


def _built(name: ServiceName, parts: Parts, hosted: Sequence[ServiceName]) -> Service:
    """Build a service without starting it.

    Raises:
        FailedPreconditionError: a package that it needs is not installed.

    """
    try:
        return BUILDERS[name](parts)
    except ImportError as error:
        if (known := lacking(error, hosted)) is None:
            raise
        raise known from error


@dataclass(frozen=True)
class Serving:
    """Something that serves, described in a line."""

    description: str


@asynccontextmanager
async def gateway_host(settings: Settings) -> AsyncIterator[Serving]:
    """Serve the REST gateway for the length of the context.

    Raises:
        InvalidInputError: the address of a service is not set.
        AddressInUseError: its own address cannot be had.

    """
    from safescale.gateway.config import gateway_config
    from safescale.gateway.server import serve

    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with AsyncExitStack() as stack:
        telemetry = open_telemetry(settings, "gateway", stack)
        serving = asyncio.ensure_future(serve(gateway_config(settings, telemetry), stop, listening.set_result))
        try:
            await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                await serving
            scheme = "http" if settings.tls_certificate_file is None else "https"
            yield Serving(f"REST on {scheme}://{listening.result()}")
        finally:
            stop.set()
            await serving


@asynccontextmanager
async def model_server_host(settings: Settings, model: str, **options: Any) -> AsyncIterator[Serving]:
    """Serve a model for the length of the context; options are those of `ModelServerOptions`.

    Raises:
        NotFoundError: the catalog has no such model.
        SafescaleError: it cannot be served.

    """
    from safescale.inference.backends.llama.model_server import ModelServer, ModelServerOptions
    from safescale.inference.catalog import load_catalog

    row = load_catalog(settings.models_file).row(model)
    cache = settings.data_dir / "models"
    own = ModelServerOptions(host=settings.host, port=settings.port, cache_dir=cache, **options)
    async with ModelServer(row, own) as server:
        yield Serving(f"OpenAI-compatible API of {model} on {server.address}")


def catalog_ids(settings: Settings) -> list[str]:
    """Ids of the models in the catalog, in their order.

    Raises:
        SafescaleError: the catalog cannot be used.

    """
    from safescale.inference.catalog import load_catalog

    return sorted(load_catalog(settings.models_file).rows)
