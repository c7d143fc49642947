"""One suite over every adapter of the bus port."""

import asyncio
import uuid
from collections import defaultdict

import pytest

from safescale.core.errors import BusUnavailableError, GarbageAnswerError, LimitExceededError
from safescale.runtime.bus.limits import MESSAGE_LIMIT
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Bus, Message, SubscriptionOptions
from safescale.runtime.bus.topics import DEAD_LETTER
from safescale.runtime.telemetry import Telemetry


async def wait_until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_every_group_gets_every_message_and_members_share(bus: Bus, topic: str) -> None:
    seen: dict[str, list[bytes]] = {"one": [], "two": []}

    def into(name: str):
        async def handle(message: Message) -> None:
            seen[name].append(message.value)

        return handle

    options = SubscriptionOptions(max_in_flight=2)
    for name in ("one", "one", "two"):
        await bus.subscribe(topic, name, into(name), options)
    for i in range(30):
        await bus.publish(Message(topic, str(i), bytes([i]), {"run-id": "r"}))
    await wait_until(lambda: len(seen["one"]) >= 30 and len(seen["two"]) >= 30)
    assert sorted(seen["one"]) == sorted(seen["two"]) == [bytes([i]) for i in range(30)]


async def test_a_message_arrives_as_it_was_published(bus: Bus, topic: str) -> None:
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    await bus.subscribe(topic, "g", handle, SubscriptionOptions())
    sent = Message(topic, "schlüssel/1", bytes(range(256)), {"run-id": "r", "traceparent": "00-ä"})
    await bus.publish(sent)
    await wait_until(lambda: seen)
    assert seen == [sent]


async def test_many_are_published_in_the_order_of_their_key(bus: Bus, topic: str) -> None:
    seen: dict[str, list[int]] = defaultdict(list)

    async def handle(message: Message) -> None:
        seen[message.key].append(int(message.value))

    await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=8))
    await bus.publish_many([Message(topic, f"k{i % 7}", str(i).encode()) for i in range(700)])
    await wait_until(lambda: sum(map(len, seen.values())) == 700)
    assert seen == {f"k{k}": list(range(k, 700, 7)) for k in range(7)}


async def test_order_holds_per_key_while_keys_run_in_parallel(bus: Bus, topic: str) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}
    running: dict[str, int] = {"a": 0, "b": 0}
    most = 0
    both = asyncio.Event()

    async def handle(message: Message) -> None:
        nonlocal most
        running[message.key] += 1
        assert running[message.key] == 1
        most = max(most, sum(running.values()))
        if most == 2:
            both.set()
        # The first waits for one of the other key: only work at once gets past it.
        await both.wait()
        seen[message.key].append(message.value[0])
        running[message.key] -= 1

    await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=4))
    for i in range(20):
        await bus.publish(Message(topic, "ab"[i % 2], bytes([i])))
    await wait_until(lambda: sum(map(len, seen.values())) == 20)
    assert seen == {"a": list(range(0, 20, 2)), "b": list(range(1, 20, 2))}
    assert most == 2


async def test_no_more_are_in_flight_than_allowed(bus: Bus, topic: str) -> None:
    running, most, done = 0, 0, 0
    full = asyncio.Event()

    async def handle(_message: Message) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        # Nobody goes on before as many run as are allowed: how fast messages arrive plays no part.
        await full.wait()
        await asyncio.sleep(0.001)
        running -= 1
        done += 1

    await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=3))
    for i in range(60):
        await bus.publish(Message(topic, str(i), b""))
    await wait_until(lambda: done == 60)
    assert most == 3


async def test_a_failing_handler_is_tried_again_then_dead_lettered(bus: Bus, topic: str) -> None:
    tries = 0
    dead: list[Message] = []
    done: list[str] = []

    async def handle(message: Message) -> None:
        nonlocal tries
        if message.key == "bad":
            tries += 1
            raise GarbageAnswerError("not of the protocol")
        done.append(message.key)

    async def collect(message: Message) -> None:
        if message.headers["original-topic"] == topic:
            dead.append(message)

    await bus.subscribe(DEAD_LETTER, f"watch-{uuid.uuid4().hex[:8]}", collect, SubscriptionOptions())
    await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=1, max_attempts=3))
    await bus.publish(Message(topic, "bad", b"\x00raw", {"run-id": "r"}))
    await bus.publish(Message(topic, "good", b""))
    await wait_until(lambda: dead and done)
    assert (tries, done) == (3, ["good"])
    assert (dead[0].key, dead[0].value) == ("bad", b"\x00raw")
    assert dead[0].headers["error-reason"] == "GARBAGE_ANSWER"
    assert dead[0].headers["error-message"] == "not of the protocol"
    assert dead[0].headers["group"] == "g"
    assert dead[0].headers["attempts"] == "3"
    assert dead[0].headers["run-id"] == "r"
    labels = {"topic": topic, "reason": "GARBAGE_ANSWER"}
    assert bus.telemetry.registry.get_sample_value("safescale_dead_letters_total", labels) == 1


async def test_a_dependency_that_is_away_costs_no_attempt(bus: Bus, topic: str) -> None:
    tries = 0
    done = asyncio.Event()

    async def handle(_message: Message) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise BusUnavailableError("away")
        done.set()

    await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_attempts=1))
    await bus.publish(Message(topic, "k", b""))
    await asyncio.wait_for(done.wait(), 60)
    assert tries == 4


async def test_a_stop_while_a_dependency_is_away_keeps_the_message(bus: Bus, topic: str) -> None:
    tried = asyncio.Event()
    seen: list[str] = []

    async def away(_message: Message) -> None:
        tried.set()
        raise BusUnavailableError("away")

    async def handle(message: Message) -> None:
        seen.append(message.key)

    first = await bus.subscribe(topic, "g", away, SubscriptionOptions(max_attempts=1))
    await bus.publish(Message(topic, "k", b""))
    await asyncio.wait_for(tried.wait(), 60)
    await first.stop()
    await bus.subscribe(topic, "g", handle, SubscriptionOptions())
    await wait_until(lambda: seen)
    assert seen == ["k"]


async def test_a_failure_during_a_stop_gives_no_message_up(bus: Bus, topic: str) -> None:
    started = asyncio.Event()
    dead: list[Message] = []
    seen: list[str] = []

    async def broken_by_the_stop(_message: Message) -> None:
        started.set()
        await stopping.wait()
        raise RuntimeError("the connection is closed")

    async def collect(message: Message) -> None:
        if message.headers["original-topic"] == topic:
            dead.append(message)

    async def handle(message: Message) -> None:
        seen.append(message.key)

    stopping = asyncio.Event()
    await bus.subscribe(DEAD_LETTER, f"watch-{uuid.uuid4().hex[:8]}", collect, SubscriptionOptions())
    first = await bus.subscribe(topic, "g", broken_by_the_stop, SubscriptionOptions(max_attempts=1))
    await bus.publish(Message(topic, "k", b""))
    await asyncio.wait_for(started.wait(), 60)
    stop = asyncio.create_task(first.stop())
    await asyncio.sleep(0.05)
    stopping.set()
    await stop
    await bus.subscribe(topic, "g", handle, SubscriptionOptions())
    await wait_until(lambda: seen)
    assert (seen, dead) == (["k"], [])


async def test_a_handler_that_is_cancelled_from_within_counts_as_failed(bus: Bus, topic: str) -> None:
    tries = 0
    done = asyncio.Event()

    async def handle(_message: Message) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise asyncio.CancelledError
        done.set()

    await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_attempts=2))
    await bus.publish(Message(topic, "k", b""))
    await asyncio.wait_for(done.wait(), 60)
    assert tries == 2


async def test_stop_finishes_what_is_in_flight_and_takes_no_more(bus: Bus, topic: str) -> None:
    started = asyncio.Event()
    go_on = asyncio.Event()
    done: list[str] = []

    async def handle(message: Message) -> None:
        started.set()
        await go_on.wait()
        done.append(message.key)

    subscription = await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=1))
    await bus.publish(Message(topic, "1", b""))
    await started.wait()
    await bus.publish(Message(topic, "2", b""))
    stopping = asyncio.create_task(subscription.stop())
    await asyncio.sleep(0.05)
    go_on.set()
    await stopping
    assert done == ["1"]
    again = await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=1))
    await wait_until(lambda: done == ["1", "2"])
    await again.stop()
    assert done == ["1", "2"]


async def test_a_message_over_the_limit_is_refused_by_name_of_the_limit(bus: Bus, topic: str) -> None:
    seen: list[int] = []

    async def handle(message: Message) -> None:
        seen.append(len(message.value))

    await bus.subscribe(topic, "g", handle, SubscriptionOptions())
    with pytest.raises(LimitExceededError, match="1,048,576"):
        await bus.publish_many([Message(topic, "", b"small"), Message(topic, "", b"x" * (MESSAGE_LIMIT + 1))])
    await bus.publish(Message(topic, "k", b"x" * (MESSAGE_LIMIT - 1)))
    await wait_until(lambda: seen)
    assert seen == [MESSAGE_LIMIT - 1]


async def test_lag_and_messages_in_flight_are_measured(bus: Bus, topic: str) -> None:
    gate = asyncio.Event()

    async def handle(_message: Message) -> None:
        await gate.wait()

    def value(name: str) -> float | None:
        return bus.telemetry.registry.get_sample_value(name, {"topic": topic, "group": "g"})

    await bus.subscribe(topic, "g", handle, SubscriptionOptions(max_in_flight=2))
    await bus.publish_many([Message(topic, str(i), b"") for i in range(9)])
    await wait_until(lambda: value("safescale_bus_lag") == 9 and value("safescale_bus_in_flight") == 2)
    gate.set()
    await wait_until(lambda: value("safescale_bus_lag") == 0 and value("safescale_bus_in_flight") == 0)


async def test_ping_answers(bus: Bus) -> None:
    await bus.ping()


async def test_in_memory_publishing_waits_while_a_group_lags() -> None:
    bus = MemoryBus(Telemetry(), capacity=50)
    gate = asyncio.Event()
    handled = 0

    async def handle(_message: Message) -> None:
        nonlocal handled
        await gate.wait()
        handled += 1

    await bus.subscribe("t", "g", handle, SubscriptionOptions(max_in_flight=1))
    published = 0

    async def publish_all() -> None:
        nonlocal published
        for i in range(80):
            await bus.publish(Message("t", str(i), b""))
            published += 1

    task = asyncio.create_task(publish_all())
    await asyncio.sleep(0.1)
    assert published <= 52
    gate.set()
    await asyncio.wait_for(task, 10)
    await wait_until(lambda: handled == 80)
    await bus.close()


async def test_messages_are_kept_for_a_group_that_comes_later(bus: Bus, topic: str) -> None:
    await bus.keep(topic, "late")
    await bus.publish(Message(topic, "k", b"early", {"run-id": "r"}))
    seen: list[bytes] = []

    async def handle(message: Message) -> None:
        seen.append(message.value)

    await bus.subscribe(topic, "late", handle, SubscriptionOptions())
    await wait_until(lambda: bool(seen))
    assert seen == [b"early"]
