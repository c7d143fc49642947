"""Messages that were given up: read, and published again. Blocking: for the command line.

What was published again is noted in a topic of its own, so that nobody does it twice unknowingly.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]
from kafka import errors as kafka_errors

from safescale.core.errors import (
    AlreadyExistsError,
    BusUnavailableError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
)
from safescale.runtime.bus.delivery import FAILURE_HEADERS, OMITTED
from safescale.runtime.bus.kafka_client import KafkaConnection, unavailable
from safescale.runtime.bus.kafka_consumer import message_of
from safescale.runtime.bus.limits import BATCH_RESERVE, DEAD_LETTER_LIMIT
from safescale.runtime.bus.port import Message
from safescale.runtime.bus.topics import DEAD_LETTER, DEAD_LETTER_REPLAYED

READ_S = 30.0
"""Seconds without a message after which reading fails."""

REPLAYS = "replays"
"""Header that counts how often a message was published again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, when it was given up, and when it was published again (empty: never)."""

    partition: int
    offset: int
    given_up_at: datetime
    message: Message
    replayed_at: str

    @property
    def id(self) -> str:
        """Its place in the topic of dead letters, partition:offset."""
        return f"{self.partition}:{self.offset}"

    @property
    def topic(self) -> str:
        """Topic that its message came from."""
        return self.message.headers.get("original-topic", "")

    @property
    def run_id(self) -> str:
        """Run that its message belongs to."""
        return self.message.headers.get("run-id", "")

    @property
    def omitted(self) -> int:
        """Bytes of the value that was too large to be kept; 0 when it is here."""
        size = self.message.headers.get(OMITTED, "0")
        return int(size) if size.isdecimal() else 0


def parse_id(text: str) -> tuple[int, int]:
    """Partition and offset of a dead letter's id.

    Raises:
        InvalidInputError: it is none.

    """
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise InvalidInputError(f"{text!r} is no dead letter; expected partition:offset as `dead-letters list` shows")
    return int(partition), int(offset)


class DeadLetters:
    """The dead letters of a Kafka."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection

    def read(self) -> Iterator[DeadLetter]:
        """All dead letters, oldest first, one at a time.

        Raises:
            BusUnavailableError: Kafka does not answer, or the topic does not exist.

        """
        replayed = {_text(record.key): _text(record.value) for record in self._records(DEAD_LETTER_REPLAYED)}
        for record in self._records(DEAD_LETTER):
            yield _dead_letter(record, replayed)

    def get(self, text: str) -> DeadLetter:
        """One dead letter by its id.

        Raises:
            InvalidInputError: the id is none.
            NotFoundError: there is no such dead letter (any more).
            BusUnavailableError: Kafka does not answer, or the topic does not exist.

        """
        place = parse_id(text)
        replayed = {_text(record.key): _text(record.value) for record in self._records(DEAD_LETTER_REPLAYED)}
        with self._consumer() as consumer:
            partition = TopicPartition(DEAD_LETTER, place[0])
            if place[0] in _partitions(self._connection, consumer, DEAD_LETTER):
                begin = consumer.beginning_offsets([partition])[partition]
                end = consumer.end_offsets([partition])[partition]
                if begin <= place[1] < end:
                    consumer.assign([partition])
                    consumer.seek(partition, place[1])
                    for record in self._polled(consumer, {partition: place[1] + 1}):
                        return _dead_letter(record, replayed)
        raise NotFoundError(f"there is no dead letter {text}; `safescale dead-letters list` shows those that there are")

    def replay(self, letters: Iterable[DeadLetter], again: bool = False) -> int:
        """Publish the messages of dead letters again, one after the other, and note each; how many there were.

        Raises:
            AlreadyExistsError: the next one was published again before, and `again` is not set.
            FailedPreconditionError: the next one does not hold its value, or its topic.
            BusUnavailableError: Kafka does not answer in time.

        """
        count = 0
        with self._producer() as producer:
            for letter in letters:
                check_replayable(letter, again)
                _publish(self._connection, producer, restored(letter.message))
                noted = datetime.now(UTC).isoformat(timespec="seconds")
                _publish(self._connection, producer, Message(DEAD_LETTER_REPLAYED, letter.id, noted.encode()))
                count += 1
        return count

    def _records(self, topic: str) -> Iterator[Any]:
        with self._consumer() as consumer:
            places = [TopicPartition(topic, index) for index in sorted(_partitions(self._connection, consumer, topic))]
            ends = {place: end for place, end in consumer.end_offsets(places).items() if end}
            begins = consumer.beginning_offsets(list(ends)) if ends else {}
            ends = {place: end for place, end in ends.items() if end > begins[place]}
            if ends:
                consumer.assign(list(ends))
                consumer.seek_to_beginning(*ends)
                yield from self._polled(consumer, ends)

    def _polled(self, consumer: Any, ends: dict[Any, int]) -> Iterator[Any]:
        """Yield records up to the given ends; what is published meanwhile is left out."""
        left = dict(ends)
        while left:
            found = consumer.poll(timeout_ms=int(1000 * READ_S), max_records=100)
            if not found:
                raise BusUnavailableError(f"Kafka at {self._connection.name} sent nothing for {READ_S:g} s")
            for place, records in found.items():
                yield from (record for record in records if record.offset < ends[place])
                if records[-1].offset >= ends[place] - 1:
                    left.pop(place, None)

    @contextmanager
    def _consumer(self) -> Iterator[Any]:
        consumer = None
        try:
            consumer = KafkaConsumer(
                **self._connection.options(),
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=2 * DEAD_LETTER_LIMIT,
                metrics_enabled=False,
            )
            yield consumer
        except kafka_errors.KafkaError as error:
            raise unavailable(self._connection, error) from error
        finally:
            if consumer is not None:
                consumer.close()

    @contextmanager
    def _producer(self) -> Iterator[Any]:
        try:
            producer = KafkaProducer(
                **self._connection.options(),
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                delivery_timeout_ms=int(1000 * READ_S) + 1_000,
                max_block_ms=int(1000 * READ_S),
                max_request_size=DEAD_LETTER_LIMIT + BATCH_RESERVE,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except kafka_errors.KafkaError as error:
            raise unavailable(self._connection, error) from error
        try:
            yield producer
        finally:
            producer.close(timeout=READ_S)


def check_replayable(letter: DeadLetter, again: bool = False) -> None:
    """Return when the message of a dead letter can be published again.

    Raises:
        AlreadyExistsError: it was published again before, and `again` is not set.
        FailedPreconditionError: the dead letter does not hold its value, or its topic.

    """
    headers = letter.message.headers
    if letter.omitted:
        raise FailedPreconditionError(
            f"dead letter {letter.id} does not hold its value of {letter.omitted:,} bytes; "
            f"it stands in {letter.topic}, partition {headers.get('original-partition', '?')}, "
            f"offset {headers.get('original-offset', '?')}, "
            "while that topic keeps it"
        )
    if not letter.topic:
        raise FailedPreconditionError(f"dead letter {letter.id} does not tell the topic of its message")
    if letter.replayed_at and not again:
        raise AlreadyExistsError(f"dead letter {letter.id} was replayed at {letter.replayed_at}; --again does it anew")


def restored(dead: Message) -> Message:
    """Return the message that a dead letter came from: its bytes and headers, and how often it was published again."""
    headers = {name: value for name, value in dead.headers.items() if name not in FAILURE_HEADERS}
    before = headers.get(REPLAYS, "0")
    headers[REPLAYS] = str(int(before) + 1) if before.isdecimal() else "1"
    return Message(dead.headers["original-topic"], dead.key, dead.value, headers)


def _publish(connection: KafkaConnection, producer: Any, message: Message) -> None:
    headers = [(name, value.encode("utf-8", "surrogateescape")) for name, value in message.headers.items()]
    key = message.key.encode("utf-8", "surrogateescape")
    try:
        producer.send(message.topic, value=message.value, key=key, headers=headers).get(timeout=READ_S + 5)
    except kafka_errors.KafkaError as error:
        raise unavailable(connection, error) from error


def _partitions(connection: KafkaConnection, consumer: Any, topic: str) -> set[int]:
    found: set[int] = consumer.partitions_for_topic(topic)
    if not found:
        raise BusUnavailableError(
            f"Kafka at {connection.name} has no topic {topic}; `safescale topics apply` makes the topics"
        )
    return found


def _dead_letter(record: Any, replayed: dict[str, str]) -> DeadLetter:
    when = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    noted = replayed.get(f"{record.partition}:{record.offset}", "")
    return DeadLetter(record.partition, record.offset, when, message_of(record), noted)


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
