"""Reads a broadcast topic of Kafka for one process: all partitions from their beginning, as a member of no group.

After a failure the topic is read from its beginning again: messages may come twice, but none is missed.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from kafka import errors as kafka_errors

from safescale.core.errors import BusUnavailableError
from safescale.runtime.bus.delivery import hand_over
from safescale.runtime.bus.kafka_client import KafkaConnection
from safescale.runtime.bus.kafka_consumer import Tuning, message_of
from safescale.runtime.bus.port import Handler, Message
from safescale.runtime.log import get_logger

READ_RECORDS = 500
"""Maximum number of messages per poll."""

STOP_S = 10.0
"""Seconds that a stop waits at most for a call to Kafka: no message is lost that way, the next process reads all."""


class KafkaFollower:
    """One thread that reads, and hands what it reads to the event loop, where it is handled before more is read."""

    def __init__(self, connection: KafkaConnection, topic: str, handler: Handler, tuning: Tuning) -> None:
        self.topic = topic
        self.on_stopped: Callable[[], None] = lambda: None
        self._connection = connection
        self._handler = handler
        self._tuning = tuning
        self._loop = asyncio.get_running_loop()
        self._caught_up = asyncio.Event()
        self._end = threading.Event()
        self._stop: asyncio.Task[None] | None = None
        self._log = get_logger("bus")
        self._thread = threading.Thread(target=self._run, name=f"bus {topic}", daemon=True)
        self._thread.start()

    async def catch_up(self, seconds: float) -> None:
        """Return once the messages that the topic held at the start are handled.

        Raises:
            BusUnavailableError: it is not in time.

        """
        try:
            await asyncio.wait_for(self._caught_up.wait(), seconds)
        except TimeoutError as error:
            raise BusUnavailableError(
                f"Kafka at {self._connection.name}: {self.topic} could not be read within {seconds:g} s"
            ) from error

    async def stop(self) -> None:
        """Take no more messages, disconnect. A call to a Kafka that went away is left to itself after a while."""
        if self._stop is None:
            self._stop = asyncio.create_task(self._join())
        await asyncio.shield(self._stop)

    async def _join(self) -> None:
        self._end.set()
        await asyncio.to_thread(self._thread.join, min(STOP_S, self._tuning.drain_s))
        if self._thread.is_alive():
            self._log.warning("reader of a broadcast does not end, it is left behind", topic=self.topic)
        self.on_stopped()

    def _run(self) -> None:
        tries = 0
        while not self._end.is_set():
            try:
                self._read()
                tries = 0
            except Exception as error:
                if self._loop.is_closed():
                    return
                tries += 1
                self._log.warning(
                    "broadcast not read, starting anew", topic=self.topic, exception_type=type(error).__name__
                )
                self._end.wait(min(10.0, 0.5 * 2 ** min(tries, 5)))

    def _read(self) -> None:
        """Read until the end, or until the topic has more partitions: they are read with the others from then on.

        Raises:
            KafkaError: the consumer cannot go on.

        """
        consumer = self._open()
        try:
            places = self._places(consumer)
            if not places:
                raise kafka_errors.UnknownTopicOrPartitionError(self.topic)
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            behind = dict(consumer.end_offsets(places))
            look_at = time.monotonic() + self._tuning.metadata_s
            while not self._end.is_set():
                self._poll(consumer)
                behind = {place: end for place, end in behind.items() if consumer.position(place) < end}
                if not behind and not self._caught_up.is_set():
                    self._loop.call_soon_threadsafe(self._caught_up.set)
                if time.monotonic() >= look_at:
                    if len(self._places(consumer)) > len(places):
                        return
                    look_at = time.monotonic() + self._tuning.metadata_s
        finally:
            consumer.close(autocommit=False, timeout_ms=5_000)

    def _places(self, consumer: Any) -> list[Any]:
        return [TopicPartition(self.topic, index) for index in sorted(consumer.partitions_for_topic(self.topic) or ())]

    def _poll(self, consumer: Any) -> None:
        found = consumer.poll(timeout_ms=int(1000 * self._tuning.poll_s), max_records=READ_RECORDS)
        messages = [message_of(record) for records in found.values() for record in records]
        if messages:
            asyncio.run_coroutine_threadsafe(self._handle(messages), self._loop).result()

    async def _handle(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await hand_over(self._handler, message)

    def _open(self) -> Any:
        return KafkaConsumer(
            **self._connection.options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            metadata_max_age_ms=int(1000 * self._tuning.metadata_s),
            fetch_max_wait_ms=int(1000 * self._tuning.poll_s),
            metrics_enabled=False,
        )
