"""Drives one run: requests its units and follows their outcomes to the end.

A driver keeps no state that a restart could lose: finished units are read from the recorded outcomes, and what units
need is read from the stores again.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message as Payload

from safescale.core.errors import SafescaleError
from safescale.orchestration.kinds.port import PreparationKey, RunKind, Unit
from safescale.orchestration.progress import STATES, RunProgress
from safescale.orchestration.store import RunStore, stamp_after
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus.port import Bus, Message, back_off_s
from safescale.runtime.errors import to_failure
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry
from safescale.runtime.tracing import untraced

T = TypeVar("T")

SHOWN_EVERY_S = 0.2
"""Minimum seconds between two updates of gauges and watchers: outcomes can arrive by the hundred."""

PUBLISH_BATCH = 2000
"""Messages published together while a run is planned; the next batch is built meanwhile."""

BREATH = 200
"""Units after which planning yields to other tasks."""


def _ignore(driver: "RunDriver") -> None:
    """Do nothing at the end of a run."""


@dataclass(frozen=True)
class DriverPorts:
    """Dependencies of a driver. `on_ended` is called whenever a run ends.

    `messages_kept_s` is how many seconds the bus keeps a message that nobody takes; None means forever.
    """

    bus: Bus
    runs: RunStore
    telemetry: Telemetry
    on_ended: Callable[["RunDriver"], None] = _ignore
    messages_kept_s: float | None = None


@dataclass(frozen=True)
class End:
    """How a run ended."""

    state: "pb.RunState.ValueType"
    failure: common_pb2.Failure | None = None


class RunDriver:
    """One run while it is driven by this process."""

    def __init__(self, run: pb.Run, kind: RunKind[Any], environment: Any, ports: DriverPorts) -> None:
        self.run = run
        self.progress = RunProgress(kind.groups(run.manifest))
        self._ports = ports
        self._kind = kind
        self._environment = environment
        self._work = kind.work(run, environment)
        self._awaited: set[PreparationKey] = set()
        self._requested: set[PreparationKey] = set()
        self._changed = asyncio.Event()
        self._shown_at = -math.inf
        self._showing: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._log = get_logger("orchestration")
        self._ending = asyncio.Lock()
        self.ended = asyncio.Event()
        self.unrecorded: End | None = None

    def start(self) -> None:
        """Start requesting units; known outcomes and skips must have been loaded before."""
        # A retry has recorded another attempt since the driver was created.
        self._work = self._kind.work(self.run, self._environment)
        # Each unit is a trace of its own, not a part of the call that started its run.
        with untraced():
            self._spawn(self._drive())

    def _spawn(self, work: Awaitable[None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _drive(self) -> None:
        """Request every open unit, and again once the bus may have dropped messages that nobody took.

        A second request is harmless: the stored outcome of a unit is announced again.
        """
        try:
            await self._request_all()
            while self._ports.messages_kept_s is not None and not self.ended.is_set():
                await asyncio.sleep(self._ports.messages_kept_s)
                self._log.warning("messages may have expired, open cells are asked again", run_id=self.run.run_id)
                self._requested.clear()
                await self._request_all()
        except Exception as error:
            failure = to_failure(error)
            name = type(error).__name__
            self._log.error("run cannot go on", run_id=self.run.run_id, reason=failure.reason, exception_type=name)
            await self._patiently(lambda: self.end(pb.RUN_STATE_FAILED, failure))

    async def _request_all(self) -> None:
        await self._patiently(self._settle)
        batch: list[Message] = []
        publishing = self._spawn(self._publish([]))
        for number, unit in enumerate(self.progress.units()):
            if self.ended.is_set():
                return
            if self.progress.is_open(unit):
                batch.extend(await self._messages_for(unit))
            if len(batch) >= PUBLISH_BATCH:
                await publishing
                publishing = self._spawn(self._publish(batch))
                batch = []
            if number % BREATH == 0:
                await asyncio.sleep(0)
        await publishing
        await self._publish(batch)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work`, retrying while a dependency is unavailable: nothing else would retry it."""
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

    async def _messages_for(self, unit: Unit) -> list[Message]:
        """Return the messages that request a unit, or one that records why it cannot be requested."""
        try:
            return await self._patiently(lambda: self._request(unit))
        except Exception as error:
            return [self._work.failed(unit, to_failure(error))]

    async def _request(self, unit: Unit) -> list[Message]:
        key = self._work.preparation(unit)
        if key is None:
            return await self._work.request(unit)
        if key in self._requested:
            return []
        messages = await self._work.request(unit)
        # Only after they are built: a preparation that is too large fails each unit that waits for it.
        self._requested.add(key)
        self._awaited.add(key)
        return messages

    async def on_event(self, event: Payload) -> None:
        """Handle an event of this run: count outcomes, record skips, request the units that waited for it."""
        if self.ended.is_set():
            return
        reaction = self._work.take_up(event, self.progress.is_open)
        if reaction is None or (reaction.preparation is not None and reaction.preparation not in self._awaited):
            return
        if reaction.skips:
            self.run = await self._ports.runs.add_skips(self.run.run_id, reaction.skips)
            for skip in reaction.skips:
                self.progress.skip(skip)
        if reaction.messages:
            await self._ports.bus.publish_many(reaction.messages)
        if reaction.preparation is not None:
            self._awaited.discard(reaction.preparation)
        for outcome in reaction.outcomes:
            self.progress.end(outcome)
            if outcome.stops_run is not None:
                await self.end(pb.RUN_STATE_FAILED, outcome.stops_run)
                return
        await self._settle()

    async def _settle(self) -> None:
        if self.progress.complete and not self.ended.is_set():
            await self.end(pb.RUN_STATE_COMPLETED)
        elif self._showing is None:
            loop = asyncio.get_running_loop()
            # The first change is shown at once, later ones together after a short delay.
            wait = self._shown_at + SHOWN_EVERY_S - loop.time()
            if wait <= 0:
                self._show()
            else:
                self._showing = loop.call_later(wait, self._show)

    def _show(self) -> None:
        """Set the gauges and wake the watchers."""
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
        """Return the current progress."""
        return self.progress.message(len(self._awaited))

    async def on_dead_letter(self, failure: common_pb2.Failure) -> None:
        """End the run as failed: the unit of a dead-lettered message would never end."""
        if not self.ended.is_set():
            await self.end(pb.RUN_STATE_FAILED, failure)

    async def end(self, state: "pb.RunState.ValueType", failure: common_pb2.Failure | None = None) -> None:
        """End the run in a state: record it, then stop requesting units. Only the first end counts.

        If the state cannot be recorded (a full disk is itself a reason to end), the run in memory has it all the same,
        and `unrecorded` holds what is still to be recorded.

        Raises:
            DependencyUnavailableError: the store cannot be reached; the run continues until the next attempt to end it.

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
                self.run.ended_at.CopyFrom(stamp_after(self.run.resumed_from))
            self.close()
        self._log.info("run ended", run_id=self.run.run_id, state=pb.RunState.Name(self.run.state))
        self._show()
        self._ports.on_ended(self)

    def close(self) -> None:
        """Stop requesting units and handling events, regardless of the recorded state."""
        self.ended.set()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def wait_change(self, timeout_s: float) -> None:
        """Return at the next change, or after `timeout_s` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    async def stop(self) -> None:
        """Stop the driver; the recorded state of the run does not change."""
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
