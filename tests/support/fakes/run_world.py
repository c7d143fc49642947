"""Runs on a real store and bus, with scripted peers and a fault at any call that they make."""

import asyncio
import inspect
from pathlib import Path

from safescale.orchestration.kinds.registry import run_kinds
from safescale.orchestration.runs import Runs, RunsPorts
from safescale.orchestration.store import BenchmarkStore, RunStore
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import SubscriptionOptions
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.telemetry import Telemetry


class Faults:
    """Counts calls and breaks one of them, before or after its effect; `for_good` breaks those that follow, too."""

    def __init__(self) -> None:
        self.arm(0, None)

    def arm(self, at: int, error: BaseException | None, *, after: bool = False, for_good: bool = False) -> None:
        self._at, self._error, self._after, self._for_good = at, error, after, for_good
        self._calls = 0
        self.hit = False

    def _due(self) -> bool:
        self._calls += 1
        due = self._error is not None and (self._calls == self._at or (self._for_good and self._calls > self._at))
        self.hit = self.hit or due
        return due

    async def call(self, method, *args, **kwargs):
        due = self._due()
        if due and not self._after:
            raise self._error
        result = await method(*args, **kwargs)
        if due:
            raise self._error
        return result

    async def iterate(self, method, *args, **kwargs):
        due = self._due()
        if due and not self._after:
            raise self._error
        async for item in method(*args, **kwargs):
            yield item
        if due:
            raise self._error


class Faulty:
    """Anything, each call of which can be made to break."""

    def __init__(self, inner, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    def __getattr__(self, name: str):
        method = getattr(self._inner, name)
        if inspect.isasyncgenfunction(method):
            return lambda *args, **kwargs: self._faults.iterate(method, *args, **kwargs)
        return lambda *args, **kwargs: self._faults.call(method, *args, **kwargs)


class Peers:
    """Catalog, corpora and recorded verdicts."""

    def __init__(self, models, corpora) -> None:
        self.catalog = models
        self.known_corpora = corpora
        self.verdicts: dict[str, scoring_pb2.Verdict] = {}

    async def models(self):
        return dict(self.catalog)

    async def corpora(self):
        return dict(self.known_corpora)

    async def put_context(self, text: str) -> str:
        return f"context-{len(text)}"

    async def verdict_keys(self, run_id: str):
        for verdict in list(self.verdicts.values()):
            if verdict.cell.run_id == run_id:
                yield verdict

    async def seconds_per_token(self, model: str) -> float | None:
        return 0.01


class World:
    """A process's runs.

    Cells are answered while `answering` is set, and never while `losing`; `failing` names the conditions that
    fail.
    """

    def __init__(self, documents, models, corpora) -> None:
        self.faults = Faults()
        self.telemetry = Telemetry()
        self.bus = MemoryBus(self.telemetry)
        self.peers = Peers(models, corpora)
        self.documents = documents
        self.store = RunStore(documents)
        self.benchmarks = BenchmarkStore(documents)
        self.answering = asyncio.Event()
        self.failing: set[str] = set()
        self.reason = "BACKEND_TIMEOUT"
        self.losing = False
        self.asked: list[events_pb2.GenerationRequested] = []
        self.runs = self.process()

    def process(self, **changes) -> Runs:
        """The runs of a process that starts."""
        documents = Faulty(self.documents, self.faults)
        ports = RunsPorts(
            Faulty(self.bus, self.faults),
            run_kinds(BenchmarkStore(documents), RunStore(documents), Faulty(self.peers, self.faults)),
            RunStore(documents),
            self.telemetry, back_off_s=lambda tries: 0.001, look_every_s=0.001, **changes,
        )  # fmt: skip
        return Runs(ports)

    async def listen(self, models) -> None:
        for model in models:
            await self.bus.subscribe(
                topics.generation_requested(model), "test", self._answer, SubscriptionOptions(max_in_flight=64)
            )
        await self.bus.subscribe(topics.GENERATION_COMPLETED, "test", self._score, SubscriptionOptions())

    async def _answer(self, message) -> None:
        request = events_pb2.GenerationRequested.FromString(message.value)
        self.asked.append(request)
        if self.losing:
            return
        await self.answering.wait()
        failed = request.cell.condition in self.failing
        await self._record(request.cell, request.attempt, self.reason if failed else "")

    async def _score(self, message) -> None:
        outcome = events_pb2.GenerationCompleted.FromString(message.value)
        await self._record(outcome.cell, outcome.attempt, outcome.failure.reason)

    async def _record(self, cell: common_pb2.CellKey, attempt: int, reason: str) -> None:
        key = f"{cell.run_id}/{cell.model}/{cell.condition}/{cell.question_id}"
        verdict = scoring_pb2.Verdict(cell=cell, attempt=attempt)
        if reason:
            verdict.failure.reason = verdict.failure.message = reason
        known = self.peers.verdicts.get(key)
        if known is None or known.attempt < attempt:
            self.peers.verdicts[key] = verdict
        await self.runs.on_event(cell.run_id, events_pb2.VerdictRecorded(verdict=verdict))

    async def states(self) -> dict[str, int]:
        return {stored.run.run_id: stored.run.state for stored in await self.store.all()}

    async def until(self, condition, *, looking: bool = True) -> None:
        """Return when a condition holds; meanwhile look for runs that nobody drives, as a server does."""
        async with asyncio.timeout(20):
            while not await condition():
                if looking:
                    await self.runs.look()
                await asyncio.sleep(0.002)

    async def until_all_ended(self) -> None:
        async def ended() -> bool:
            return pb.RUN_STATE_RUNNING not in (await self.states()).values() and not self.active()

        await self.until(ended)

    def active(self) -> float | None:
        return self.telemetry.registry.get_sample_value("safescale_runs_active")


async def open_world(path: Path, benchmark, models, corpora) -> World:
    world = World(await SqliteDocuments.open(path), models, corpora)
    await world.benchmarks.put(benchmark)
    await world.listen(models)
    return world
