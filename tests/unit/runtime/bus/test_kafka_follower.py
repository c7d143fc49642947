import asyncio
import threading

import pytest

from safescale.runtime.bus import kafka_follower
from safescale.runtime.bus.kafka_client import KafkaConnection
from safescale.runtime.bus.kafka_consumer import Tuning
from safescale.runtime.bus.kafka_follower import KafkaFollower


class LostConsumer:
    """A consumer whose call for metadata waits for a Kafka that went away."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.back = threading.Event()
        self.closed = threading.Event()

    def partitions_for_topic(self, topic: str) -> set[int]:
        self.called.set()
        self.back.wait()
        return set()

    def close(self, **options: object) -> None:
        self.closed.set()


async def test_a_stop_waits_for_no_kafka_that_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = LostConsumer()
    monkeypatch.setattr(kafka_follower, "KafkaConsumer", lambda **options: consumer)

    async def handle(message: object) -> None: ...

    follower = KafkaFollower(KafkaConnection(("nowhere:9092",)), "t", handle, Tuning(drain_s=0.01))
    stopped: list[str] = []
    follower.on_stopped = lambda: stopped.append(follower.topic)
    try:
        await asyncio.to_thread(consumer.called.wait)
        async with asyncio.timeout(10):
            await follower.stop()
        assert stopped == ["t"]
        assert not consumer.closed.is_set()
    finally:
        consumer.back.set()
    # It ends by itself when the call returns.
    assert await asyncio.to_thread(consumer.closed.wait, 10)
