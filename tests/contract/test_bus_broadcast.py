"""Broadcasts over every adapter of the bus port: every process that follows a topic gets all of it."""

import asyncio
import uuid

import pytest
from tests.support.kafka_topics import wait_until

from safescale.core.errors import GarbageAnswerError
from safescale.runtime.bus.port import Bus, Message, SubscriptionOptions
from safescale.runtime.bus.topics import DEAD_LETTER, RUN_ENDED


@pytest.fixture
def broadcast(kind, topic):
    """A topic that every follower reads from its beginning."""
    return RUN_ENDED if kind == "memory" else topic


async def test_every_follower_gets_what_was_published_before_and_after_it_came(bus: Bus, broadcast: str) -> None:
    seen: dict[str, dict[str, bytes]] = {"early": {}, "late": {}}

    def into(name: str):
        async def handle(message: Message) -> None:
            seen[name][message.key] = message.value

        return handle

    await bus.follow(broadcast, into("early"))
    await bus.publish(Message(broadcast, "one", b"first", {"run-id": "one"}))
    await bus.publish(Message(broadcast, "one", b"second", {"run-id": "one"}))
    await bus.follow(broadcast, into("late"))
    # What was there is handled when the call returns; of a key the newest is last.
    assert seen["late"] == {"one": b"second"}
    await bus.publish(Message(broadcast, "two", b"third"))
    wanted = {"one": b"second", "two": b"third"}
    await wait_until(lambda: seen["early"] == wanted and seen["late"] == wanted)


async def test_a_message_that_a_follower_fails_on_holds_up_no_other_and_is_no_dead_letter(
    bus: Bus, broadcast: str
) -> None:
    seen: list[str] = []
    dead: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message.key)
        if message.key == "bad":
            raise GarbageAnswerError("not of the protocol")

    async def collect(message: Message) -> None:
        if message.headers["original-topic"] == broadcast:
            dead.append(message)

    await bus.subscribe(DEAD_LETTER, f"watch-{uuid.uuid4().hex[:8]}", collect, SubscriptionOptions())
    follower = await bus.follow(broadcast, handle)
    await bus.publish(Message(broadcast, "bad", b""))
    await bus.publish(Message(broadcast, "good", b""))
    await wait_until(lambda: {"bad", "good"} <= set(seen))
    await follower.stop()
    await follower.stop()
    await bus.publish(Message(broadcast, "after", b""))
    await asyncio.sleep(0.05)
    assert "after" not in seen
    assert dead == []
