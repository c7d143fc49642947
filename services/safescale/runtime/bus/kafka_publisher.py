"""Publishes to Kafka from the event loop: one thread feeds the producer, one wake-up of the loop answers a batch."""

import asyncio
import queue
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka import errors as kafka_errors
from kafka.partitioner import Partitioner  # type: ignore[import-untyped]

from safescale.core.errors import BusUnavailableError, LimitExceededError
from safescale.runtime.bus.kafka_client import KafkaConnection, network, unavailable
from safescale.runtime.bus.limits import BATCH_RESERVE, DEAD_LETTER_LIMIT, check_size, limit_of
from safescale.runtime.bus.port import Message
from safescale.runtime.log import get_logger

DELIVERY_S = 120.0
"""Seconds that a message may take to reach Kafka, outages included; then publishing fails."""

CHUNK_MESSAGES = 2_000
CHUNK_BYTES = 8 * 1024 * 1024
"""Limits on the messages, and their bytes, that one call has in flight."""

TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)

HARMLESS = (kafka_errors.RetriableError, kafka_errors.AuthorizationError, *TOO_LARGE)
"""Errors after which the producer remains usable."""


class _Batch:
    """Messages of one call and their common answer."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.deadline = time.monotonic() + DELIVERY_S
        self.answer: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._open = len(messages)
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def delivered(self, _metadata: object) -> None:
        self._close(1, None)

    def failed(self, error: BaseException) -> None:
        self._close(1, error)

    def give_up(self, error: BaseException, unsent: int) -> None:
        """Fail messages that were not handed to the producer."""
        self._close(unsent, error)

    def _close(self, count: int, error: BaseException | None) -> None:
        with self._lock:
            self._open -= count
            self._error = self._error or error
            done = self._open == 0
        if done:
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                if not self._loop.is_closed():
                    raise

    def _answer(self) -> None:
        if not self.answer.done():
            self.answer.set_result(self._error)


class KeyPartitioner(Partitioner):  # type: ignore[misc]
    """Messages of one key go to one partition, chosen by the CRC-32 of the key.

    kafka-python's own choice, murmur2 in Python, takes a fifth of the time of sending.
    """

    def partition(self, topic: str, key: object, serialized_key: bytes, *given: Any) -> int:  # noqa: ARG002
        """Partition of a key; the last of what is given is the cluster."""
        return zlib.crc32(serialized_key) % len(given[-1].partitions_for_topic(topic))


class WakeupCoalescer:
    """Wakes the producer's thread once for many messages: each wake-up makes both threads wait for the interpreter."""

    def __init__(self) -> None:
        self.held = False
        self._wake: Callable[[], None] = lambda: None
        self._wanted = False

    def network(self, **options: Any) -> Any:
        """Return a network client of kafka-python whose thread this object wakes."""
        client = network(**options)
        self._wake, client.wakeup = client.wakeup, self
        return client

    def __call__(self) -> None:
        """Wake the thread, or remember that it is to be woken."""
        if self.held:
            self._wanted = True
        else:
            self._wake()

    def release(self) -> None:
        """Wake the thread if it was to be woken meanwhile."""
        self.held = False
        if self._wanted:
            self._wanted = False
            self._wake()


class Publisher:
    """An idempotent producer: each message is in Kafka once however often it was sent, in the order of its key."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._producer: Any = None
        self._spoilt = False
        self._wakeup = WakeupCoalescer()
        self._fed = 0
        self._topics: set[str] = set()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages; returns when all in-sync replicas have them.

        Raises:
            LimitExceededError: a message is over its topic's limit; nothing is published then.
            BusUnavailableError: Kafka did not take all in time.

        """
        sizes = [check_size(message) for message in messages]
        begin = used = 0
        for index, size in enumerate(sizes):
            if index - begin >= CHUNK_MESSAGES or (used and used + size > CHUNK_BYTES):
                await self._send(messages[begin:index])
                begin, used = index, 0
            used += size
        if begin < len(messages):
            await self._send(messages[begin:])

    async def close(self) -> None:
        """Wait for what is under way, and close the producer."""
        self._closing.set()
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def _send(self, messages: Sequence[Message]) -> None:
        if self._closing.is_set():
            raise BusUnavailableError("the bus of this process is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bus publisher", daemon=True)
            self._thread.start()
        batch = _Batch(messages)
        self._queue.put(batch)
        error = await batch.answer
        if error is None:
            return
        if isinstance(error, TOO_LARGE):
            topic = messages[0].topic
            raise LimitExceededError(
                f"Kafka refused a message for {topic}, though it is under the limit of {limit_of(topic):,} bytes: "
                "its topic has a smaller max.message.bytes; `safescale topics apply` corrects it"
            ) from error
        raise unavailable(self._connection, error) from error

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            self._feed(batch)
            self._fed += len(batch.messages)
            if self._queue.empty() or self._fed >= CHUNK_MESSAGES:
                self._fed = 0
                self._wakeup.release()
        self._wakeup.release()
        if self._producer is not None:
            try:
                self._producer.close(timeout=5.0)
            except kafka_errors.KafkaError as error:
                get_logger("bus").warning("producer not closed in time", exception_type=type(error).__name__)

    def _feed(self, batch: _Batch) -> None:
        sent = 0
        try:
            producer = self._open(batch.deadline)
            if len(batch.messages) > 1:
                # Requested together: send() requests one after the other, and waits a tenth of a second for each.
                for topic in {message.topic for message in batch.messages} - self._topics:
                    producer._sender.add_topic(topic)
            for message in batch.messages:
                headers = [(name, value.encode("utf-8", "surrogateescape")) for name, value in message.headers.items()]
                key = message.key.encode("utf-8", "surrogateescape")
                # The producer's thread requests a topic that it does not know yet, and send() waits for it.
                self._wakeup.held = message.topic in self._topics
                future = producer.send(message.topic, value=message.value, key=key, headers=headers)
                sent += 1
                self._topics.add(message.topic)
                future.add_callback(batch.delivered)
                future.add_errback(self._failed, batch)
        except Exception as error:
            if not isinstance(error, HARMLESS):
                self._spoilt = True
            batch.give_up(error, len(batch.messages) - sent)

    def _failed(self, batch: _Batch, error: BaseException) -> None:
        if not isinstance(error, HARMLESS):
            self._spoilt = True
        batch.failed(error)

    def _open(self, deadline: float) -> Any:
        if self._spoilt and self._producer is not None:
            # A producer whose sequence numbers broke fails every later message: replace it.
            old, self._producer = self._producer, None
            threading.Thread(target=old.close, kwargs={"timeout": 5.0}, daemon=True).start()
            self._wakeup.release()
            self._wakeup = WakeupCoalescer()
            self._topics.clear()
        self._spoilt = False
        while self._producer is None:
            try:
                self._producer = KafkaProducer(
                    **{**self._connection.options(), "kafka_client": self._wakeup.network},
                    enable_idempotence=True,
                    acks="all",
                    compression_type="lz4",
                    partitioner=KeyPartitioner(),
                    linger_ms=5,
                    batch_size=128 * 1024,
                    delivery_timeout_ms=int(1000 * DELIVERY_S),
                    max_block_ms=30_000,
                    max_request_size=DEAD_LETTER_LIMIT + BATCH_RESERVE,
                    allow_auto_create_topics=False,
                    metrics_enabled=False,
                )
            except kafka_errors.RetriableError:
                if time.monotonic() >= deadline or self._closing.is_set():
                    raise
        return self._producer
