"""Buses and topics of tests that need Kafka. Names are random, since others may use the same broker."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from kafka import KafkaProducer

from safescale.admin.topic_plan import declared_topics, differences
from safescale.admin.topics import topic_admin
from safescale.runtime.bus.kafka import KafkaBus
from safescale.runtime.bus.kafka_client import KafkaConnection, consumer_group, open_admin
from safescale.runtime.bus.kafka_consumer import Tuning
from safescale.runtime.bus.topics import DEAD_LETTER, DEAD_LETTER_REPLAYED
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

QUICK = Tuning(session_ms=6_000, poll_s=0.1, commit_s=0.2, lag_s=0.2, metadata_s=2.0, grace_s=2.0, drain_s=2.0)
"""Times that a test can wait for."""


def kafka_bus(address: str, instance: str = "test", tuning: Tuning = QUICK) -> KafkaBus:
    """A bus; its metrics are `telemetry`."""
    bus = KafkaBus(KafkaConnection((address,)), Telemetry(), instance, tuning)
    bus.telemetry = bus._telemetry
    return bus


@contextmanager
def some_topics(
    address: str, count: int, partitions: int = 4, configs: Mapping[str, str] | None = None
) -> Iterator[tuple[str, ...]]:
    """New topics, and the one of dead letters; the new ones are deleted in the end."""
    admin = open_admin(KafkaConnection((address,)))
    names = tuple(f"test.{uuid.uuid4().hex}" for _ in range(count))
    wanted = {"max.message.bytes": str(2 * 1024 * 1024), **(configs or {})}
    try:
        admin.create_topics(
            {name: {"num_partitions": partitions, "replication_factor": 1, "configs": wanted} for name in names},
            wait_for_metadata=True,
        )
        make_dead_letter_topics(address)
        yield names
    finally:
        admin.delete_topics([*names])
        admin.close()


def make_dead_letter_topics(address: str) -> None:
    """Make the topics of dead letters where there are none, as declared."""
    declared = declared_topics(Settings(_env_file=None), [])
    few = [topic for topic in declared if topic.name in (DEAD_LETTER, DEAD_LETTER_REPLAYED)]
    with topic_admin(KafkaConnection((address,))) as admin:
        found = [d for d in differences(few, admin.existing(few)) if d.kind == "create"]
        admin.apply(found, replicas=1)


async def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return when a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def buses(address: str, *names: str, tuning: Tuning = QUICK) -> AsyncIterator[list[KafkaBus]]:
    """Buses of instances with these names, closed at once in the end."""
    opened = [kafka_bus(address, name, tuning) for name in names]
    try:
        yield opened
    finally:
        await asyncio.gather(*(bus.close() for bus in opened))


def committed(address: str, topic: str, group: str = "g") -> int:
    """Sum of the group's committed offsets."""
    admin = open_admin(KafkaConnection((address,)))
    try:
        found = admin.list_group_offsets([consumer_group(group, topic)])[consumer_group(group, topic)]
        return sum(offset.offset for place, offset in found.items() if place.topic == topic)
    finally:
        admin.close()


async def wait_for_commits(address: str, topic: str, count: int) -> None:
    """Return when the group's committed offsets sum up to a count."""
    async with asyncio.timeout(60):
        while await asyncio.to_thread(committed, address, topic) < count:
            await asyncio.sleep(0.05)


def raw_producer(address: str) -> KafkaProducer:
    """A producer that refuses nothing for its size."""
    return KafkaProducer(bootstrap_servers=address, max_request_size=8 * 1024 * 1024)


def send_one_each(address: str, topic: str, partitions: int) -> None:
    """Send one message to each of the first partitions; the key of the message in partition 2 is `p2`."""
    producer = raw_producer(address)
    for partition in range(partitions):
        producer.send(topic, key=f"p{partition}".encode(), value=b"", partition=partition)
    producer.close()
