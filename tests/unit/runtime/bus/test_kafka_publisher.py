import asyncio
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("kafka")
from kafka import errors as kafka_errors
from kafka.future import Future

from safescale.core.errors import BusUnavailableError, LimitExceededError
from safescale.runtime.bus import kafka_publisher
from safescale.runtime.bus.kafka_client import KafkaConnection
from safescale.runtime.bus.kafka_publisher import KeyPartitioner, Publisher, WakeupCoalescer
from safescale.runtime.bus.limits import MESSAGE_LIMIT
from safescale.runtime.bus.port import Message


class Broker:
    """What stands for Kafka: the producers made, and what they were given."""

    def __init__(self) -> None:
        self.producers: list[Producer] = []
        self.sent: list[tuple[str, bytes]] = []
        self.errors: list[Exception] = []
        self.refusals: list[Exception] = []
        self.hold = threading.Event()
        self.hold.set()


class Producer:
    def __init__(self, broker: Broker) -> None:
        if broker.refusals:
            raise broker.refusals.pop(0)
        self.broker = broker
        self.closed = False
        self.topics: set[str] = set()
        self._sender = SimpleNamespace(add_topic=self.topics.add)
        broker.producers.append(self)

    def send(self, topic: str, value: bytes, key: bytes, headers) -> Future:
        self.broker.hold.wait(10)
        self.broker.sent.append((topic, value))
        future = Future()
        if self.broker.errors:
            return future.failure(self.broker.errors.pop(0))
        return future.success(None)

    def close(self, timeout: float) -> None:
        self.closed = True


@pytest.fixture
def broker(monkeypatch) -> Broker:
    found = Broker()
    monkeypatch.setattr(kafka_publisher, "KafkaProducer", lambda **_: Producer(found))
    return found


@pytest.fixture
async def publisher():
    found = Publisher(KafkaConnection(("h:1",)))
    yield found
    await found.close()


def messages(count: int, size: int = 1) -> list[Message]:
    return [Message("t", "k", str(i).encode().ljust(size)) for i in range(count)]


async def test_messages_are_sent_in_their_order(broker: Broker, publisher: Publisher) -> None:
    await publisher.publish(messages(5000))
    assert [int(value) for _, value in broker.sent] == list(range(5000))


async def test_a_batch_wakes_the_loop_once(broker: Broker, publisher: Publisher, monkeypatch) -> None:
    loop = asyncio.get_running_loop()
    wakes = 0
    call = loop.call_soon_threadsafe

    def counted(*arguments, **more):
        nonlocal wakes
        wakes += 1
        return call(*arguments, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    await publisher.publish(messages(1000))
    assert wakes == 1


async def test_nothing_is_sent_when_one_is_too_large(broker: Broker, publisher: Publisher) -> None:
    with pytest.raises(LimitExceededError, match="at most 1,048,576"):
        await publisher.publish([*messages(3), Message("t", "k", b"x" * MESSAGE_LIMIT)])
    assert broker.sent == []


async def test_one_that_fails_fails_the_call(broker: Broker, publisher: Publisher) -> None:
    broker.errors = [kafka_errors.KafkaTimeoutError("late")]
    with pytest.raises(BusUnavailableError, match="h:1"):
        await publisher.publish(messages(3))
    await publisher.publish(messages(1))
    assert len(broker.producers) == 1


async def test_after_a_failed_part_the_rest_is_not_sent(broker: Broker, publisher: Publisher) -> None:
    broker.errors = [kafka_errors.KafkaTimeoutError("late")]
    with pytest.raises(BusUnavailableError):
        await publisher.publish(messages(kafka_publisher.CHUNK_MESSAGES + 1))
    assert len(broker.sent) == kafka_publisher.CHUNK_MESSAGES


async def test_a_topic_with_a_smaller_limit_is_told_with_the_remedy(broker: Broker, publisher: Publisher) -> None:
    broker.errors = [kafka_errors.MessageSizeTooLargeError()]
    with pytest.raises(LimitExceededError, match=r"1,048,576 bytes.*safescale topics apply"):
        await publisher.publish(messages(1))


async def test_a_producer_whose_numbers_broke_is_replaced(broker: Broker, publisher: Publisher) -> None:
    broker.errors = [kafka_errors.OutOfOrderSequenceNumberError()]
    with pytest.raises(BusUnavailableError):
        await publisher.publish(messages(1))
    await publisher.publish(messages(1))
    assert len(broker.producers) == 2


async def test_a_broker_that_is_away_at_first_is_waited_for(broker: Broker, publisher: Publisher) -> None:
    broker.refusals = [kafka_errors.KafkaTimeoutError("away"), kafka_errors.KafkaTimeoutError("away")]
    await publisher.publish(messages(1))
    assert len(broker.sent) == 1


async def test_a_broker_that_stays_away_is_told(broker: Broker, publisher: Publisher, monkeypatch) -> None:
    monkeypatch.setattr(kafka_publisher, "DELIVERY_S", 0.0)
    broker.refusals = [kafka_errors.KafkaTimeoutError("away")] * 100
    with pytest.raises(BusUnavailableError, match="no answer in time"):
        await publisher.publish(messages(2))


async def test_a_caller_that_goes_away_leaves_the_publisher_at_work(broker: Broker, publisher: Publisher) -> None:
    broker.hold.clear()
    task = asyncio.create_task(publisher.publish(messages(1)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    broker.hold.set()
    await publisher.publish(messages(1))
    assert len(broker.sent) == 2


async def test_a_closed_publisher_takes_nothing(broker: Broker, publisher: Publisher) -> None:
    await publisher.publish(messages(1))
    await publisher.close()
    assert broker.producers[0].closed
    with pytest.raises(BusUnavailableError, match="closed"):
        await publisher.publish(messages(1))


async def test_topics_of_a_batch_are_asked_for_together(broker: Broker, publisher: Publisher) -> None:
    await publisher.publish([Message(topic, "k", b"") for topic in ("a", "b", "a", "c")])
    assert broker.producers[0].topics == {"a", "b", "c"}


def test_a_key_has_one_partition_and_keys_have_all() -> None:
    cluster = SimpleNamespace(partitions_for_topic=lambda _: {0, 1, 2})
    choose = KeyPartitioner()
    found = [choose.partition("t", None, str(i).encode(), None, b"", cluster) for i in range(100)]
    assert found == [choose.partition("t", None, str(i).encode(), b"other", b"", cluster) for i in range(100)]
    assert set(found) == {0, 1, 2}


def test_a_bell_that_is_held_rings_once_when_it_is_released(monkeypatch) -> None:
    rings: list[int] = []
    client = SimpleNamespace(wakeup=lambda: rings.append(1))
    monkeypatch.setattr(kafka_publisher, "network", lambda **_: client)
    wakeup = WakeupCoalescer()
    assert wakeup.network() is client
    client.wakeup()
    assert len(rings) == 1
    wakeup.held = True
    client.wakeup()
    client.wakeup()
    assert len(rings) == 1
    wakeup.release()
    wakeup.release()
    assert len(rings) == 2
