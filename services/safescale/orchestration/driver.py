"""Drives one run: asks for contexts, then for cells, and follows the verdicts to the end.

A driver keeps nothing that a restart could lose: what is done is read from the verdicts, contexts and answers come
again from their stores.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from safescale.core.errors import LimitExceededError, ModelChangedError, SafescaleError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.cells import Cell
from safescale.core.safety.conditions import condition
from safescale.orchestration.progress import STATES, RunProgress
from safescale.orchestration.requests import ContextKey, RunMessages
from safescale.orchestration.store import RunStore
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.bus.port import Bus, Message, back_off_s
from safescale.runtime.errors import to_failure
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry
from safescale.runtime.tracing import at

T = TypeVar("T")

INLINE_BYTES = 64 * 1024
"""Largest text that a message carries itself, in UTF-8 bytes; longer ones go through the context store."""

SHOWN_EVERY_S = 0.2
"""Least seconds between two times that gauges follow and watchers are woken: verdicts can come by the hundred."""

PUBLISH_BATCH = 2000
"""Messages published together while a run is planned; the next are made meanwhile."""

BREATH = 200
"""Cells after which planning lets others work."""


def _nobody(driver: "RunDriver") -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class DriverPorts:
    """What a driver works with. `on_ended` is told of each end of a run.

    `messages_kept_s` is the seconds for which the bus keeps a message that nobody takes; None for ever.
    """

    bus: Bus
    runs: RunStore
    put_context: Callable[[str], Awaitable[str]]
    telemetry: Telemetry
    on_ended: Callable[["RunDriver"], None] = _nobody
    messages_kept_s: float | None = None


@dataclass(frozen=True)
class End:
    """How a run ended."""

    state: "pb.RunState.ValueType"
    failure: common_pb2.Failure | None = None


class RunDriver:
    """One run while it is driven by this process."""

    def __init__(self, run: pb.Run, benchmark: Benchmark, ports: DriverPorts) -> None:
        self.run = run
        self.progress = RunProgress(run)
        self._ports = ports
        self._questions = {question.question_id: question for question in benchmark.questions}
        self._messages = RunMessages(run, self._questions)
        self._awaited: set[ContextKey] = set()
        self._requested: set[ContextKey] = set()
        self._changed = asyncio.Event()
        self._shown_at = -math.inf
        self._showing: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._log = get_logger("orchestration")
        self._ending = asyncio.Lock()
        self.ended = asyncio.Event()
        self.unrecorded: End | None = None

    def start(self) -> None:
        """Begin to ask; known verdicts and skips must have been taken up before."""
        # A retry has recorded another attempt since the driver was made.
        self._messages = RunMessages(self.run, self._questions)
        # Each cell is a trace of its own, not a part of the call that started its run.
        with at(None):
            self._spawn(self._work())

    def _spawn(self, work: Awaitable[None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self) -> None:
        """Ask for every open cell, and again when the bus has thrown away what nobody took.

        Asking twice changes nothing: what is stored of a cell is announced again.
        """
        try:
            await self._ask_all()
            while self._ports.messages_kept_s is not None and not self.ended.is_set():
                await asyncio.sleep(self._ports.messages_kept_s)
                self._log.warning("messages may have expired, open cells are asked again", run_id=self.run.run_id)
                self._requested.clear()
                await self._ask_all()
        except Exception as error:
            failure = to_failure(error)
            kind = type(error).__name__
            self._log.error("run cannot go on", run_id=self.run.run_id, reason=failure.reason, exception_type=kind)
            await self._patiently(lambda: self.end(pb.RUN_STATE_FAILED, failure))

    async def _ask_all(self) -> None:
        await self._patiently(self._settle)
        batch: list[Message] = []
        publishing = self._spawn(self._publish([]))
        for number, cell in enumerate(self.progress.cells()):
            if self.ended.is_set():
                return
            if self.progress.is_open(cell):
                batch.extend(await self._asking(cell))
            if len(batch) >= PUBLISH_BATCH:
                await publishing
                publishing = self._spawn(self._publish(batch))
                batch = []
            if number % BREATH == 0:
                await asyncio.sleep(0)
        await publishing
        await self._publish(batch)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do work, again and again while a dependency is away: nobody else brings it back."""
        tries = 0
        while True:
            try:
                return await work()
            except SafescaleError as error:
                if not error.retryable:
                    raise
                tries += 1
                self._log.warning("waiting for a dependency", run_id=self.run.run_id, reason=error.reason)
                await asyncio.sleep(back_off_s(tries))

    async def _publish(self, messages: list[Message]) -> None:
        if messages:
            await self._patiently(lambda: self._ports.bus.publish_many(messages))

    async def _asking(self, cell: Cell) -> list[Message]:
        """Messages that ask for a cell, or that record why it cannot be asked."""
        try:
            return await self._patiently(lambda: self._ask(cell))
        except Exception as error:
            return [self._messages.failed(cell, to_failure(error))]

    async def _ask(self, cell: Cell) -> list[Message]:
        question = self._questions[cell.question_id]
        row = condition(cell.condition)
        if row.builder == "none":
            return [self._messages.generation(cell, common_pb2.ContextRef())]
        if row.evidence_field is not None:
            text = getattr(question, row.evidence_field) or ""
            return [self._messages.generation(cell, await self._text_context(text))]
        if row.builder == "agent" and not self.run.manifest.spec.agent_model:
            return [self._messages.generation(cell, await self._text_context(question.deep_research_report or ""))]
        key = (row.id, question.question_id, cell.model if row.builder == "max_context" else "")
        if key in self._requested:
            return []
        request = self._messages.context(key, question)
        # Once it is made: a question too large for it fails each of its cells.
        self._requested.add(key)
        self._awaited.add(key)
        return [request]

    async def _text_context(self, text: str) -> common_pb2.ContextRef:
        if len(text.encode()) <= INLINE_BYTES:
            return common_pb2.ContextRef(inline_text=text)
        return common_pb2.ContextRef(context_id=await self._ports.put_context(text))

    async def on_context(self, event: events_pb2.ContextBuilt) -> None:
        """Take up a context: ask the cells that waited for it, skip them, or record their failure."""
        key = (event.condition, event.question_id, event.model)
        if key not in self._awaited or event.attempt != self.run.attempt or self.ended.is_set():
            return
        models = [event.model] if event.model else [model.id for model in self.run.manifest.models]
        cells = [Cell(self.run.run_id, model, event.condition, event.question_id) for model in models]
        cells = [cell for cell in cells if self.progress.is_open(cell)]
        outcome = event.WhichOneof("outcome")
        if outcome == "skipped_reason":
            skips = [
                pb.Skip(model=c.model, condition=c.condition, question_id=c.question_id, reason=event.skipped_reason)
                for c in cells
            ]
            self.run = await self._ports.runs.add_skips(self.run.run_id, skips)
            for skip in skips:
                self.progress.skip(skip)
        await self._ports.bus.publish_many(list(self._after_context(event, cells)))
        self._awaited.discard(key)
        await self._settle()

    def _after_context(self, event: events_pb2.ContextBuilt, cells: Iterable[Cell]) -> Iterable[Message]:
        for cell in cells:
            if event.HasField("context"):
                try:
                    yield self._messages.generation(cell, event.context)
                except LimitExceededError as error:
                    yield self._messages.failed(cell, to_failure(error))
            elif event.HasField("failure"):
                yield self._messages.failed(cell, event.failure)

    async def on_verdict(self, verdict: scoring_pb2.Verdict) -> None:
        """Take up a verdict of the current attempt."""
        if verdict.attempt != self.run.attempt or self.ended.is_set():
            return
        self.progress.end(verdict)
        changed = _changed(verdict, self.run.manifest)
        if changed is not None:
            # Every further answer would be refused for the same reason: one run holds answers of one setting.
            await self.end(pb.RUN_STATE_FAILED, changed)
        else:
            await self._settle()

    async def _settle(self) -> None:
        if self.progress.complete and not self.ended.is_set():
            await self.end(pb.RUN_STATE_COMPLETED)
        elif self._showing is None:
            loop = asyncio.get_running_loop()
            # The first change shows at once, those that follow it together a little later.
            wait = self._shown_at + SHOWN_EVERY_S - loop.time()
            if wait <= 0:
                self._show()
            else:
                self._showing = loop.call_later(wait, self._show)

    def _show(self) -> None:
        """Set the gauges and wake those who watch."""
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
        self._shown_at = asyncio.get_running_loop().time()
        self._observe()
        self._changed.set()
        self._changed = asyncio.Event()

    def _observe(self) -> None:
        totals = self.progress.totals()
        for state in STATES:
            labels = {"run_id": self.run.run_id, "state": state}
            if self.ended.is_set():
                self._ports.telemetry.forget("safescale_run_cells", labels)
            else:
                self._ports.telemetry.gauge("safescale_run_cells", totals[state], labels)

    def message(self) -> pb.Progress:
        """The progress now."""
        return self.progress.message(len(self._awaited))

    async def on_dead_letter(self, failure: common_pb2.Failure) -> None:
        """Take up that a message of this run was given up: its cell would never end, so the run ends as failed."""
        if not self.ended.is_set():
            await self.end(pb.RUN_STATE_FAILED, failure)

    async def end(self, state: "pb.RunState.ValueType", failure: common_pb2.Failure | None = None) -> None:
        """End the run in a state: record it, then stop asking. The first end counts.

        Where the state cannot be recorded (a full disk is a reason to end), the run in memory carries it all the same,
        and `unrecorded` says what is still to be recorded.

        Raises:
            DependencyUnavailableError: the store cannot be reached; the run goes on, and is ended by the next try.

        """
        async with self._ending:
            if self.ended.is_set():
                return
            try:
                self.run = await self._ports.runs.finish(self.run.run_id, state, failure)
            except Exception as error:
                cause = to_failure(error)
                if cause.retryable:
                    raise
                self._log.error("run state not recorded", run_id=self.run.run_id, reason=cause.reason)
                self.unrecorded = End(state, failure)
                self.run.state = pb.RUN_STATE_FAILED
                self.run.failure.CopyFrom(failure or cause)
            self.close()
        self._log.info("run ended", run_id=self.run.run_id, state=pb.RunState.Name(self.run.state))
        self._show()
        self._ports.on_ended(self)

    def close(self) -> None:
        """Ask no more and take up no more events, whatever is recorded of the run."""
        self.ended.set()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def wait_change(self, timeout_s: float) -> None:
        """Return at the next change, or after `timeout_s` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    async def stop(self) -> None:
        """Stop asking; the run stays as it is recorded."""
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _changed(verdict: scoring_pb2.Verdict, manifest: pb.Manifest) -> common_pb2.Failure | None:
    """Failure of a cell whose model, agent or judge is not the one of the run any more; None for any other verdict."""
    found = verdict.failure
    reason = ModelChangedError.reason
    if found.reason == reason:
        return found
    if any(reason in reading.judge.failure for reading in (verdict.greedy, *verdict.samples)):
        return common_pb2.Failure(code=found.code, reason=reason, message=found.message, retryable=found.retryable)
    # An inference of an earlier version answers whatever is expected of it.
    made_with = next((model.revision for model in manifest.models if model.id == verdict.cell.model), "")
    if verdict.model_revision and made_with and verdict.model_revision != made_with:
        return to_failure(
            ModelChangedError(
                f"model {verdict.cell.model} answered at revision {verdict.model_revision}; "
                f"the run was made with {made_with}"
            )
        )
    return None
