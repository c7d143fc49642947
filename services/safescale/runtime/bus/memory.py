"""The bus in memory: the embedded default. Nothing survives the process; runs are taken up from their records."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from safescale.runtime.bus.delivery import AbandonedError, DeliveryContext, deliver, hand_over
from safescale.runtime.bus.limits import check_size
from safescale.runtime.bus.port import Handler, Message, Subscription, SubscriptionOptions
from safescale.runtime.bus.topics import BROADCASTS
from safescale.runtime.telemetry import Telemetry

DEFAULT_CAPACITY = 10_000
"""Waiting messages of a group in a topic from which on publishers wait."""

DRAIN_SECONDS = 10.0
"""Seconds that handlers have to finish messages in flight when a subscription stops."""


@dataclass
class _Group:
    """Waiting messages of one group in one topic; messages of one key are handled one after the other."""

    topic: str
    name: str
    waiting: deque[Message] = field(default_factory=deque)
    busy_keys: set[str] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def take(self) -> Message | None:
        """Next message whose key is not being handled; marks the key busy."""
        for index, message in enumerate(self.waiting):
            if message.key not in self.busy_keys:
                del self.waiting[index]
                self.busy_keys.add(message.key)
                return message
        return None


class MemoryBus:
    """Bus within one process and one event loop. Topics are bounded: a publisher waits while a group lags too far."""

    def __init__(self, telemetry: Telemetry, capacity: int = DEFAULT_CAPACITY, drain_s: float = DRAIN_SECONDS) -> None:
        self._telemetry = telemetry
        self._capacity = capacity
        self._drain_s = drain_s
        self._groups: dict[str, dict[str, _Group]] = {}
        self._subscriptions: list[_MemorySubscription] = []
        self._newest: dict[str, dict[str, Message]] = {topic: {} for topic in BROADCASTS}
        self._followers: list[_MemoryFollower] = []

    async def publish(self, message: Message) -> None:
        """Append a message for every group of its topic; waits while a group has no room.

        Raises:
            LimitExceededError: the message is over its topic's limit.

        """
        check_size(message)
        for group in list(self._groups.get(message.topic, {}).values()):
            async with group.changed:
                while len(group.waiting) >= self._capacity:
                    await group.changed.wait()
                group.waiting.append(message)
                group.changed.notify_all()
            self._observe(group)
        if message.topic in BROADCASTS:
            self._newest[message.topic][message.key] = message
            for follower in self._followers:
                if follower.topic == message.topic:
                    follower.waiting.put_nowait(message)

    async def publish_many(self, messages: Sequence[Message]) -> None:
        """Append messages in their order.

        Raises:
            LimitExceededError: a message is over its topic's limit; none is published then.

        """
        for message in messages:
            check_size(message)
        for message in messages:
            await self.publish(message)

    async def ping(self) -> None:
        """Return at once: the bus is in this process."""

    async def subscribe(self, topic: str, group: str, handler: Handler, options: SubscriptionOptions) -> Subscription:
        """Start to consume a topic in a group."""
        state = self._group(topic, group)
        subscription = _MemorySubscription(self, state, handler, options)
        self._subscriptions.append(subscription)
        return subscription

    async def follow(self, topic: str, handler: Handler) -> Subscription:
        """Read a broadcast topic from its beginning, the newest message of each key.

        Raises:
            ValueError: the topic is not one of `BROADCASTS`.

        """
        if topic not in BROADCASTS:
            raise ValueError(f"{topic} is no broadcast topic")
        follower = _MemoryFollower(topic, handler, self._newest[topic].values())
        follower.on_stopped = lambda: self._followers.remove(follower)
        self._followers.append(follower)
        await follower.waiting.join()
        return follower

    async def keep(self, topic: str, group: str) -> None:
        """Keep the messages of a topic for a group that may subscribe much later."""
        self._group(topic, group)

    def _group(self, topic: str, group: str) -> _Group:
        return self._groups.setdefault(topic, {}).setdefault(group, _Group(topic, group))

    async def close(self) -> None:
        """Stop all subscriptions; messages that wait are dropped."""
        running: list[Subscription] = [*self._subscriptions, *self._followers]
        await asyncio.gather(*(each.stop() for each in running))
        self._groups.clear()

    def _observe(self, group: _Group) -> None:
        labels = {"topic": group.topic, "group": group.name}
        self._telemetry.gauge("safescale_bus_lag", len(group.waiting) + len(group.busy_keys), labels)
        self._telemetry.gauge("safescale_bus_in_flight", len(group.busy_keys), labels)


class _MemorySubscription:
    """Workers of one member of a group."""

    def __init__(self, bus: MemoryBus, group: _Group, handler: Handler, options: SubscriptionOptions) -> None:
        self._bus = bus
        self._group = group
        self._stopping = asyncio.Event()
        self._context = DeliveryContext(
            group.name, handler, options.max_attempts, bus.publish, bus._telemetry, self._stopping
        )
        self._workers = [asyncio.create_task(self._work()) for _ in range(options.max_in_flight)]

    async def _next(self) -> Message | None:
        taken: list[Message] = []

        def ready() -> bool:
            if not self._stopping.is_set() and not taken:
                message = self._group.take()
                if message is not None:
                    taken.append(message)
            return bool(taken) or self._stopping.is_set()

        async with self._group.changed:
            await self._group.changed.wait_for(ready)
            self._group.changed.notify_all()
        return taken[0] if taken else None

    async def _work(self) -> None:
        while (message := await self._next()) is not None:
            self._bus._observe(self._group)
            handled = False
            try:
                await deliver(self._context, message, {})
                handled = True
            except AbandonedError:
                pass
            finally:
                # No await in here: a cancelled worker has to give its message back at once.
                if not handled:
                    self._group.waiting.appendleft(message)
                self._group.busy_keys.discard(message.key)
                self._bus._observe(self._group)
            async with self._group.changed:
                self._group.changed.notify_all()

    async def stop(self) -> None:
        """Take no more messages, wait until those in flight are handled, abandon what outlasts the grace."""
        self._stopping.set()
        async with self._group.changed:
            self._group.changed.notify_all()
        _done, late = await asyncio.wait(self._workers, timeout=self._bus._drain_s)
        for worker in late:
            worker.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        if self in self._bus._subscriptions:
            self._bus._subscriptions.remove(self)
        async with self._group.changed:
            self._group.changed.notify_all()


class _MemoryFollower:
    """Hands the messages of a broadcast topic to one handler, in their order."""

    def __init__(self, topic: str, handler: Handler, kept: Iterable[Message]) -> None:
        self.topic = topic
        self.waiting: asyncio.Queue[Message] = asyncio.Queue()
        self.on_stopped: Callable[[], None] = lambda: None
        for message in kept:
            self.waiting.put_nowait(message)
        self._handler = handler
        self._worker: asyncio.Task[None] | None = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while True:
            message = await self.waiting.get()
            await hand_over(self._handler, message)
            self.waiting.task_done()

    async def stop(self) -> None:
        """Take no more messages."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        self.on_stopped()
