"""Consumes requests for research and announces the reports, or why there is none."""

import asyncio
import time

from safescale.core.errors import DependencyUnavailableError, SafescaleError
from safescale.orchestration.agent.research import ResearchRunner
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus import topics
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.port import Bus, Message, Subscription, SubscriptionOptions
from safescale.runtime.errors import to_failure
from safescale.runtime.log import log_context

GROUP = "agent"


class ResearchWorker:
    """Takes research requests from the bus, `in_flight` at a time."""

    def __init__(self, bus: Bus, researcher: ResearchRunner, in_flight: int) -> None:
        self._bus = bus
        self._researcher = researcher
        self._options = SubscriptionOptions(max_in_flight=in_flight)
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Start to consume."""
        self._subscription = await self._bus.subscribe(topics.RESEARCH_REQUESTED, GROUP, self._handle, self._options)

    async def stop(self) -> None:
        """Take no more requests and abandon researches in flight: their states are stored, waiting gains nothing."""
        if self._subscription is not None:
            await asyncio.gather(self._subscription.stop(), self._researcher.stop())
        await self._researcher.stop()

    async def _handle(self, message: Message) -> None:
        asked = events_pb2.ResearchRequested.FromString(message.value)
        with log_context(
            run_id=asked.run_id,
            condition=asked.condition,
            question_id=asked.question.question_id,
            model=asked.agent_model,
        ):
            event = await self._answer(asked)
        await self._publish(event)

    async def _answer(self, asked: events_pb2.ResearchRequested) -> events_pb2.ContextBuilt:
        event = events_pb2.ContextBuilt(
            run_id=asked.run_id,
            condition=asked.condition,
            question_id=asked.question.question_id,
            attempt=asked.attempt,
        )
        request = pb.ResearchRequest(
            question=asked.question,
            corpus_id=asked.corpus_id,
            agent_model=asked.agent_model,
            agent_revision=asked.agent_revision,
            agent_fingerprint=asked.agent_fingerprint,
            run_id=asked.run_id if asked.fresh else "",
        )
        begin = time.perf_counter()
        try:
            research = await self._researcher.research(request)
            event.context.CopyFrom(await self._researcher.context(research))
        except DependencyUnavailableError:
            # Says nothing about the research: the request stays with the bus until the dependency is back.
            raise
        except SafescaleError as error:
            event.failure.CopyFrom(to_failure(error))
        event.elapsed_s = time.perf_counter() - begin
        return event

    async def _publish(self, event: events_pb2.ContextBuilt) -> None:
        key = f"{event.run_id}/{event.condition}/{event.question_id}/"
        await self._bus.publish(event_message(topics.CONTEXT_BUILT, key, event, event.run_id, event.attempt))
