"""The bus while its broker is killed, frozen and started again."""

import asyncio
from collections import Counter

import pytest
from tests.support.kafka_broker import Broker, broker, wait_for
from tests.support.kafka_topics import kafka_bus, some_topics, wait_until

from safescale.core.errors import BusUnavailableError
from safescale.runtime.bus import kafka as kafka_module
from safescale.runtime.bus.kafka import KafkaBus
from safescale.runtime.bus.kafka_client import KafkaConnection, open_admin
from safescale.runtime.bus.port import Message, SubscriptionOptions

pytestmark = [pytest.mark.grid, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def own():
    with broker() as started:
        yield started


async def publish_while(bus: KafkaBus, topic: str, stop: asyncio.Event) -> int:
    """Publish one after the other; the number of those that Kafka has."""
    count = 0
    while not stop.is_set():
        await bus.publish(Message(topic, f"k{count % 9}", str(count).encode()))
        count += 1
        await asyncio.sleep(0.01)
    return count


@pytest.mark.parametrize("way", ["killed", "frozen"])
async def test_producers_and_consumers_survive_a_broker_that_is_away(own: Broker, way: str) -> None:
    seen: dict[str, list[int]] = {}
    tries: Counter[bytes] = Counter()

    async def handle(message: Message) -> None:
        tries[message.value] += 1
        seen.setdefault(message.key, []).append(int(message.value))

    with some_topics(own.address, 1) as (topic,):
        bus = kafka_bus(own.address)
        await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
        stop = asyncio.Event()
        publishing = asyncio.create_task(publish_while(bus, topic, stop))
        await wait_until(lambda: len(tries) > 30, seconds=90)
        await asyncio.to_thread(own.kill if way == "killed" else own.pause)
        await asyncio.sleep(12)
        before = len(tries)
        with pytest.raises(BusUnavailableError):
            await bus.ping()
        await asyncio.to_thread(own.start if way == "killed" else own.unpause)
        await wait_until(lambda: len(tries) > before + 30, seconds=90)
        stop.set()
        count = await asyncio.wait_for(publishing, 130)
        await wait_until(lambda: len(tries) == count, seconds=90)
        await bus.ping()
        await bus.close()
    assert set(tries) == {str(i).encode() for i in range(count)}
    # Of one key each comes after the one before, but for what is delivered again after the outage.
    for values in seen.values():
        assert list(dict.fromkeys(values)) == sorted(set(values))


async def test_a_bus_that_starts_before_its_broker_waits_for_it(own: Broker, monkeypatch) -> None:
    monkeypatch.setattr(kafka_module, "TOPIC_WAIT_S", 120.0)
    seen: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(message.key)

    with some_topics(own.address, 1) as (topic,):
        await asyncio.to_thread(own.kill)
        bus = kafka_bus(own.address)
        subscribing = asyncio.create_task(bus.subscribe(topic, "g", handle, SubscriptionOptions()))
        publishing = asyncio.create_task(bus.publish(Message(topic, "k", b"")))
        await asyncio.sleep(3)
        assert not subscribing.done()
        assert not publishing.done()
        await asyncio.to_thread(own.start)
        await asyncio.wait_for(asyncio.gather(subscribing, publishing), 120)
        await wait_until(lambda: seen == ["k"], seconds=90)
        await bus.close()


async def test_stopping_while_the_broker_is_away_ends(own: Broker) -> None:
    started = asyncio.Event()

    async def handle(_message: Message) -> None:
        started.set()

    with some_topics(own.address, 1) as (topic,):
        bus = kafka_bus(own.address)
        await bus.subscribe(topic, "g", handle, SubscriptionOptions())
        await bus.publish(Message(topic, "k", b""))
        await started.wait()
        await asyncio.to_thread(own.kill)
        await asyncio.wait_for(bus.close(), 60)
        await asyncio.to_thread(own.start)
        await asyncio.to_thread(wait_for, own.address)


async def test_a_broker_that_lost_its_producers_is_published_to(own: Broker) -> None:
    """Deleting the records of a partition makes the broker forget the producer's numbers; publishing goes on."""
    with some_topics(own.address, 1, partitions=1) as (topic,):
        bus = kafka_bus(own.address)
        await bus.publish(Message(topic, "k", b"1"))
        admin = open_admin(KafkaConnection((own.address,)))
        await asyncio.to_thread(admin.delete_topics, [topic])
        await asyncio.sleep(2)
        await asyncio.to_thread(
            admin.create_topics, {topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True
        )
        admin.close()
        for number in range(3):
            await asyncio.wait_for(bus.publish(Message(topic, "k", str(number).encode())), 150)
        await bus.close()
