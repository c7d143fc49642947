"""One suite over every adapter of the bus port."""

import asyncio

import pytest

from safescale.core.errors import GarbageAnswerError
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Bus, Message, SubscriptionOptions
from safescale.runtime.bus.topics import DEAD_LETTER
from safescale.runtime.telemetry import Telemetry


@pytest.fixture
async def bus():
    adapter = MemoryBus(Telemetry(), capacity=50)
    yield adapter
    await adapter.close()


async def wait_until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_every_group_gets_every_message_and_members_share(bus: Bus) -> None:
    seen: dict[str, list[bytes]] = {"one": [], "two": []}

    def into(name: str):
        async def handle(message: Message) -> None:
            seen[name].append(message.value)

        return handle

    options = SubscriptionOptions(max_in_flight=2)
    for name in ("one", "one", "two"):
        await bus.subscribe("t", name, into(name), options)
    for i in range(30):
        await bus.publish(Message("t", str(i), bytes([i]), {"run-id": "r"}))
    await wait_until(lambda: len(seen["one"]) >= 30 and len(seen["two"]) >= 30)
    assert sorted(seen["one"]) == sorted(seen["two"]) == [bytes([i]) for i in range(30)]


async def test_order_holds_per_key_while_keys_run_in_parallel(bus: Bus) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}
    running = 0
    most = 0

    async def handle(message: Message) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        seen[message.key].append(message.value[0])
        running -= 1

    await bus.subscribe("t", "g", handle, SubscriptionOptions(max_in_flight=4))
    for i in range(20):
        await bus.publish(Message("t", "ab"[i % 2], bytes([i])))
    await wait_until(lambda: sum(map(len, seen.values())) == 20)
    assert seen == {"a": list(range(0, 20, 2)), "b": list(range(1, 20, 2))}
    assert most == 2


async def test_a_failing_handler_is_tried_again_then_dead_lettered(bus: Bus) -> None:
    tries = 0
    dead: list[Message] = []

    async def handle(message: Message) -> None:
        nonlocal tries
        if message.key == "bad":
            tries += 1
            raise GarbageAnswerError("not of the protocol")
        done.append(message.key)

    async def collect(message: Message) -> None:
        dead.append(message)

    done: list[str] = []
    await bus.subscribe(DEAD_LETTER, "watch", collect, SubscriptionOptions())
    await bus.subscribe("t", "g", handle, SubscriptionOptions(max_in_flight=1, max_attempts=3))
    await bus.publish(Message("t", "bad", b"\x00raw", {"run-id": "r"}))
    await bus.publish(Message("t", "good", b""))
    await wait_until(lambda: dead and done)
    assert (tries, done) == (3, ["good"])
    assert dead[0].value == b"\x00raw"
    assert dead[0].headers["error-reason"] == "GARBAGE_ANSWER"
    assert dead[0].headers["original-topic"] == "t"
    assert dead[0].headers["run-id"] == "r"


async def test_publishing_waits_while_a_group_lags(bus: Bus) -> None:
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


async def test_stop_finishes_what_is_in_flight_and_takes_no_more(bus: Bus) -> None:
    started = asyncio.Event()
    done: list[str] = []

    async def handle(message: Message) -> None:
        started.set()
        await asyncio.sleep(0.05)
        done.append(message.key)

    subscription = await bus.subscribe("t", "g", handle, SubscriptionOptions(max_in_flight=1))
    await bus.publish(Message("t", "1", b""))
    await bus.publish(Message("t", "2", b""))
    await started.wait()
    await subscription.stop()
    assert done == ["1"]
    again = await bus.subscribe("t", "g", handle, SubscriptionOptions(max_in_flight=1))
    await wait_until(lambda: done == ["1", "2"])
    await again.stop()
