"""The poll thread of one subscription. kafka-python's consumer belongs to one thread, so this one alone touches it.

It keeps polling while handlers work, so that a long handler never costs the membership, and pauses its partitions
while the buffer is full. What is finished is committed periodically and before a partition is given away.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener  # type: ignore[import-untyped]
from kafka.coordinator.assignors.cooperative_sticky import (  # type: ignore[import-untyped]
    CooperativeStickyAssignor,
)
from kafka.structs import MemberState, OffsetAndMetadata  # type: ignore[import-untyped]

from safescale.runtime.bus.kafka_client import KafkaConnection, consumer_group
from safescale.runtime.bus.limits import DEAD_LETTER_LIMIT
from safescale.runtime.bus.partition_tracker import Partition, PartitionAssignment, PartitionTracker, Work
from safescale.runtime.bus.port import Message
from safescale.runtime.log import get_logger

POLL_RECORDS = 32
"""Maximum number of messages per poll."""

FETCH_BYTES = 8 * 1024 * 1024
"""Bytes that the client fetches ahead from one broker."""

PARTITION_BYTES = 2 * DEAD_LETTER_LIMIT
"""Bytes that the client fetches ahead from one partition; larger than the largest message."""

JOIN_S = 5.0
"""Seconds that a poll, or the last commit, waits for a rebalance to end."""

FAILING_S = 30.0
"""Seconds of uninterrupted errors after which the consumer is recreated."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Timeouts and intervals of a consumer."""

    session_ms: int = 30_000
    """A member that does not respond for this long is considered dead; another takes its partitions."""
    max_poll_ms: int = 300_000
    """A member whose poll thread stalls for this long leaves the group."""
    poll_s: float = 1.0
    """Interval between polls of an idle consumer; a message that arrives ends the wait at once."""
    commit_s: float = 1.0
    lag_s: float = 10.0
    metadata_s: float = 60.0
    """New partitions of the topic are found within this time."""
    grace_s: float = 5.0
    """Handlers of a revoked partition have this long to finish."""
    drain_s: float = 10.0
    """Handlers have this long to finish when the subscription stops."""


@dataclass(frozen=True, slots=True)
class Membership:
    """The topic, the group, and the name of the member. An empty instance joins without a fixed name."""

    connection: KafkaConnection
    topic: str
    group: str
    instance: str
    tuning: Tuning


@dataclass(frozen=True, slots=True)
class LoopBridge:
    """Calls from the poll thread into the event loop."""

    loop: asyncio.AbstractEventLoop
    accept: Callable[[Sequence[Work]], None]
    cancel: Callable[[Collection[PartitionAssignment]], None]
    ended: Callable[[], None]
    lag: Callable[[int], None]

    def call(self, function: Callable[..., None], *args: object) -> None:
        """Call a function on the event loop; do nothing when the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            if not self.loop.is_closed():
                raise


class PollThread:
    """Polls until `end`, which commits and leaves the group; after `pause` it takes no more messages."""

    def __init__(self, member: Membership, tracker: PartitionTracker, bridge: LoopBridge) -> None:
        self._member = member
        self._tracker = tracker
        self._bridge = bridge
        self._instance = member.instance
        self._paused = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"bus {member.topic}", daemon=True)
        self._log = get_logger("bus")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def pause(self) -> None:
        """Take no more messages, but stay in the group."""
        self._paused.set()

    def end(self) -> None:
        """Commit finished messages and leave the group; then `LoopBridge.ended` is called."""
        self._paused.set()
        self._end.set()
        self._tracker.has_room.set()

    def _run(self) -> None:
        tries = 0
        try:
            while not self._end.is_set():
                started = time.monotonic()
                try:
                    self._consume()
                except Exception as error:
                    tries = 1 if time.monotonic() - started > FAILING_S else tries + 1
                    self._after(error)
                    self._end.wait(min(10.0, 0.5 * 2 ** min(tries, 5)))
        finally:
            self._bridge.call(self._bridge.ended)

    def _after(self, error: Exception) -> None:
        """Drop the partitions of a consumer that failed: they are no longer ours."""
        self._bridge.call(self._bridge.cancel, self._tracker.drop(self._tracker.partitions()))
        if isinstance(error, kafka_errors.FencedInstanceIdError):
            self._log.error(
                "another process has this instance's name; joining without one: set SAFESCALE_INSTANCE for each",
                topic=self._member.topic, group=self._member.group,
            )  # fmt: skip
            self._instance = ""
            return
        self._log.warning(
            "consumer failed, starting anew", topic=self._member.topic, group=self._member.group,
            exception_type=type(error).__name__,
        )  # fmt: skip

    def _consume(self) -> None:
        consumer = self._open()
        try:
            consumer.subscribe(
                [self._member.topic], listener=_Rebalance(self._member, self._tracker, self._bridge, consumer)
            )
            # Learn of the topic before joining the group: a leader that does not know it yet would assign nothing.
            consumer.partitions_for_topic(self._member.topic)
            _Polling(self._member, self._tracker, self._bridge, consumer).run(self._paused, self._end)
        finally:
            consumer.close(autocommit=False, timeout_ms=5_000)

    def _open(self) -> Any:
        tuning = self._member.tuning
        return KafkaConsumer(
            **self._member.connection.options(),
            group_id=consumer_group(self._member.group, self._member.topic),
            group_instance_id=self._instance or None,
            partition_assignment_strategy=[CooperativeStickyAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            metadata_max_age_ms=int(1000 * tuning.metadata_s),
            session_timeout_ms=tuning.session_ms,
            heartbeat_interval_ms=min(3_000, tuning.session_ms // 4),
            max_poll_interval_ms=tuning.max_poll_ms,
            fetch_max_wait_ms=int(1000 * tuning.poll_s),
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            metrics_enabled=False,
        )


class _Polling:
    """The loop of one consumer."""

    def __init__(self, member: Membership, tracker: PartitionTracker, bridge: LoopBridge, consumer: Any) -> None:
        self._member = member
        self._tracker = tracker
        self._bridge = bridge
        self._consumer = consumer
        self._commit_at = 0.0
        self._lag_at = 0.0
        self._partitions = 0
        self._failing_since: float | None = None

    def run(self, paused: threading.Event, end: threading.Event) -> None:
        """Poll until the end; then commit.

        Raises:
            KafkaError: the consumer cannot go on.

        """
        while not end.is_set():
            try:
                self._round(0 if paused.is_set() else self._tracker.room())
                self._failing_since = None
            except kafka_errors.FencedInstanceIdError:
                raise
            except kafka_errors.KafkaError as error:
                self._bear(error)
                end.wait(0.5)
        self._last_commit()

    def _bear(self, error: Exception) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            get_logger("bus").warning(
                "consumer cannot read, trying on", topic=self._member.topic, group=self._member.group,
                exception_type=type(error).__name__,
            )  # fmt: skip
        elif now - self._failing_since > FAILING_S:
            raise error

    def _round(self, room: int) -> None:
        found = self._poll(room)
        works = [self._take(partition, record) for partition, records in found.items() for record in records]
        if works:
            self._bridge.call(self._bridge.accept, works)
        if self._rebalancing():
            return
        now = time.monotonic()
        if now >= self._commit_at:
            self._commit_at = now + self._member.tuning.commit_s
            self._commit()
        if now >= self._lag_at:
            self._lag_at = now + self._member.tuning.lag_s
            self._measure_lag()
            self._look_for_partitions()
        if not room:
            self._tracker.has_room.wait(min(0.1, self._member.tuning.poll_s))

    def _poll(self, room: int) -> dict[Any, list[Any]]:
        """Return at most `room` messages; one if a partition was assigned that could not be paused before."""
        consumer, coordinator = self._consumer, self._consumer._coordinator
        if coordinator.need_rejoin():
            # The client discards a join that ends while no poll waits for it, and starts over for the whole group:
            # short polls, such as those of a full buffer, would never see a rebalance end.
            coordinator.ensure_active_group(timeout_ms=int(1000 * JOIN_S))
        if room and (stopped := consumer.paused()):
            consumer.resume(*stopped)
        elif not room:
            # Poll all the same: polling keeps the membership.
            consumer.pause(*consumer.assignment())
        wait_s = self._member.tuning.poll_s if room else 0.0
        return dict(consumer.poll(timeout_ms=int(1000 * wait_s), max_records=min(room or 1, POLL_RECORDS)))

    def _rebalancing(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.REBALANCING)

    def _take(self, partition: Any, record: Any) -> Work:
        message = message_of(record)
        return self._tracker.take(message, partition, record.offset, len(record.value or b"") + len(record.key or b""))

    def _last_commit(self) -> None:
        # A rebalance, during which no commit is accepted, ends only when all members poll.
        end = time.monotonic() + JOIN_S
        while not self._commit() and time.monotonic() < end:
            self._poll(0)

    def _commit(self) -> bool:
        """Commit finished messages; return whether all of them are committed now."""
        offsets = self._tracker.to_commit()
        if not offsets:
            return True
        if self._rebalancing():
            return False
        try:
            self._consumer.commit(_as_committed(offsets), timeout_ms=5_000)
        except (kafka_errors.CommitFailedError, kafka_errors.RebalanceInProgressError, kafka_errors.RetriableError):
            # A rebalance or an outage: finished messages are committed next time, or handled again by another member.
            return False
        self._tracker.committed(offsets)
        return True

    def _look_for_partitions(self) -> None:
        """Rejoin when the topic has grown.

        The group's leader does this by itself, except when it was restarted under its fixed name: it then takes itself
        for a follower, and nobody would ever read the new partitions. For a follower rejoining changes nothing.
        """
        count = len(self._consumer.partitions_for_topic(self._member.topic))
        if self._partitions and count > self._partitions:
            self._consumer._coordinator.request_rejoin()
        self._partitions = max(count, self._partitions)

    def _measure_lag(self) -> None:
        partitions = self._consumer.assignment()
        if not partitions:
            self._bridge.lag(0)
            return
        ends = self._consumer.end_offsets(list(partitions), timeout_ms=1_000)
        lag = 0
        for partition in partitions:
            position = self._tracker.position(partition)
            if position is None:
                position = self._consumer.position(partition, timeout_ms=1_000)
            if position is not None:
                lag += max(0, ends.get(partition, 0) - position)
        self._bridge.lag(lag)


class _Rebalance(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Gives partitions away. Called on the client's own I/O thread while the poll thread waits in poll()."""

    def __init__(self, member: Membership, tracker: PartitionTracker, bridge: LoopBridge, consumer: Any) -> None:
        self._grace_s = member.tuning.grace_s
        self._tracker = tracker
        self._bridge = bridge
        self._consumer = consumer

    async def on_partitions_assigned(self, assigned: Collection[Partition]) -> None:
        """Start with empty state: nothing from an earlier assignment of these partitions is committed."""
        self._bridge.call(self._bridge.cancel, self._tracker.drop(assigned))
        self._tracker.assign(assigned)

    async def on_partitions_revoked(self, revoked: Collection[Partition]) -> None:
        """Let running handlers finish within the grace period, commit, and cancel the rest."""
        going = self._tracker.abandon_waiting(revoked)
        end = time.monotonic() + self._grace_s
        while any(assignment.running for assignment in going) and time.monotonic() < end:
            # The client has no public sleep for its listeners; a blocking one would hold back its heartbeats.
            await self._consumer._net.sleep(0.02)
        offsets = self._tracker.to_commit(revoked)
        if offsets:
            try:
                await self._consumer.commit_async(_as_committed(offsets))
            except kafka_errors.KafkaError as error:
                name = type(error).__name__
                get_logger("bus").warning("offsets not committed before a rebalance", exception_type=name)
        self._bridge.call(self._bridge.cancel, self._tracker.drop(revoked))

    async def on_partitions_lost(self, lost: Collection[Partition]) -> None:
        """Cancel handlers and commit nothing: another member has the partitions already."""
        self._bridge.call(self._bridge.cancel, self._tracker.drop(lost))


def _as_committed(offsets: dict[Partition, int]) -> dict[Any, Any]:
    return {TopicPartition(*partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}


def message_of(record: Any) -> Message:
    """Message of a record. Bytes that are no UTF-8 survive in key and headers, so that a dead letter holds them."""
    headers = {name: (value or b"").decode("utf-8", "surrogateescape") for name, value in record.headers or ()}
    key = (record.key or b"").decode("utf-8", "surrogateescape")
    return Message(record.topic, key, record.value or b"", headers)
