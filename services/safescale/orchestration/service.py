"""The orchestration service: run drivers, their events, and the research agent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message as Payload

from safescale.core.errors import InvalidInputError
from safescale.orchestration.agent.research import ResearchRunner
from safescale.orchestration.agent.worker import ResearchWorker
from safescale.orchestration.clients import Peers
from safescale.orchestration.kinds.registry import run_kinds
from safescale.orchestration.runs import Runs, RunsPorts
from safescale.orchestration.servicer import OrchestrationServicer
from safescale.orchestration.store import BenchmarkStore, RunStore
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from safescale.runtime.bus import topics
from safescale.runtime.bus.port import Bus, Handler, Message, Subscription, SubscriptionOptions
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.telemetry import Telemetry

GROUP = "orchestration"
EVENTS_IN_FLIGHT = 64
"""Events at once: the cells that they ask for are published together."""


@dataclass(frozen=True)
class OrchestrationConfig:
    """What the service works with.

    `resume_on_start` takes up unfinished runs and looks after them, as a server does. `messages_kept_s` is the seconds
    for which the bus keeps messages; None for ever.
    """

    bus: Bus
    documents: DocumentStore
    telemetry: Telemetry
    inference: Callable[[], grpc.aio.Channel]
    retrieval: Callable[[], grpc.aio.Channel]
    scoring: Callable[[], grpc.aio.Channel]
    resume_on_start: bool = True
    research_in_flight: int = 2
    messages_kept_s: float | None = None


class OrchestrationService:
    """Hosts the run drivers and the agent."""

    def __init__(self, config: OrchestrationConfig) -> None:
        self._config = config
        peers = Peers(config.inference, config.retrieval, config.scoring)
        benchmarks = BenchmarkStore(config.documents)
        store = RunStore(config.documents)
        self._kinds = run_kinds(benchmarks, store, peers)
        self._runs = Runs(RunsPorts(config.bus, self._kinds, store, config.telemetry, config.messages_kept_s))
        self._researcher = ResearchRunner(config.documents, config.inference, config.retrieval, config.telemetry)
        self._worker = ResearchWorker(config.bus, self._researcher, config.research_in_flight)
        self._servicer = OrchestrationServicer(benchmarks, store, self._runs, self._researcher)
        self._subscriptions: list[Subscription] = []
        self._resuming: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Full gRPC service name."""
        return str(orchestration_pb2.DESCRIPTOR.services_by_name["OrchestrationService"].full_name)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the gRPC handlers to a server."""
        orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Listen for events; take up unfinished runs where configured."""
        options = SubscriptionOptions(max_in_flight=EVENTS_IN_FLIGHT)
        handlers: dict[str, Handler] = {topics.DEAD_LETTER: self._on_dead_letter}
        for kind in self._kinds.values():
            handlers |= {topic: self._handler(payload) for topic, payload in kind.events.items()}
        for topic, handler in handlers.items():
            self._subscriptions.append(await self._config.bus.subscribe(topic, GROUP, handler, options))
        await self._worker.start()
        if self._config.resume_on_start:
            self._resuming = asyncio.create_task(self._runs.look_after())

    def _handler(self, payload: type[Payload]) -> Handler:
        """Return what hands the events of a topic to their runs."""

        async def handle(message: Message) -> None:
            event = payload()
            event.ParseFromString(message.value)
            await self._runs.on_event(run_of(message), event)

        return handle

    async def _on_dead_letter(self, message: Message) -> None:
        headers = message.headers
        failure = common_pb2.Failure(
            code=headers.get("error-code", "INTERNAL"),
            reason=headers.get("error-reason", "INTERNAL"),
            message=headers.get("error-message", ""),
            retryable=headers.get("error-retryable") == "true",
        )
        await self._runs.on_dead_letter(headers.get("run-id", ""), failure, headers.get("attempt", ""))

    async def stop(self) -> None:
        """Stop the drivers and the agent; runs stay recorded as running."""
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)
        await self._runs.stop()
        await self._worker.stop()
        for subscription in self._subscriptions:
            await subscription.stop()


def run_of(message: Message) -> str:
    """Return the id of the run that an event belongs to.

    Raises:
        InvalidInputError: it names none. An event that nobody takes up must be seen: a run may wait for it.

    """
    run_id = message.headers.get("run-id", "")
    if not run_id:
        raise InvalidInputError(f"the event of {message.topic} names no run; expected the header run-id")
    return run_id
