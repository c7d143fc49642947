"""What only Kafka can show of one consumer: crashes, slow handlers, backpressure, poison, missing topics."""

import asyncio
import os
import signal
import sys
import textwrap
import uuid
from dataclasses import replace

import pytest
from tests.support.kafka_topics import QUICK, buses, committed, raw_producer, some_topics, wait_for_commits, wait_until

from safescale.core.errors import BusUnavailableError
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import kafka as kafka_module
from safescale.runtime.bus.kafka_client import KafkaConnection, open_admin
from safescale.runtime.bus.limits import MESSAGE_LIMIT
from safescale.runtime.bus.partition_tracker import buffered_messages
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.bus.topics import DEAD_LETTER

pytestmark = pytest.mark.grid


KILLED = """
import asyncio, sys
from safescale.runtime.bus.port import SubscriptionOptions
from tests.support.kafka_topics import kafka_bus

async def main(address, topic):
    bus = kafka_bus(address, "killed")
    async def handle(message):
        print(message.key, flush=True)
        if int(message.key) >= 5:
            await asyncio.sleep(3600)
    await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=3))
    await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_consumer_loses_nothing_and_repeats_at_most_what_was_not_committed(kafka_address: str) -> None:
    with some_topics(kafka_address, 1, partitions=1) as (topic,):
        async with buses(kafka_address, "killed") as (bus,):
            await bus.publish_many([Message(topic, str(i), b"") for i in range(20)])
            program = textwrap.dedent(KILLED)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, kafka_address, topic, stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(["services", "."])},
            )  # fmt: skip
            first: list[str] = []
            async with asyncio.timeout(60):
                while len(first) < 8:
                    first.append((await process.stdout.readline()).decode().strip())
            # The commit of the first five is periodic; wait for it, so that the kill comes after it.
            await wait_for_commits(kafka_address, topic, 5)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            second: list[str] = []

            async def handle(message: Message) -> None:
                second.append(message.key)

            await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=3))
            await wait_until(lambda: "19" in second)
            assert second == [str(i) for i in range(5, 20)]


async def test_a_handler_slower_than_the_poll_interval_keeps_its_partition(kafka_address: str) -> None:
    tuning = replace(QUICK, max_poll_ms=6_000)
    calls: list[str] = []

    async def handle(message: Message) -> None:
        calls.append(message.key)
        if message.key == "slow":
            await asyncio.sleep(14)

    with some_topics(kafka_address, 1, partitions=1) as (topic,):
        async with buses(kafka_address, "a", tuning=tuning) as (bus,):
            await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=1, max_attempts=1))
            await bus.publish_many([Message(topic, "slow", b""), Message(topic, "next", b"")])
            await wait_until(lambda: "next" in calls)
            assert calls == ["slow", "next"]
            async with asyncio.timeout(30):
                while await asyncio.to_thread(committed, kafka_address, topic) != 2:
                    await asyncio.sleep(0.1)


async def test_nothing_beyond_an_unfinished_message_is_committed(kafka_address: str) -> None:
    gate = asyncio.Event()
    done: list[str] = []

    async def handle(message: Message) -> None:
        if message.key == "3":
            await gate.wait()
        done.append(message.key)

    with some_topics(kafka_address, 1, partitions=1) as (topic,):
        async with buses(kafka_address, "a") as (bus,):
            await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
            await bus.publish_many([Message(topic, str(i), b"") for i in range(10)])
            await wait_until(lambda: len(done) == 9)
            await asyncio.sleep(1)
            assert await asyncio.to_thread(committed, kafka_address, topic) == 3
            gate.set()
            await wait_until(lambda: len(done) == 10)
        assert await asyncio.to_thread(committed, kafka_address, topic) == 10


async def test_memory_is_bounded_while_handlers_are_slow(kafka_address: str) -> None:
    gate = asyncio.Event()
    done = 0
    samples: list[tuple[int, int]] = []

    async def handle(_message: Message) -> None:
        nonlocal done
        await gate.wait()
        done += 1

    with some_topics(kafka_address, 1) as (topic,):
        async with buses(kafka_address, "a") as (bus,):
            await bus.publish_many([Message(topic, str(i), b"x" * 500) for i in range(3000)])
            subscription = await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=8))

            async def sample() -> None:
                while done < 3000:
                    samples.append((subscription.in_flight, subscription.buffered))
                    await asyncio.sleep(0.005)

            sampling = asyncio.create_task(sample())
            await wait_until(lambda: subscription.buffered >= buffered_messages(8) // 2)
            await asyncio.sleep(2)
            gate.set()
            await wait_until(lambda: done == 3000)
            await sampling
    assert max(running for running, _ in samples) == 8
    assert max(waiting for _, waiting in samples) <= buffered_messages(8)


async def test_few_large_messages_are_buffered(kafka_address: str) -> None:
    gate = asyncio.Event()
    done = 0

    async def handle(_message: Message) -> None:
        nonlocal done
        await gate.wait()
        done += 1

    with some_topics(kafka_address, 1) as (topic,):
        async with buses(kafka_address, "a") as (bus,):
            value = os.urandom(900_000)
            await bus.publish_many([Message(topic, str(i), value) for i in range(30)])
            subscription = await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=1))
            await wait_until(lambda: subscription.buffered > 15)
            await asyncio.sleep(1)
            assert subscription.buffered <= 28
            gate.set()
            await wait_until(lambda: done == 30)


async def test_poison_never_stops_a_partition(kafka_address: str) -> None:
    events: list[str] = []
    dead: dict[str, Message] = {}

    async def handle(message: Message) -> None:
        event = events_pb2.VerdictRecorded.FromString(message.value)
        events.append(event.verdict.cell.run_id)

    async def collect(message: Message) -> None:
        if message.headers.get("original-topic") == topic:
            dead[message.headers["original-offset"]] = message

    good = events_pb2.VerdictRecorded()
    good.verdict.cell.run_id = "r1"
    newer = good.SerializeToString() + b"\xfa\x3f\x03new"
    huge = b"x" * (MESSAGE_LIMIT + 200_000)
    with some_topics(kafka_address, 1, partitions=1, configs={"max.message.bytes": "4000000"}) as (topic,):
        producer = raw_producer(kafka_address)
        for key, value, headers in (
            (b"a", os.urandom(300) + b"\xff", []),
            (b"\xff\xfe", b"\xff\xff\xff", [("n", b"\xff")]),
            (b"b", newer, []),
            (b"c", huge, [("run-id", b"r9")]),
            (None, None, None),
            (b"d", good.SerializeToString(), []),
        ):
            if key is None:
                producer.send(topic, key=b"tombstone", value=None)
            else:
                producer.send(topic, key=key, value=value, headers=headers)
        producer.close()
        async with buses(kafka_address, "a") as (bus,):
            await bus.subscribe(DEAD_LETTER, f"w-{uuid.uuid4().hex[:8]}", collect, SubscriptionOptions())
            await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=1, max_attempts=2))
            await wait_until(lambda: len(dead) == 3 and len(events) == 3)
        assert events == ["r1", "", "r1"]
        assert await asyncio.to_thread(committed, kafka_address, topic) == 6
    assert sorted(dead) == ["0", "1", "3"]
    assert dead["0"].headers["error-code"] == "INTERNAL"
    raw = dead["1"]
    assert (raw.key.encode("utf-8", "surrogateescape"), raw.value) == (b"\xff\xfe", b"\xff\xff\xff")
    assert raw.headers["n"].encode("utf-8", "surrogateescape") == b"\xff"
    large = dead["3"]
    assert (large.value, large.headers["payload-omitted"]) == (b"", str(len(huge)))
    assert (large.headers["error-reason"], large.headers["run-id"]) == ("LIMIT_EXCEEDED", "r9")


async def test_a_missing_topic_is_told_with_the_remedy(kafka_address: str, monkeypatch) -> None:
    monkeypatch.setattr(kafka_module, "TOPIC_WAIT_S", 0.5)

    async def handle(_message: Message) -> None:
        raise AssertionError

    async with buses(kafka_address, "a") as (bus,):
        with pytest.raises(BusUnavailableError, match="safescale topics apply"):
            await bus.subscribe("test.missing", "g", handle, SubscriptionOptions())
        with pytest.raises(BusUnavailableError, match=r"test\.missing.*safescale topics apply"):
            await bus.publish(Message("test.missing", "k", b""))
    admin = open_admin(KafkaConnection((kafka_address,)))
    assert "test.missing" not in admin.list_topics()
    admin.close()


async def test_a_topic_that_appears_is_waited_for(kafka_address: str) -> None:
    seen: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(message.key)

    name = f"test.{uuid.uuid4().hex}"
    admin = open_admin(KafkaConnection((kafka_address,)))
    try:
        async with buses(kafka_address, "a") as (bus,):
            waiting = asyncio.create_task(bus.publish(Message(name, "k", b"")))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(
                admin.create_topics, {name: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True
            )
            await asyncio.wait_for(waiting, 30)
            await bus.subscribe(name, "g", handle, SubscriptionOptions())
            await wait_until(lambda: seen == ["k"])
    finally:
        admin.delete_topics([name])
        admin.close()


async def test_a_broker_that_is_not_there_is_told(monkeypatch) -> None:
    monkeypatch.setattr(kafka_module, "TOPIC_WAIT_S", 0.5)
    async with buses("127.0.0.1:1", "a") as (bus,):
        with pytest.raises(BusUnavailableError, match=r"127\.0\.0\.1:1"):
            await bus.ping()
        with pytest.raises(BusUnavailableError, match=r"127\.0\.0\.1:1"):
            await bus.publish(Message("t", "k", b""))
