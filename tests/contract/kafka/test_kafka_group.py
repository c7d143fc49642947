"""What members of a group do to each other: joining, leaving, giving partitions away, coming back under a name."""

import asyncio
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from tests.support.kafka_topics import QUICK, buses, committed, send_one_each, some_topics, wait_for_commits, wait_until

from safescale.runtime.bus.kafka_client import KafkaConnection, consumer_group, open_admin
from safescale.runtime.bus.partition_tracker import buffered_messages
from safescale.runtime.bus.port import Message, SubscriptionOptions

pytestmark = pytest.mark.grid


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
        send_one_each(kafka_address, topic, 4)
        async with buses(kafka_address, "a", "b") as (one, two):
            options = SubscriptionOptions(max_in_flight=4)
            await one.subscribe(topic, "g", named("a"), options)
            await wait_until(lambda: len(started["a"]) == 4)
            await two.subscribe(topic, "g", named("b"), options)
            await wait_until(lambda: len(started["b"]) == 2)
            # Those that moved were stopped at their old owner before the new one began; the others go on.
            assert sorted(cancelled) == sorted(started["b"])
            hold.set()
            await wait_for_commits(kafka_address, topic, 4)
        assert sorted(finished) == ["p0", "p1", "p2", "p3"]
        assert await asyncio.to_thread(committed, kafka_address, topic) == 4


async def test_work_that_ends_within_the_grace_is_not_repeated(kafka_address: str) -> None:
    started: list[str] = []
    go_on = asyncio.Event()

    async def handle(message: Message) -> None:
        started.append(message.key)
        await go_on.wait()

    with some_topics(kafka_address, 1, partitions=4) as (topic,):
        send_one_each(kafka_address, topic, 4)
        tuning = replace(QUICK, grace_s=30.0)
        async with buses(kafka_address, "a", "b", tuning=tuning) as (one, two):
            first = await one.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
            await wait_until(lambda: len(started) == 4)
            await two.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
            await wait_until(lambda: any(h.abandoned for h in first._tracker._assignments.values()))
            go_on.set()
            await wait_until(lambda: len(first.partitions) == 2)
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
            # More than that where a partition moved once more.
            await wait_until(lambda: min(started["b"], started["c"]) >= 2)
            await wait_until(lambda: sorted(len(m.partitions) for m in (first, second, third)) == [1, 1, 2])


async def test_a_member_that_stops_during_a_rebalance_commits_what_it_finished(kafka_address: str) -> None:
    hold = asyncio.Event()
    started: list[str] = []

    async def handle(message: Message) -> None:
        started.append(message.key)
        await hold.wait()

    with some_topics(kafka_address, 1, partitions=4) as (topic,), ExitStack() as opened:
        async with buses(kafka_address, "a") as (bus,):
            mine = await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
            await wait_until(lambda: len(mine.partitions) == 4)
            slow = opened.enter_context(raw_member(kafka_address, topic))
            await polling_until(lambda: len(mine.partitions) == 2, slow)
            send_one_each(kafka_address, topic, 4)
            await polling_until(lambda: len(started) == 2, slow)
            # A third member begins a rebalance; it lasts until the slow one polls.
            third = opened.enter_context(raw_member(kafka_address, topic))
            await asyncio.to_thread(third.poll, timeout_ms=50)
            # Two heartbeats, of which one tells the member of the rebalance.
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
            await wait_until(lambda: len(second.partitions) == 2)
            send_one_each(kafka_address, topic, 4)
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
            await wait_for_commits(kafka_address, topic, 200)


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
            send_one_each(kafka_address, topic, 3)
            await wait_until(lambda: {"p0", "p1", "p2"} <= seen)
