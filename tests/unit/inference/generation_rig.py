"""A worker on a bus in memory, and the requests that it is sent."""

import asyncio
import time

from safescale.inference.run_ends import RunEnds
from safescale.inference.worker import GenerationWorker, InferencePorts
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message, SubscriptionOptions

LETTER, CLOZE = common_pb2.FORMULATION_LETTER, common_pb2.FORMULATION_CLOZE


class Contexts:
    def __init__(self) -> None:
        self.error: Exception | None = None

    async def text(self, reference):
        if self.error is not None:
            raise self.error
        return reference.inline_text or None


class Rig:
    """A worker on a bus in memory; what it publishes and what was given up."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.bus = MemoryBus(bench.telemetry)
        self.contexts = Contexts()
        self.ends = RunEnds(self.bus)
        self.published: list[events_pb2.GenerationCompleted] = []
        self.messages: list[Message] = []
        self.dead: list[Message] = []
        self.worker = GenerationWorker(
            InferencePorts(self.bus, bench.documents, bench.telemetry, bench.engine, self.contexts, self.ends)
        )

    @property
    def available(self) -> float:
        return self.bench.metric("safescale_model_available", model="m")

    async def start(self) -> None:
        await self.ends.start()

        async def completed(message):
            self.messages.append(message)
            self.published.append(events_pb2.GenerationCompleted.FromString(message.value))

        async def dead(message):
            self.dead.append(message)

        await self.bus.subscribe(topics.GENERATION_COMPLETED, "test", completed, SubscriptionOptions())
        await self.bus.subscribe(topics.DEAD_LETTER, "test", dead, SubscriptionOptions())
        await self.worker.start()

    async def ask(self, *requests: events_pb2.GenerationRequested) -> list[events_pb2.GenerationCompleted]:
        before = len(self.published)
        for request in requests:
            await self.send(request.SerializeToString())
        async with asyncio.timeout(10):
            while len(self.published) + len(self.dead) < before + len(requests):
                await asyncio.sleep(0.002)
        return self.published[before:]

    async def send(self, value: bytes) -> None:
        headers = {"run-id": "r", "message-type": "asked"}
        await self.bus.publish(Message(topics.generation_requested("m"), str(time.monotonic_ns()), value, headers))


def request(**changes) -> events_pb2.GenerationRequested:
    options = changes.pop("options", {"A": "liver", "B": "left kidney", "C": "spleen"})
    cell = common_pb2.CellKey(run_id="r", model="m", condition="zero_shot", question_id=changes.pop("question", "q1"))
    values = {
        "formulation": LETTER, "greedy": True, "sample_count": 3, "temperature": 0.7, "max_new_tokens": 10,
        "seed": 2**31 - 2, "attempt": 1, **changes,
    }  # fmt: skip
    made = events_pb2.GenerationRequested(
        cell=cell,
        question=common_pb2.QuestionStem(question_id=cell.question_id, question_text="Which organ?", options=options),
        **values,
    )
    made.requested_at.FromNanoseconds(time.time_ns() - 2_000_000_000)
    return made
