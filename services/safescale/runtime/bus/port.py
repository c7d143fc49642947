"""The bus port: topics, keyed messages, consumer groups. Delivery is at least once; order holds per key."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its topic, its ordering key, its payload and its headers (lower-case names)."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


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
        """Append a message to its topic; returns when the bus has it. Waits while the topic is full (backpressure)."""

    async def subscribe(self, topic: str, group: str, handler: Handler, options: SubscriptionOptions) -> Subscription:
        """Start to consume a topic in a group. Groups get every message, members of one group share them.

        A topic keeps messages for a group from the group's first subscription on.
        """

    async def close(self) -> None:
        """Stop all subscriptions and release what the bus holds."""
