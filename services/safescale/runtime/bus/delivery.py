"""Deliver messages to their handlers and dead-letter those that fail; for both adapters of the bus."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from safescale.core.errors import DependencyUnavailableError, LimitExceededError, SafescaleError
from safescale.runtime.bus.limits import limit_of, size_of
from safescale.runtime.bus.port import Handler, Message, back_off_s
from safescale.runtime.bus.topics import DEAD_LETTER
from safescale.runtime.errors import as_safescale_error, to_headers
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry

ERROR_TEXT_LIMIT = 2000
"""Characters of an error's message that a dead letter keeps."""

OMITTED = "payload-omitted"
"""Header of a dead letter whose value was too large to keep; holds the number of bytes."""

FAILURE_HEADERS = frozenset({
    "error-code", "error-reason", "error-message", "error-retryable", "original-topic", "original-partition",
    "original-offset", "group", "attempts", OMITTED,
})  # fmt: skip
"""Headers that a dead letter has in addition to those of its message."""


class AbandonedError(Exception):
    """The subscription stops before the message is handled: it must be redelivered."""


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """Context that all deliveries of one subscription share."""

    group: str
    handler: Handler
    max_attempts: int
    publish: Callable[[Message], Awaitable[None]]
    telemetry: Telemetry
    stopping: asyncio.Event


async def deliver(context: DeliveryContext, message: Message, origin: Mapping[str, str]) -> None:
    """Hand a message to the handler until it is handled or given up; a dead letter is published before the return.

    Raises:
        AbandonedError: the subscription stopped before the message was handled.

    """
    size = size_of(message)
    if size > limit_of(message.topic):
        error: SafescaleError | None = LimitExceededError(
            f"the message has {size:,} bytes; at most {limit_of(message.topic):,} are allowed"
        )
    else:
        error = await _attempts(context, message)
    if error is not None:
        await _give_up(context, message, error, origin)


async def hand_over(handler: Handler, message: Message) -> None:
    """Pass a broadcast message to a handler once; a failure is logged and the message skipped."""
    try:
        await handler(message)
    except Exception as error:
        get_logger("bus").warning(
            "broadcast not handled", topic=message.topic, reason=as_safescale_error(error).reason,
            exception_type=type(error).__name__,
        )  # fmt: skip


async def _attempts(context: DeliveryContext, message: Message) -> SafescaleError | None:
    """Return None when the handler returned, else the error of the last attempt."""
    attempt, waits = 1, 0
    while True:
        try:
            await context.handler(message)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            known = as_safescale_error(error)
            if isinstance(known, DependencyUnavailableError):
                waits += 1
                await _wait(context, waits)
                continue
            if context.stopping.is_set():
                # A dependency may be stopping with this process: the message is redelivered, not given up.
                raise AbandonedError from error
            get_logger("bus").warning(
                "message not handled", topic=message.topic, group=context.group, attempt=attempt, reason=known.reason,
                exception_type=type(error).__name__,
            )  # fmt: skip
            if attempt >= context.max_attempts:
                return known
            attempt += 1
        else:
            return None


async def _wait(context: DeliveryContext, waits: int) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(context.stopping.wait(), back_off_s(waits))
    if context.stopping.is_set():
        raise AbandonedError


async def _give_up(
    context: DeliveryContext, message: Message, error: SafescaleError, origin: Mapping[str, str]
) -> None:
    labels = {"topic": message.topic, "reason": error.reason}
    context.telemetry.count("safescale_dead_letters_total", 1, labels)
    if message.topic == DEAD_LETTER:
        # It is in the dead-letter topic already: another copy would come back here forever.
        get_logger("bus").error("dead letter not handled", topic=DEAD_LETTER, group=context.group, reason=error.reason)
        return
    dead = dead_letter(message, error, {"group": context.group, "attempts": str(context.max_attempts), **origin})
    waits = 0
    while True:
        try:
            await context.publish(dead)
        except Exception as problem:
            # Any error: the message must not be lost, nor its partition blocked forever.
            if not isinstance(problem, DependencyUnavailableError):
                name = type(problem).__name__
                get_logger("bus").error("dead letter not published", topic=message.topic, exception_type=name)
            waits += 1
            await _wait(context, waits)
        else:
            return


def dead_letter(message: Message, error: SafescaleError, origin: Mapping[str, str]) -> Message:
    """Return the dead letter of a message: its bytes unchanged, the failure and the message's origin in its headers.

    A value that is too large to be kept is left out, and a header has its size.
    """
    failure = to_headers(error)
    failure["error-message"] = failure["error-message"][:ERROR_TEXT_LIMIT]
    headers = {**message.headers, **failure, "original-topic": message.topic, **origin}
    dead = replace(message, topic=DEAD_LETTER, headers=headers)
    if size_of(dead) > limit_of(DEAD_LETTER):
        own = [(name, value) for name, value in message.headers.items() if len(name) + len(value) <= 400][:50]
        short = {**dict(own), **failure, "original-topic": message.topic, **origin, OMITTED: str(len(message.value))}
        dead = replace(dead, key=dead.key[:200], value=b"", headers=short)
    return dead
