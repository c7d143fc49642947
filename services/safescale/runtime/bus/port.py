"""The bus port: topics, keyed messages, consumer groups. Delivery is at least once; order holds per key.

A handler that raises gets its message again, up to the subscription's attempts; then the message is published to
`topics.DEAD_LETTER` with the reason in headers and its bytes unchanged. An attempt that ends with a
DependencyUnavailableError does not count: the message is tried again with back-off until the dependency is back or the
subscription stops, since nothing is wrong with the message. A message whose handler did not end before a stop comes
again after it.
"""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its topic, its ordering key, its payload and its headers (lower-case names)."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


BACK_OFF_MAX_S = 10.0


def back_off_s(tries: int) -> float:
    """Seconds to wait after `tries` (>= 1) failures of a dependency: 0.25 doubling up to 10, with full jitter."""
    return random.uniform(0.1, min(BACK_OFF_MAX_S, 0.25 * 2 ** min(tries, 10)))


Handler = Callable[[Message], Awaitable[None]]
"""Handles one message. Returning acknowledges it; an exception brings it back, up to the subscription's attempts."""


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """How a group consumes: messages in flight at once, attempts of each message before it is a dead letter."""

    max_in_flight: int = 16
    max_attempts: int = 3


class Subscription(Protocol):
    """A running consumer."""

    async def stop(self) -> None:
        """Take no more messages and wait until those in flight are handled."""


class Bus(Protocol):
    """Publishes messages and runs consumers."""

    async def publish(self, message: Message) -> None:
        """Append a message to its topic; returns when the bus has it. Waits while the topic is full (backpressure).

        Raises:
            BusUnavailableError: the bus did not take it in time.
            LimitExceededError: the message is over its topic's limit (`limits.py`).

        """

    async def publish_many(self, messages: Sequence[Message]) -> None:
        """Append messages, those of one topic and key in their order; returns when the bus has them all.

        Raises:
            BusUnavailableError: some may not have been taken; publishing all again is right.
            LimitExceededError: a message is over its topic's limit; none is published then.

        """

    async def subscribe(self, topic: str, group: str, handler: Handler, options: SubscriptionOptions) -> Subscription:
        """Start to consume a topic in a group. Groups get every message, members of one group share them.

        A topic keeps messages for a group from the group's first subscription on, or from its call of `keep`.
        """

    async def follow(self, topic: str, handler: Handler) -> Subscription:
        """Read a broadcast topic for this process alone, from its beginning: every follower gets all messages.

        Returns once the messages that the topic held before the call are handled. Messages of one key are handled in
        order and may come again. Of those with the same key the bus may keep only the newest. If a handler raises, its
        message is logged and skipped: nobody waits for a broadcast.

        Raises:
            BusUnavailableError: the topic cannot be read in time.

        """

    async def keep(self, topic: str, group: str) -> None:
        """Keep the messages of a topic for a group that may subscribe much later."""

    async def ping(self) -> None:
        """Return when the bus answers; BusUnavailableError when it does not."""

    async def close(self) -> None:
        """Stop all subscriptions and release what the bus holds."""
