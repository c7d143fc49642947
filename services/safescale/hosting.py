"""Hosts the four services in one process on one port: the embedded default. The one place that builds them."""

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc

from safescale.core.errors import AddressInUseError
from safescale.inference.catalog import load_catalog
from safescale.inference.service import InferenceConfig, InferenceService
from safescale.orchestration.service import OrchestrationConfig, OrchestrationService
from safescale.retrieval.embed.embedded import MiniLmEmbedder
from safescale.retrieval.service import RetrievalConfig, RetrievalService
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.channels import connect
from safescale.runtime.datadir import DataDir
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.log import get_logger
from safescale.runtime.server import GrpcServer
from safescale.runtime.service import Service
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry
from safescale.scoring.service import ScoringConfig, ScoringService

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class HostOptions:
    """Where to listen, and whether to take up unfinished runs and to serve /metrics."""

    host: str = LOOPBACK
    port: int = 0
    resume_on_start: bool = False
    metrics_port: int | None = None


class Host:
    """The four services of a process. Use as an async context manager; `address` is set within."""

    def __init__(self, settings: Settings, options: HostOptions) -> None:
        self._settings = settings
        self._options = options
        self._stack = AsyncExitStack()
        self._channel: grpc.aio.Channel | None = None
        self.telemetry = Telemetry()
        self.address = ""
        self.metrics_address = ""

    def _own_channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("the host does not listen yet")
        return self._channel

    async def __aenter__(self) -> "Host":
        """Start everything.

        Raises:
            SafescaleError: the folder, the port or a service cannot be had.

        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        stack = self._stack
        data = stack.enter_context(DataDir(self._settings.data_dir))
        documents = await SqliteDocuments.open(data.records)
        stack.push_async_callback(documents.close)
        bus = MemoryBus(self.telemetry)
        services = self._build(bus, documents)
        server = GrpcServer(services, self.telemetry)
        port = await server.listen(self._options.host, self._options.port)
        # Stopped after the services: cells that they finish while draining still ask each other over gRPC.
        stack.push_async_callback(server.stop)
        self.address = f"{self._options.host}:{port}"
        reachable = LOOPBACK if self._options.host in ("0.0.0.0", "[::]") else self._options.host  # noqa: S104
        self._channel = connect(f"{reachable}:{port}")
        stack.push_async_callback(self._channel.close)
        stack.push_async_callback(bus.close)
        if self._options.metrics_port is not None:
            self.metrics_address = self._serve_metrics(self._options.metrics_port)
        # Consumers before producers: orchestration, the last, may take up runs at once. Stopped in reverse.
        for service in services:
            await service.start()
            stack.push_async_callback(service.stop)
        stack.push_async_callback(server.not_serving)
        await server.serving()
        data.announce(f"{reachable}:{port}")
        get_logger("host").info("serving", address=self.address)

    def _serve_metrics(self, port: int) -> str:
        try:
            actual = self.telemetry.serve(self._options.host, port)
        except OSError as error:
            message = f"cannot serve /metrics on {self._options.host}:{port}: {error.strerror}"
            raise AddressInUseError(message) from error
        return f"http://{self._options.host}:{actual}/metrics"

    def _build(self, bus: MemoryBus, documents: SqliteDocuments) -> list[Service]:
        own = self._own_channel
        settings = self._settings
        telemetry = self.telemetry
        inference = InferenceService(
            InferenceConfig(
                bus=bus,
                documents=documents,
                telemetry=telemetry,
                catalog=load_catalog(settings.models_file),
                retrieval=own,
                orchestration=own,
                cache_dir=settings.data_dir / "models",
                instances=settings.instances,
                call_timeout_s=settings.call_timeout_s,
            )
        )
        embedder = MiniLmEmbedder(workers=os.cpu_count() or 1)
        retrieval = RetrievalService(RetrievalConfig(bus, documents, telemetry, embedder, own))
        scoring = ScoringService(ScoringConfig(bus, documents, telemetry, own, own))
        orchestration = OrchestrationService(
            OrchestrationConfig(bus, documents, telemetry, own, own, own, resume_on_start=self._options.resume_on_start)
        )
        return [scoring, inference, retrieval, orchestration]

    async def __aexit__(self, *_: object) -> None:
        """Drain and stop everything, in reverse order."""
        await asyncio.shield(self._stack.aclose())
