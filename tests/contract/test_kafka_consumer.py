"""What only Kafka can show: crashes, rebalances, slow handlers, backpressure, poison, missing topics."""

import asyncio
import os
import signal
import sys
import textwrap
import uuid
from collections import Counter
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace

import pytest
from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from tests.kafka_topics import QUICK, kafka_bus, some_topics

from safescale.core.errors import BusUnavailableError
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import kafka as kafka_module
from safescale.runtime.bus.kafka_client import KafkaConnection, consumer_group, open_admin
from safescale.runtime.bus.ledger import buffered_messages
from safescale.runtime.bus.limits import MESSAGE_LIMIT
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.bus.topics import DEAD_LETTER

pytestmark = pytest.mark.grid


async def wait_until(condition, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def buses(address: str, *names: str, tuning=QUICK):
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


@contextmanager
def raw_member(address: str, topic: str, group: str = "g"):
    """A member of the group that works and commits nothing, and polls when the test does."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=address,
        group_id=consumer_group(group, topic),
        enable_auto_commit=False,
        partition_assignment_strategy=[CooperativeStickyAssignor],
        session_timeout_ms=QUICK.session_ms,
        heartbeat_interval_ms=1_000,
    )
    # A leader that does not know the topic yet assigns nothing.
    consumer.partitions_for_topic(topic)
    try:
        yield consumer
    finally:
        consumer.close()


async def polling_until(condition, *members) -> None:
    """Wait for a condition while raw members poll."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.gather(*(asyncio.to_thread(member.poll, timeout_ms=500) for member in members))


KILLED = """
import asyncio, sys
from safescale.runtime.bus.port import SubscriptionOptions
from tests.kafka_topics import kafka_bus

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
                while await asyncio.to_thread(committed, kafka_address, topic) < 5:
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            second: list[str] = []

            async def handle(message: Message) -> None:
                second.append(message.key)

            await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=3))
            await wait_until(lambda: "19" in second)
            assert second == [str(i) for i in range(5, 20)]


async def test_nothing_is_lost_while_three_consumers_join_and_leave(kafka_address: str) -> None:
    count = 1200
    done: Counter[int] = Counter()

    async def handle(message: Message) -> None:
        await asyncio.sleep(0.005)
        done[int(message.value)] += 1

    with some_topics(kafka_address, 1, partitions=6) as (topic,):
        # Members without a fixed name leave the group when they stop.
        async with buses(kafka_address, "", "", "") as (one, two, three):
            options = SubscriptionOptions(max_in_flight=4)
            await one.publish_many([Message(topic, f"k{i % 50}", str(i).encode()) for i in range(count)])
            first = await one.subscribe(topic, "g", handle, options)
            await wait_until(lambda: len(done) > 50)
            second = await two.subscribe(topic, "g", handle, options)
            await wait_until(lambda: len(done) > 300)
            third = await three.subscribe(topic, "g", handle, options)
            await wait_until(lambda: len(done) > 500)
            await first.stop()
            await wait_until(lambda: len(done) > 700)
            await third.stop()
            again = await one.subscribe(topic, "g", handle, options)
            await wait_until(lambda: len(done) == count)
            await asyncio.gather(second.stop(), again.stop())
        assert await asyncio.to_thread(committed, kafka_address, topic) == count
        repeated = sum(times - 1 for times in done.values())
        # Given away with what was in flight at most: 4 members' worth of handlers for each of the five changes.
        assert repeated <= 5 * 4 * 4


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


def raw_producer(address: str):
    from kafka import KafkaProducer

    return KafkaProducer(bootstrap_servers=address, max_request_size=8 * 1024 * 1024)


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


async def test_work_on_a_partition_that_is_given_away_is_finished_or_abandoned(kafka_address: str) -> None:
    hold = asyncio.Event()
    started: dict[str, list[str]] = {"a": [], "b": []}
    cancelled: list[str] = []
    finished: list[str] = []

    def named(name: str):
        async def handle(message: Message) -> None:
            started[name].append(message.key)
            try:
                await hold.wait()
            except asyncio.CancelledError:
                cancelled.append(message.key)
                raise
            finished.append(message.key)

        return handle

    with some_topics(kafka_address, 1, partitions=4) as (topic,):
        producer = raw_producer(kafka_address)
        for partition in range(4):
            producer.send(topic, key=f"p{partition}".encode(), value=b"", partition=partition)
        producer.close()
        async with buses(kafka_address, "a", "b") as (one, two):
            options = SubscriptionOptions(max_in_flight=4)
            await one.subscribe(topic, "g", named("a"), options)
            await wait_until(lambda: len(started["a"]) == 4)
            await two.subscribe(topic, "g", named("b"), options)
            await wait_until(lambda: len(started["b"]) == 2)
            # Those that moved were stopped at their old owner before the new one began; the others go on.
            assert sorted(cancelled) == sorted(started["b"])
            hold.set()
            async with asyncio.timeout(60):
                while await asyncio.to_thread(committed, kafka_address, topic) < 4:
                    await asyncio.sleep(0.05)
        assert sorted(finished) == ["p0", "p1", "p2", "p3"]
        assert await asyncio.to_thread(committed, kafka_address, topic) == 4


async def test_work_that_ends_within_the_grace_is_not_repeated(kafka_address: str) -> None:
    started: list[str] = []
    go_on = asyncio.Event()

    async def handle(message: Message) -> None:
        started.append(message.key)
        await go_on.wait()

    with some_topics(kafka_address, 1, partitions=4) as (topic,):
        producer = raw_producer(kafka_address)
        for partition in range(4):
            producer.send(topic, key=f"p{partition}".encode(), value=b"", partition=partition)
        producer.close()
        tuning = replace(QUICK, grace_s=30.0)
        async with buses(kafka_address, "a", "b", tuning=tuning) as (one, two):
            first = await one.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
            await wait_until(lambda: len(started) == 4)
            await two.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
            await wait_until(lambda: any(h.abandoned for h in first._ledger._holdings.values()))
            go_on.set()
            await wait_until(lambda: len(first.places) == 2)
            await asyncio.sleep(2)
        assert sorted(started) == ["p0", "p1", "p2", "p3"]
        assert await asyncio.to_thread(committed, kafka_address, topic) == 4


async def test_a_member_whose_buffer_is_full_shares_with_those_that_join(kafka_address: str) -> None:
    started: Counter[str] = Counter()

    def held(name: str):
        async def handle(_message: Message) -> None:
            started[name] += 1
            await asyncio.sleep(3600)

        return handle

    options = SubscriptionOptions(max_in_flight=2)
    with some_topics(kafka_address, 1, partitions=4) as (topic,):
        tuning = replace(QUICK, drain_s=0.1)
        async with buses(kafka_address, "a", "b", "c", tuning=tuning) as (one, two, three):
            await one.publish_many([Message(topic, str(i), b"") for i in range(8 * buffered_messages(2))])
            first = await one.subscribe(topic, "g", held("a"), options)
            await wait_until(lambda: first.buffered >= buffered_messages(2))
            second = await two.subscribe(topic, "g", held("b"), options)
            third = await three.subscribe(topic, "g", held("c"), options)
            await wait_until(lambda: started["b"] == started["c"] == 2)
            assert sorted(len(member.places) for member in (first, second, third)) == [1, 1, 2]


async def test_a_member_that_stops_during_a_rebalance_commits_what_it_finished(kafka_address: str) -> None:
    hold = asyncio.Event()
    started: list[str] = []

    async def handle(message: Message) -> None:
        started.append(message.key)
        await hold.wait()

    with some_topics(kafka_address, 1, partitions=4) as (topic,), ExitStack() as opened:
        async with buses(kafka_address, "a") as (bus,):
            mine = await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
            await wait_until(lambda: len(mine.places) == 4)
            slow = opened.enter_context(raw_member(kafka_address, topic))
            await polling_until(lambda: len(mine.places) == 2, slow)
            producer = raw_producer(kafka_address)
            for partition in range(4):
                producer.send(topic, key=f"p{partition}".encode(), value=b"", partition=partition)
            producer.close()
            await polling_until(lambda: len(started) == 2, slow)
            # A third member begins a rebalance; it lasts until the slow one polls.
            third = opened.enter_context(raw_member(kafka_address, topic))
            await asyncio.to_thread(third.poll, timeout_ms=50)
            await asyncio.sleep(2 * QUICK.session_ms / 4_000)
            hold.set()
            stopped = asyncio.create_task(mine.stop())
            await asyncio.sleep(0.5)
            await polling_until(stopped.done, slow, third)
        assert len(started) == 2
        assert await asyncio.to_thread(committed, kafka_address, topic) == 2


async def test_a_restart_under_the_same_name_moves_no_partition(kafka_address: str) -> None:
    hold = asyncio.Event()
    started: list[tuple[str, str]] = []

    def named(name: str):
        async def handle(message: Message) -> None:
            started.append((name, message.key))
            await hold.wait()

        return handle

    tuning = replace(QUICK, session_ms=30_000)
    with some_topics(kafka_address, 1, partitions=4) as (topic,):
        async with buses(kafka_address, "a", "b", tuning=tuning) as (one, two):
            options = SubscriptionOptions(max_in_flight=4)
            await one.subscribe(topic, "g", named("a"), options)
            second = await two.subscribe(topic, "g", named("b"), options)
            await wait_until(lambda: len(second.places) == 2)
            producer = raw_producer(kafka_address)
            for partition in range(4):
                producer.send(topic, key=f"p{partition}".encode(), value=b"", partition=partition)
            producer.close()
            await wait_until(lambda: len(started) == 4)
            of_two = {key for name, key in started if name == "b"}
            await second.stop()
            third = await two.subscribe(topic, "g", named("c"), options)
            await wait_until(lambda: len(started) == 6)
            assert {key for name, key in started if name == "c"} == of_two
            assert sum(name == "a" for name, _ in started) == 2
            hold.set()
            await third.stop()


async def test_a_second_process_with_the_same_name_works_beside_the_first(kafka_address: str) -> None:
    seen: Counter[int] = Counter()

    async def handle(message: Message) -> None:
        seen[int(message.value)] += 1

    with some_topics(kafka_address, 1) as (topic,):
        async with buses(kafka_address, "same", "same") as (one, two):
            for bus in (one, two):
                await bus.subscribe(topic, "g", handle, SubscriptionOptions())
            for i in range(200):
                await one.publish(Message(topic, str(i), str(i).encode()))
            await wait_until(lambda: len(seen) == 200)
            async with asyncio.timeout(60):
                while await asyncio.to_thread(committed, kafka_address, topic) < 200:
                    await asyncio.sleep(0.2)


async def test_new_partitions_are_read_also_after_a_restart(kafka_address: str) -> None:
    seen: set[str] = set()

    async def handle(message: Message) -> None:
        seen.add(message.key)

    with some_topics(kafka_address, 1, partitions=1) as (topic,):
        async with buses(kafka_address, "a") as (bus,):
            first = await bus.subscribe(topic, "g", handle, SubscriptionOptions())
            await bus.publish(Message(topic, "before", b""))
            await wait_until(lambda: "before" in seen)
            await first.stop()
            await bus.subscribe(topic, "g", handle, SubscriptionOptions())
            await bus.publish(Message(topic, "again", b""))
            await wait_until(lambda: "again" in seen)
            admin = open_admin(KafkaConnection((kafka_address,)))
            admin.create_partitions({topic: 3})
            admin.wait_for_topics([topic])
            admin.close()
            producer = raw_producer(kafka_address)
            for partition in range(3):
                producer.send(topic, key=f"p{partition}".encode(), value=b"", partition=partition)
            producer.close()
            await wait_until(lambda: {"p0", "p1", "p2"} <= seen)


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
