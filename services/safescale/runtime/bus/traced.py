"""A bus whose messages carry their place in a trace, around either adapter."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from safescale.runtime.bus.port import Bus, Handler, Message, Subscription, SubscriptionOptions
from safescale.runtime.tracing import TRACEPARENT, Tracer, place_of


class TracedBus:
    """Gives each message the header `traceparent` and handles it below the span that published it.

    A message that is published by no traced work begins a trace: what follows from it, in every service, is one trace.
    """

    def __init__(self, inner: Bus, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer

    def _placed(self, message: Message, stack: ExitStack) -> Message:
        fields = {"topic": message.topic, "cell_id": message.key, "run_id": message.headers.get("run-id", "")}
        place = stack.enter_context(self._tracer.span("publish", fields, "producer"))
        if place is None:
            return message
        return replace(message, headers={**message.headers, TRACEPARENT: place.traceparent})

    async def publish(self, message: Message) -> None:
        """Append a message to its topic; see the port.

        Raises:
            BusUnavailableError: the bus did not take it in time.
            LimitExceededError: the message is over its topic's limit.

        """
        with ExitStack() as stack:
            await self._inner.publish(self._placed(message, stack))

    async def publish_many(self, messages: Sequence[Message]) -> None:
        """Append messages; see the port.

        Raises:
            BusUnavailableError: some may not have been taken; publishing all again is right.
            LimitExceededError: a message is over its topic's limit; none is published then.

        """
        placed = []
        for message in messages:
            # One after the other, each ended at once: none of them is the parent of the next.
            with ExitStack() as stack:
                placed.append(self._placed(message, stack))
        await self._inner.publish_many(placed)

    async def subscribe(self, topic: str, group: str, handler: Handler, options: SubscriptionOptions) -> Subscription:
        """Consume a topic in a group; each attempt at a message is a span.

        Raises:
            BusUnavailableError: the bus does not answer, or the topic does not exist.

        """

        async def traced(message: Message) -> None:
            fields = {"topic": message.topic, "group": group, "cell_id": message.key}
            fields["run_id"] = message.headers.get("run-id", "")
            parent = place_of(message.headers.get(TRACEPARENT, ""))
            with self._tracer.span("handle", fields, "consumer", parent):
                await handler(message)

        return await self._inner.subscribe(topic, group, traced, options)

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
