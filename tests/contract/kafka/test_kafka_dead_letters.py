"""Dead letters on a real Kafka: listed, shown and replayed by the command line."""

import asyncio
import json
import uuid

import pytest
import pytest_asyncio
from tests.support.kafka_topics import kafka_bus, some_topics
from typer.testing import CliRunner

from safescale.admin.dead_letters import DeadLetter, DeadLetters
from safescale.core.errors import GarbageAnswerError
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.kafka_client import KafkaConnection
from safescale.runtime.bus.port import Message, SubscriptionOptions

pytestmark = pytest.mark.grid


class Case:
    """A topic whose handler fails until it is told not to."""

    def __init__(self, bus, topic: str, address: str) -> None:
        self.bus, self.topic = bus, topic
        self.run_id = f"run-{uuid.uuid4().hex[:8]}"
        self.letters = DeadLetters(KafkaConnection((address,)))
        self.failing = True
        self.seen: list[Message] = []

    async def handle(self, message: Message) -> None:
        if self.failing:
            raise GarbageAnswerError("broken")
        self.seen.append(message)

    async def fail(self, count: int) -> list[DeadLetter]:
        """Publish messages that are given up; their dead letters."""
        event = events_pb2.VerdictRecorded()
        event.verdict.cell.question_id = "patient text"
        for number in range(count):
            await self.bus.publish(event_message(self.topic, f"key{number}", event, self.run_id, 1))
        while len(found := await asyncio.to_thread(self.found)) < count:
            await asyncio.sleep(0.1)
        return found

    def found(self) -> list[DeadLetter]:
        return [letter for letter in self.letters.read() if letter.run_id == self.run_id]

    async def handled(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.seen) < count:
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def case(kafka_address: str, monkeypatch):
    monkeypatch.setenv("SAFESCALE_KAFKA", kafka_address)
    with some_topics(kafka_address, 1) as (topic,):
        bus = kafka_bus(kafka_address)
        case = Case(bus, topic, kafka_address)
        await bus.subscribe(topic, "g", case.handle, SubscriptionOptions(max_attempts=1))
        yield case
        await bus.close()


async def command(*arguments: str):
    from safescale.cli.main import app

    return await asyncio.to_thread(CliRunner().invoke, app, ["dead-letters", *arguments], env={"COLUMNS": "240"})


async def test_a_dead_letter_is_listed_and_shown_without_its_payload(case: Case) -> None:
    (letter,) = await case.fail(1)
    listed = await command("list", "--run", case.run_id)
    for part in (letter.id, case.topic, "GARBAGE_ANSWER", case.run_id, "key0"):
        assert part in listed.output
    shown = await command("show", letter.id)
    assert shown.exit_code == 0
    assert "replayed at: never" in shown.output
    assert f"original-topic: {case.topic}" in shown.output
    assert "group: g" in shown.output
    assert "patient text" not in shown.output
    with_payload = await command("show", letter.id, "--payload")
    payload = json.loads(with_payload.output[with_payload.output.index("\n{") :])
    assert payload["verdict"]["cell"]["questionId"] == "patient text"


async def test_a_replay_brings_the_message_back_as_it_was(case: Case) -> None:
    (letter,) = await case.fail(1)
    case.failing = False
    replayed = await command("replay", letter.id)
    assert replayed.exit_code == 0, replayed.output
    await case.handled(1)
    (message,) = case.seen
    assert (message.key, message.value) == ("key0", letter.message.value)
    assert dict(message.headers) == {
        "content-type": "application/x-protobuf", "message-type": "safescale.events.v1.VerdictRecorded",
        "run-id": case.run_id, "attempt": "1", "replays": "1",
    }  # fmt: skip


async def test_replaying_twice_is_told(case: Case) -> None:
    (letter,) = await case.fail(1)
    case.failing = False
    await command("replay", letter.id)
    again = await command("replay", letter.id)
    assert "was replayed at" in again.exception.message
    shown = await command("show", letter.id)
    assert "replayed at: 2" in shown.output
    await command("replay", letter.id, "--again")
    await case.handled(2)
    assert "There are no such" in (await command("list", "--run", case.run_id, "--open")).output


async def test_a_message_that_fails_again_keeps_its_count(case: Case) -> None:
    (letter,) = await case.fail(1)
    await command("replay", letter.id)
    async with asyncio.timeout(60):
        while len(found := await asyncio.to_thread(case.found)) < 2:
            await asyncio.sleep(0.1)
    assert [item.message.headers.get("replays") for item in found] == [None, "1"]
    case.failing = False
    await command("replay", found[1].id)
    await case.handled(1)
    assert case.seen[0].headers["replays"] == "2"


async def test_those_of_a_run_are_replayed_together(case: Case) -> None:
    await case.fail(3)
    case.failing = False
    asked = await command("replay", "--run", case.run_id)
    assert "--yes" in asked.exception.message
    replayed = await command("replay", "--run", case.run_id, "--yes")
    assert "Replayed 3." in replayed.output
    await case.handled(3)
    assert sorted(message.key for message in case.seen) == ["key0", "key1", "key2"]
    nothing = await command("replay", "--run", case.run_id, "--yes")
    assert "There is nothing to replay." in nothing.output


async def test_what_is_not_there_is_told(case: Case) -> None:
    missing = await command("show", "0:999999999")
    assert "there is no dead letter 0:999999999" in missing.exception.message
    wrong = await command("show", "7")
    assert "expected partition:offset" in wrong.exception.message
