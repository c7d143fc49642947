import asyncio

import pytest

from safescale.core.errors import BusUnavailableError, GarbageAnswerError, InvalidInputError
from safescale.runtime.bus import delivery
from safescale.runtime.bus.delivery import AbandonedError, DeliveryContext, dead_letter, deliver
from safescale.runtime.bus.limits import DEAD_LETTER_LIMIT, MESSAGE_LIMIT, size_of
from safescale.runtime.bus.port import Message
from safescale.runtime.bus.topics import DEAD_LETTER
from safescale.runtime.telemetry import Telemetry

MESSAGE = Message("t", "k", b"v", {"run-id": "r"})


def context(handler, publish=None, attempts: int = 3) -> DeliveryContext:
    async def nowhere(_message: Message) -> None:
        raise AssertionError("nothing is published")

    return DeliveryContext("g", handler, attempts, publish or nowhere, Telemetry(), asyncio.Event())


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch) -> None:
    monkeypatch.setattr(delivery, "back_off_s", lambda _tries: 0.001)


async def test_the_dead_letter_is_published_before_the_delivery_ends() -> None:
    published: list[Message] = []

    async def fail(_message: Message) -> None:
        raise GarbageAnswerError("broken")

    async def publish(message: Message) -> None:
        await asyncio.sleep(0.01)
        published.append(message)

    await deliver(context(fail, publish), MESSAGE, {"original-offset": "7"})
    assert published[0].topic == DEAD_LETTER
    assert published[0].headers["original-offset"] == "7"


async def test_a_dead_letter_is_published_until_the_bus_takes_it() -> None:
    tries = 0

    async def fail(_message: Message) -> None:
        raise ValueError("secret text")

    async def publish(message: Message) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise BusUnavailableError("away")
        if tries == 2:
            raise InvalidInputError("odd")
        assert "secret" not in message.headers["error-message"]

    await deliver(context(fail, publish), MESSAGE, {})
    assert tries == 3


async def test_a_stop_ends_the_wait_for_a_dependency() -> None:
    async def away(_message: Message) -> None:
        raise BusUnavailableError("away")

    waiting = context(away)
    task = asyncio.create_task(deliver(waiting, MESSAGE, {}))
    await asyncio.sleep(0.01)
    waiting.stopping.set()
    with pytest.raises(AbandonedError):
        await task


async def test_a_cancelled_delivery_is_cancelled() -> None:
    started = asyncio.Event()

    async def hang(_message: Message) -> None:
        started.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(deliver(context(hang), MESSAGE, {}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_dead_letter_that_cannot_be_handled_makes_no_other() -> None:
    async def fail(_message: Message) -> None:
        raise GarbageAnswerError("broken")

    failing = context(fail)
    await deliver(failing, Message(DEAD_LETTER, "k", b""), {})
    labels = {"topic": DEAD_LETTER, "reason": "GARBAGE_ANSWER"}
    assert failing.telemetry.registry.get_sample_value("safescale_dead_letters_total", labels) == 1


async def test_a_message_over_the_limit_never_reaches_the_handler() -> None:
    published: list[Message] = []

    async def handler(_message: Message) -> None:
        raise AssertionError

    async def publish(message: Message) -> None:
        published.append(message)

    await deliver(context(handler, publish), Message("t", "k", b"x" * (MESSAGE_LIMIT + 1)), {})
    assert published[0].headers["error-reason"] == "LIMIT_EXCEEDED"


def test_the_largest_message_fits_into_a_dead_letter_with_a_long_error() -> None:
    largest = Message("t", "k", b"x" * (MESSAGE_LIMIT - 1))
    dead = dead_letter(largest, GarbageAnswerError("e" * 100_000), {"group": "g"})
    assert dead.value == largest.value
    assert size_of(dead) <= DEAD_LETTER_LIMIT


def test_what_does_not_fit_is_left_out_and_told() -> None:
    headers = {"run-id": "r", "noise": "n" * 2_000_000, **{f"h{i}": "x" * 100 for i in range(1000)}}
    dead = dead_letter(
        Message("t", "k" * 5000, b"x" * 3_000_000, headers), GarbageAnswerError("broken"), {"group": "g"}
    )
    assert (dead.value, dead.headers["payload-omitted"], dead.headers["original-topic"]) == (b"", "3000000", "t")
    assert dead.headers["run-id"] == "r"
    assert size_of(dead) <= DEAD_LETTER_LIMIT
