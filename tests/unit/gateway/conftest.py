"""The gateway before services that answer what a test says, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from fastapi import FastAPI
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from safescale.gateway.app import create_app
from safescale.gateway.clients import open_services
from safescale.gateway.config import Addresses, Deadlines, GatewayConfig, Limits
from safescale.gateway.context import Gateway
from safescale.rpc.inference.v1 import inference_pb2_grpc
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.rpc.retrieval.v1 import retrieval_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2_grpc
from safescale.runtime.auth.guard import Guard
from safescale.runtime.auth.interceptor import GuardInterceptor
from safescale.runtime.grpc.server import CallInterceptor
from safescale.runtime.telemetry import Telemetry

Handler = Callable[[Any], Any]


@dataclass
class Fakes:
    """What each call answers, by its name, and what was asked."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def on(self, name: str, handler: Any) -> None:
        """Answer with a message, or with what a function makes of the request; an exception is raised."""
        self.handlers[name] = handler

    def count(self, name: str) -> int:
        return sum(asked == name for asked, _ in self.asked)

    def answer(self, name: str, request: Any) -> Any:
        self.asked.append((name, request))
        handler = self.handlers[name]
        found = handler(request) if callable(handler) else handler
        if isinstance(found, Exception):
            raise found
        return found


def _servicer(base: type, fakes: Fakes, streams: tuple[str, ...] = ()) -> Any:
    """A servicer all of whose calls answer as the fakes say."""

    def unary(name: str) -> Any:
        async def call(_self: Any, request: Any, _context: Any) -> Any:
            if hasattr(request, "__aiter__"):
                request = [part async for part in request]
            return fakes.answer(name, request)

        return call

    def stream(name: str) -> Any:
        async def call(_self: Any, request: Any, _context: Any) -> AsyncIterator[Any]:
            for each in fakes.answer(name, request):
                if isinstance(each, Exception):
                    raise each
                if isinstance(each, float):
                    await asyncio.sleep(each)
                else:
                    yield each

        return call

    names = [name for name in vars(base) if name[0].isupper()]
    made = type("Fake", (base,), {name: stream(name) if name in streams else unary(name) for name in names})
    return made()


@dataclass
class World:
    """A gateway, its client, and the services behind."""

    fakes: Fakes
    gateway: Gateway
    client: httpx.AsyncClient
    telemetry: Telemetry
    health: Any
    stop: Callable[[], Any]


SERVICES = ("Inference", "Retrieval", "Orchestration", "Scoring")


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def deadlines() -> Deadlines:
    return Deadlines(quick_s=5, idle_s=0.2, heartbeat_s=0.05, drain_s=2)


@pytest.fixture
def cors_origins() -> tuple[str, ...]:
    return ()


@pytest.fixture
def host() -> str:
    return "127.0.0.1"


@pytest.fixture
def allowed_hosts() -> tuple[str, ...]:
    return ("gateway",)


@pytest.fixture
def guard() -> Guard | None:
    return None


@pytest.fixture(scope="session")
def described() -> FastAPI:
    """Another gateway. Routes and their description are the same for all, and cost much to work out."""
    app = create_app(Gateway(GatewayConfig(Addresses(*["127.0.0.1:1"] * 4), Telemetry()), services=None))
    app.openapi()
    return app


@pytest.fixture
async def world(
    described: FastAPI,
    limits: Limits,
    deadlines: Deadlines,
    cors_origins: tuple[str, ...],
    guard: Guard | None,
    host: str,
    allowed_hosts: tuple[str, ...],
) -> AsyncIterator[World]:
    fakes = Fakes()
    server = grpc.aio.server(interceptors=[CallInterceptor(Telemetry()), GuardInterceptor(guard, None)])
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(
        _servicer(inference_pb2_grpc.InferenceServiceServicer, fakes), server
    )
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(
        _servicer(retrieval_pb2_grpc.RetrievalServiceServicer, fakes), server
    )
    orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server(
        _servicer(orchestration_pb2_grpc.OrchestrationServiceServicer, fakes, ("WatchRun",)), server
    )
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(
        _servicer(scoring_pb2_grpc.ScoringServiceServicer, fakes, ("ExportVerdicts", "GetRunTables")), server
    )
    states = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    for name in SERVICES:
        await states.set(f"safescale.{name.lower()}.v1.{name}Service", health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    addresses = Addresses(*[f"127.0.0.1:{port}"] * 4)
    telemetry = Telemetry()
    async with open_services(addresses) as services:
        gateway = Gateway(
            GatewayConfig(
                addresses,
                telemetry,
                host,
                cors_origins=cors_origins,
                allowed_hosts=allowed_hosts,
                limits=limits,
                deadlines=deadlines,
            ),
            services,
        )
        app = create_app(gateway)
        app.router.routes[:] = described.router.routes
        app.openapi_schema = described.openapi_schema
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield World(fakes, gateway, client, telemetry, states, lambda: server.stop(None))
    await server.stop(None)
