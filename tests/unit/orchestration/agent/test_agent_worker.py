import asyncio
from collections.abc import AsyncIterator

import pytest

from safescale.core.errors import BackendRefusedError
from safescale.orchestration.agent.worker import ResearchWorker
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message, SubscriptionOptions

from .conftest import QUESTION, World


@pytest.fixture
async def bus(world: World) -> AsyncIterator[MemoryBus]:
    bus = MemoryBus(world.telemetry)
    yield bus
    await bus.close()


async def listen(bus: MemoryBus, topic: str) -> "asyncio.Queue[Message]":
    found: asyncio.Queue[Message] = asyncio.Queue()
    await bus.subscribe(topic, "test", found.put, SubscriptionOptions())
    return found


async def ask(bus: MemoryBus, model: str = "agent") -> None:
    asked = events_pb2.ResearchRequested(
        run_id="run-1", condition="deep_research", question=QUESTION, corpus_id="corpus", agent_model=model, attempt=2
    )
    await bus.publish(Message(topics.RESEARCH_REQUESTED, "run-1/q1", asked.SerializeToString()))


async def test_a_report_is_announced(world: World, bus: MemoryBus) -> None:
    built = await listen(bus, topics.CONTEXT_BUILT)
    worker = ResearchWorker(bus, world.researcher(), 2)
    await worker.start()
    await ask(bus)
    message = await asyncio.wait_for(built.get(), 10)
    event = events_pb2.ContextBuilt.FromString(message.value)
    await worker.stop()
    assert message.key == "run-1/deep_research/q1/"
    assert message.headers == {
        "content-type": "application/x-protobuf",
        "message-type": "safescale.events.v1.ContextBuilt",
        "run-id": "run-1",
        "attempt": "2",
    }
    assert (event.run_id, event.condition, event.question_id, event.model) == ("run-1", "deep_research", "q1", "")
    assert event.attempt == 2
    assert event.elapsed_s > 0
    assert event.context.token_count == 321
    assert event.context.context_id in world.retrieval.contexts


async def test_a_failure_is_announced_and_is_no_dead_letter(world: World, bus: MemoryBus) -> None:
    def write(_prompt: str) -> str:
        raise BackendRefusedError("refused")

    world.inference.write = write
    built = await listen(bus, topics.CONTEXT_BUILT)
    dead = await listen(bus, topics.DEAD_LETTER)
    worker = ResearchWorker(bus, world.researcher(), 1)
    await worker.start()
    await ask(bus)
    event = events_pb2.ContextBuilt.FromString((await asyncio.wait_for(built.get(), 10)).value)
    await worker.stop()
    assert event.WhichOneof("outcome") == "failure"
    assert event.failure.reason == "BACKEND_REFUSED"
    assert dead.empty()


async def test_stopping_abandons_a_research_at_once_and_announces_nothing(world: World, bus: MemoryBus) -> None:
    built = await listen(bus, topics.CONTEXT_BUILT)
    dead = await listen(bus, topics.DEAD_LETTER)
    researcher = world.researcher()
    worker = ResearchWorker(bus, researcher, 1)
    await worker.start()
    world.inference.gate.clear()
    await ask(bus)
    while not await world.documents.count("research"):
        await asyncio.sleep(0.01)
    await asyncio.wait_for(worker.stop(), 3)
    world.inference.gate.set()
    assert built.empty()
    assert dead.empty()
    identifier = next(iter([d.key async for d in world.documents.scan("research")]))
    state = await researcher.get(identifier)
    assert state is not None
    assert state.step == pb.RESEARCH_STEP_CONCEPTS


@pytest.mark.parametrize("fresh", [False, True])
async def test_the_research_of_a_fresh_run_is_its_own(world: World, bus: MemoryBus, fresh: bool) -> None:
    built = await listen(bus, topics.CONTEXT_BUILT)
    worker = ResearchWorker(bus, world.researcher(), 1)
    await worker.start()
    for run_id in ("run-1", "run-2"):
        asked = events_pb2.ResearchRequested(
            run_id=run_id, condition="deep_research", question=QUESTION, corpus_id="corpus", agent_model="agent",
            attempt=1, agent_revision="r1", agent_fingerprint="server 1", fresh=fresh,
        )  # fmt: skip
        await bus.publish(Message(topics.RESEARCH_REQUESTED, f"{run_id}/q1", asked.SerializeToString()))
        assert events_pb2.ContextBuilt.FromString((await asyncio.wait_for(built.get(), 10)).value).HasField("context")
    await worker.stop()
    assert len(world.inference.asked) == (14 if fresh else 7)


async def test_an_agent_that_changed_is_a_failure_with_its_reason(world: World, bus: MemoryBus) -> None:
    built = await listen(bus, topics.CONTEXT_BUILT)
    worker = ResearchWorker(bus, world.researcher(), 1)
    await worker.start()
    asked = events_pb2.ResearchRequested(
        run_id="run-1", condition="deep_research", question=QUESTION, corpus_id="corpus", agent_model="agent",
        attempt=1, agent_revision="r0",
    )  # fmt: skip
    await bus.publish(Message(topics.RESEARCH_REQUESTED, "run-1/q1", asked.SerializeToString()))
    event = events_pb2.ContextBuilt.FromString((await asyncio.wait_for(built.get(), 10)).value)
    await worker.stop()
    assert event.failure.reason == "MODEL_CHANGED"
    assert "r1" in event.failure.message
    assert "r0" in event.failure.message
