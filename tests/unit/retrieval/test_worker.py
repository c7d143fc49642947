import asyncio

import pytest

from safescale.core.errors import (
    BackendUnavailableError,
    DependencyUnavailableError,
    NotFoundError,
    ServiceUnavailableError,
    StorageError,
    StorageUnavailableError,
)
from safescale.retrieval.contexts import Context
from safescale.retrieval.worker import ContextWorker
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.telemetry import Telemetry

REQUEST = events_pb2.ContextRequested(run_id="r", condition="top_1", question_id="q", corpus_id="c", query="x")
BUILT = Context("text", ("a#0",), 1, "tiny", "c")


class Builder:
    """Raises what it is given, then builds."""

    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors

    async def build(self, request):
        if self.errors:
            raise self.errors.pop(0)
        return BUILT, 0.1


async def answers_to_one(errors: list[Exception]) -> list[events_pb2.ContextBuilt]:
    bus = MemoryBus(Telemetry())
    got: list[events_pb2.ContextBuilt] = []
    done = asyncio.Event()

    async def take(message: Message) -> None:
        got.append(events_pb2.ContextBuilt.FromString(message.value))
        done.set()

    await bus.subscribe(topics.CONTEXT_BUILT, "test", take, SubscriptionOptions())
    worker = ContextWorker(bus, Builder(errors))
    await worker.start()
    await bus.publish(Message(topics.CONTEXT_REQUESTED, "q", REQUEST.SerializeToString()))
    await asyncio.wait_for(done.wait(), 60)
    await worker.stop()
    await bus.close()
    return got


@pytest.mark.parametrize(
    "error", [StorageUnavailableError, ServiceUnavailableError, DependencyUnavailableError], ids=lambda e: e.__name__
)
async def test_what_cannot_be_reached_fails_no_context(error) -> None:
    # More often than a message has attempts: an absent dependency costs none.
    (answer,) = await answers_to_one([error("away")] * 4)
    assert answer.context.context_id == BUILT.context_id


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFoundError("no corpus"), "NOT_FOUND"),
        (StorageError("damaged"), "STORAGE_FAILED"),
        (BackendUnavailableError("not installed"), "BACKEND_UNAVAILABLE"),
        (RuntimeError("with a patient's text"), "INTERNAL"),
    ],
)
async def test_other_failures_are_announced(error: Exception, reason: str) -> None:
    (answer,) = await answers_to_one([error])
    assert answer.failure.reason == reason
    assert "patient" not in answer.failure.message
