"""The bus on Apache Kafka: the grid's bus. Delivery is at least once; order holds per key."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import errors as kafka_errors  # type: ignore[import-untyped]

from safescale.core.errors import BusUnavailableError
from safescale.runtime.bus.delivery import DeliveryContext, deliver
from safescale.runtime.bus.dispatch import Dispatcher
from safescale.runtime.bus.kafka_client import KafkaConnection, forward_logs, open_admin, unavailable
from safescale.runtime.bus.kafka_consumer import LoopBridge, Membership, PollThread, Tuning
from safescale.runtime.bus.kafka_follower import KafkaFollower
from safescale.runtime.bus.kafka_publisher import Publisher
from safescale.runtime.bus.partition_tracker import Partition, PartitionTracker, Work
from safescale.runtime.bus.port import Handler, Message, Subscription, SubscriptionOptions
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry

PING_S = 5.0
"""Seconds that Kafka has to answer a ping."""

TOPIC_WAIT_S = 30.0
"""Seconds that a topic may take to appear, after an outage or while it is being created."""


class KafkaBus:
    """Publishes to Kafka and runs consumer groups. It connects when it is first used."""

    def __init__(
        self, connection: KafkaConnection, telemetry: Telemetry, instance: str, tuning: Tuning | None = None
    ) -> None:
        forward_logs()
        self._connection = connection
        self._telemetry = telemetry
        self._instance = re.sub(r"[^A-Za-z0-9._-]", "-", instance)[:200]
        self._tuning = tuning or Tuning()
        self._publisher = Publisher(connection)
        self._topics = _Topics(connection)
        self._gauges = _Gauges(telemetry)
        self._subscriptions: list[KafkaSubscription] = []
        self._followers: list[KafkaFollower] = []

    async def publish(self, message: Message) -> None:
        """Append a message; returns when all in-sync replicas have it.

        Raises:
            LimitExceededError: the message is over its topic's limit.
            BusUnavailableError: Kafka did not take it in time, or the topic does not exist.

        """
        await self.publish_many([message])

    async def publish_many(self, messages: Sequence[Message]) -> None:
        """Append messages, those of one topic and key in their order.

        Raises:
            LimitExceededError: a message is over its topic's limit; none is published then.
            BusUnavailableError: some may not have been taken, or a topic does not exist.

        """
        await self._topics.require({message.topic for message in messages})
        await self._publisher.publish(messages)

    async def ping(self) -> None:
        """Return when Kafka answers.

        Raises:
            BusUnavailableError: it does not.

        """
        await self._topics.ping()

    async def subscribe(
        self, topic: str, group: str, handler: Handler, options: SubscriptionOptions
    ) -> "KafkaSubscription":
        """Start to consume a topic in a group, from the group's last commit or from the beginning of the topic.

        Raises:
            BusUnavailableError: Kafka does not answer, or the topic does not exist.

        """
        await self._topics.require({topic})
        taken = {s.name for s in self._subscriptions if (s.topic, s.group) == (topic, group)}
        index = next(i for i in range(len(taken) + 1) if self._name(i) not in taken)
        name = self._name(index)
        member = Membership(self._connection, topic, group, name if self._instance else "", self._tuning)
        context = DeliveryContext(group, handler, options.max_attempts, self.publish, self._telemetry, asyncio.Event())
        subscription = KafkaSubscription(name, member, context, options.max_in_flight, self._gauges)
        subscription.on_stopped = lambda: self._subscriptions.remove(subscription)
        self._subscriptions.append(subscription)
        return subscription

    async def follow(self, topic: str, handler: Handler) -> KafkaFollower:
        """Read a broadcast topic from its beginning, as a member of no group.

        Raises:
            BusUnavailableError: Kafka does not answer in time, or the topic does not exist.

        """
        await self._topics.require({topic})
        follower = KafkaFollower(self._connection, topic, handler, self._tuning)
        follower.on_stopped = lambda: self._followers.remove(follower)
        self._followers.append(follower)
        try:
            await follower.catch_up(TOPIC_WAIT_S)
        except BaseException:
            await follower.stop()
            raise
        return follower

    async def keep(self, topic: str, group: str) -> None:
        """Do nothing: a topic keeps its messages for its own time, and a new group starts at the topic's beginning."""

    async def close(self) -> None:
        """Stop all subscriptions, wait for what is being published, disconnect."""
        running: list[Subscription] = [*self._subscriptions, *self._followers]
        await asyncio.gather(*(each.stop() for each in running))
        await self._publisher.close()
        await self._topics.close()

    def _name(self, index: int) -> str:
        return f"{self._instance}-{index}"


class KafkaSubscription:
    """A member of a group."""

    def __init__(
        self, name: str, member: Membership, context: DeliveryContext, max_in_flight: int, gauges: "_Gauges"
    ) -> None:
        self.name = name
        self.topic = member.topic
        self.group = member.group
        self.on_stopped: Callable[[], None] = lambda: None
        self._context = context
        self._gauges = gauges
        self._drain_s = member.tuning.drain_s
        self._tracker = PartitionTracker(max_in_flight)
        self._dispatcher = Dispatcher(self._tracker, max_in_flight, self._deliver)
        self._ended = asyncio.Event()
        self._stop: asyncio.Task[None] | None = None
        bridge = LoopBridge(
            loop=asyncio.get_running_loop(),
            accept=self._dispatcher.accept,
            cancel=self._dispatcher.cancel,
            ended=self._ended.set,
            lag=lambda lag: gauges.set(self, lag, self._tracker.running),
        )
        self._thread = PollThread(member, self._tracker, bridge)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """Messages that handlers work on."""
        return self._tracker.running

    @property
    def buffered(self) -> int:
        """Messages taken from Kafka and not started."""
        return self._tracker.buffered

    @property
    def partitions(self) -> list[Partition]:
        """Partitions that this member has."""
        return self._tracker.partitions()

    async def stop(self) -> None:
        """Take no more messages, let those in flight end within the grace, commit, and leave."""
        if self._stop is None:
            self._stop = asyncio.create_task(self._drain())
        await asyncio.shield(self._stop)

    async def _drain(self) -> None:
        self._context.stopping.set()
        self._thread.pause()
        await self._dispatcher.drain(self._drain_s)
        self._thread.end()
        await self._ended.wait()
        self._gauges.drop(self)
        self.on_stopped()

    async def _deliver(self, work: Work) -> None:
        origin = {"original-partition": str(work.assignment.partition[1]), "original-offset": str(work.offset)}
        await deliver(self._context, work.message, origin)


class _Gauges:
    """Lag and messages in flight of each topic and group, over all members in this process."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._values: dict[KafkaSubscription, tuple[int, int]] = {}

    def set(self, member: KafkaSubscription, lag: int, running: int) -> None:
        """Record the lag and messages in flight of a member."""
        with self._lock:
            self._values[member] = (lag, running)
            self._show(member)

    def drop(self, member: KafkaSubscription) -> None:
        """Forget a member that stopped."""
        with self._lock:
            self._values.pop(member, None)
            self._show(member)

    def _show(self, member: KafkaSubscription) -> None:
        shown = [v for s, v in self._values.items() if (s.topic, s.group) == (member.topic, member.group)]
        labels = {"topic": member.topic, "group": member.group}
        self._telemetry.gauge("safescale_bus_lag", sum(lag for lag, _ in shown), labels)
        self._telemetry.gauge("safescale_bus_in_flight", sum(running for _, running in shown), labels)


class _Topics:
    """Lists Kafka's topics, with one request at a time; a topic once seen is not requested again."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._known: set[str] = set()
        self._admin: Any = None
        self._asking: asyncio.Task[set[str]] | None = None

    async def require(self, topics: set[str]) -> None:
        """Return when all topics exist.

        Raises:
            BusUnavailableError: Kafka does not answer, or a topic is not there after a while.

        """
        if topics <= self._known:
            return
        end = time.monotonic() + TOPIC_WAIT_S
        while True:
            try:
                self._known |= await self._ask()
                missing = sorted(topics - self._known)
                problem = BusUnavailableError(
                    f"Kafka at {self._connection.name} has no topic {', '.join(missing)}; "
                    "`safescale topics apply` makes the topics"
                )
            except BusUnavailableError as error:
                missing, problem = sorted(topics), error
            if not missing:
                return
            if time.monotonic() >= end:
                raise problem
            get_logger("bus").warning("waiting for topics", count=len(missing), topic=missing[0])
            await asyncio.sleep(1.0)

    async def ping(self) -> None:
        """Send a request and wait briefly for the answer.

        Raises:
            BusUnavailableError: none came.

        """
        try:
            async with asyncio.timeout(PING_S):
                await self._ask()
        except TimeoutError as error:
            raise BusUnavailableError(f"Kafka at {self._connection.name} did not answer within {PING_S:g} s") from error

    async def close(self) -> None:
        """Disconnect."""
        if self._asking is not None:
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._admin is not None:
            await asyncio.to_thread(self._admin.close)
            self._admin = None

    async def _ask(self) -> set[str]:
        # Shared and shielded: callers that give up leave no second thread behind that waits for the same broker.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._list))
        return await asyncio.shield(self._asking)

    def _list(self) -> set[str]:
        if self._admin is None:
            self._admin = open_admin(self._connection)
        try:
            return set(self._admin.list_topics())
        except kafka_errors.KafkaError as error:
            raise unavailable(self._connection, error) from error
