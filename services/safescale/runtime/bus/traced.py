"""A bus whose messages carry the span that published them, around either adapter."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from opentelemetry.trace import SpanKind

from safescale.runtime.bus.port import Bus, Handler, Message, Subscription, SubscriptionOptions
from safescale.runtime.telemetry import Telemetry
from safescale.runtime.tracing import TRACEPARENT, context_of, trace_headers


class TracedBus:
    """Gives each message the header `traceparent` and handles it below the span that published it.

    A message published outside a trace begins one: what follows from it, in every service, is one trace.
    """

    def __init__(self, inner: Bus, telemetry: Telemetry) -> None:
        self._inner = inner
        self._telemetry = telemetry

    def _publishing(self, message: Message) -> AbstractContextManager[object]:
        return self._telemetry.span("publish", _fields(message), SpanKind.PRODUCER)

    async def publish(self, message: Message) -> None:
        """Append a message to its topic; see the port.

        Raises:
            BusUnavailableError: the bus did not take it in time.
            LimitExceededError: the message is over its topic's limit.

        """
        with self._publishing(message):
            await self._inner.publish(_with_trace(message))

    async def publish_many(self, messages: Sequence[Message]) -> None:
        """Append messages; see the port.

        Raises:
            BusUnavailableError: some may not have been taken; publishing all again is right.
            LimitExceededError: a message is over its topic's limit; none is published then.

        """
        traced = []
        for message in messages:
            # Each span ends at once: siblings, not parents of one another.
            with self._publishing(message):
                traced.append(_with_trace(message))
        await self._inner.publish_many(traced)

    async def subscribe(self, topic: str, group: str, handler: Handler, options: SubscriptionOptions) -> Subscription:
        """Consume a topic in a group; each attempt at a message is a span.

        Raises:
            BusUnavailableError: the bus does not answer, or the topic does not exist.

        """
        traced = self._traced(handler, {"group": group})
        return await self._inner.subscribe(topic, group, traced, options)

    def _traced(self, handler: Handler, labels: Mapping[str, str]) -> Handler:
        async def traced(message: Message) -> None:
            parent = context_of(message.headers.get(TRACEPARENT, ""))
            with self._telemetry.span("handle", {**_fields(message), **labels}, SpanKind.CONSUMER, parent):
                await handler(message)

        return traced

    async def follow(self, topic: str, handler: Handler) -> Subscription:
        """Read a broadcast topic; each message is a span.

        Raises:
            BusUnavailableError: the topic cannot be read in time.

        """
        return await self._inner.follow(topic, self._traced(handler, {}))

    async def keep(self, topic: str, group: str) -> None:
        """Keep the messages of a topic for a group that may subscribe much later."""
        await self._inner.keep(topic, group)

    async def ping(self) -> None:
        """Return when the bus answers.

        Raises:
            BusUnavailableError: it does not.

        """
        await self._inner.ping()

    async def close(self) -> None:
        """Stop all subscriptions and release what the bus holds."""
        await self._inner.close()


def _fields(message: Message) -> dict[str, str]:
    return {"topic": message.topic, "cell_id": message.key, "run_id": message.headers.get("run-id", "")}


def _with_trace(message: Message) -> Message:
    return replace(message, headers={**message.headers, **trace_headers()})
