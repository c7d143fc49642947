"""The runs of this process: create, continue, watch, cancel, retry, and recover those without a driver."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from google.protobuf.message import Message as Payload

from safescale.core.errors import FailedPreconditionError, StorageError
from safescale.orchestration.driver import DriverPorts, End, RunDriver
from safescale.orchestration.identity import continues, digest_of
from safescale.orchestration.kinds.port import Kinds, RunKind, UnitOutcome, kind_for, kind_of
from safescale.orchestration.progress import RunProgress
from safescale.orchestration.run_ends import RunEndAnnouncer
from safescale.orchestration.store import RunStore, new_run_id, now
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus.port import Bus, back_off_s
from safescale.runtime.errors import as_safescale_error, to_failure
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry

WATCH_INTERVAL_S = 0.2
"""Minimum seconds between two messages of a watch."""

WATCH_SILENCE_S = 2.0
"""Seconds after which a watch sends the progress although nothing changed, so that elapsed time advances."""

LOOK_EVERY_S = 30.0
"""Seconds between two checks for runs that are recorded as running but have no driver."""

T = TypeVar("T")


@dataclass(frozen=True)
class RunsPorts:
    """Dependencies of the runs.

    `messages_kept_s` is how many seconds the bus keeps messages, None means forever; `back_off_s` gives the seconds to
    wait after a number of consecutive failures.
    """

    bus: Bus
    kinds: Kinds
    store: RunStore
    telemetry: Telemetry
    messages_kept_s: float | None = None
    look_every_s: float = LOOK_EVERY_S
    back_off_s: Callable[[int], float] = back_off_s


class Runs:
    """Creates and drives runs, with at most one driver per run.

    The recorded state of a run changes, and its driver is created or closed, under a lock of that run. Whatever fails
    in between, the store has the run either as ended or as running, and the next check then gives it a driver.
    """

    def __init__(self, ports: RunsPorts) -> None:
        self._ports = ports
        self._drivers: dict[str, RunDriver] = {}
        self._unrecorded: dict[str, End] = {}
        self._creating = asyncio.Lock()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._works: set[asyncio.Task[Any]] = set()
        self._returning: dict[str, asyncio.Task[None]] = {}
        self._ends = RunEndAnnouncer(ports.bus, ports.store, ports.messages_kept_s)
        self._log = get_logger("orchestration")

    def _lock(self, run_id: str) -> asyncio.Lock:
        return self._locks.setdefault(run_id, asyncio.Lock())

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to completion even if the caller is cancelled."""
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._works.discard(task)
        if not task.cancelled():
            task.exception()

    async def plan(self, spec: pb.RunSpec) -> pb.CreateRunResponse:
        """Check a spec and estimate what its run will take, without storing anything.

        Raises:
            SpecError: with every defect.

        """
        kind = kind_for(self._ports.kinds, spec)
        environment = await kind.environment(spec)
        manifest = kind.resolve(spec, environment)
        plan = await kind.plan(manifest, environment)
        digest = digest_of(manifest)
        existing = await self._ports.store.newest(lambda run: continues(run, manifest, digest))
        run = pb.Run(digest=digest, manifest=manifest)
        if existing is not None:
            run = existing.run
            plan.done_count = (await self._load_progress(run)).ended_count
        return pb.CreateRunResponse(run=run, resumed=existing is not None, plan=plan)

    async def create(self, spec: pb.RunSpec, *, force_new: bool) -> pb.CreateRunResponse:
        """Create a run, or continue the newest run of an equivalent manifest.

        Raises:
            SpecError: with every defect.

        """
        kind = kind_for(self._ports.kinds, spec)
        environment = await kind.environment(spec)
        manifest = kind.resolve(spec, environment)
        return await self._whole(self._create(manifest, environment, force_new=force_new))

    async def _create(self, manifest: pb.Manifest, environment: Any, *, force_new: bool) -> pb.CreateRunResponse:
        digest = digest_of(manifest)
        async with self._creating:
            existing = None
            if not force_new:
                existing = await self._ports.store.newest(lambda run: continues(run, manifest, digest))
            if existing is None:
                run = pb.Run(
                    run_id=new_run_id(manifest.spec.name),
                    digest=digest,
                    state=pb.RUN_STATE_RUNNING,
                    manifest=manifest,
                    created_at=now(),
                    skips=self._kind(manifest).skips(manifest),
                    attempt=1,
                )
                await self._ports.store.create(run)
                driver = self._driver(run, environment)
                driver.progress.take_up(run, ())
                self._drive(driver)
                return pb.CreateRunResponse(run=run)
        return pb.CreateRunResponse(run=await self._continue(existing.run.run_id, environment), resumed=True)

    async def _continue(self, run_id: str, environment: Any) -> pb.Run:
        async with self._lock(run_id):
            run = (await self._ports.store.get(run_id)).run
            if self._live(run) is not None or run.state == pb.RUN_STATE_COMPLETED:
                return run
            driver = self._driver(run, environment)
            driver.progress.take_up(run, await self._outcomes(run))
            if run.state != pb.RUN_STATE_RUNNING:
                driver.run = await self._ports.store.finish(run_id, pb.RUN_STATE_RUNNING)
            self._drive(driver)
            return driver.run

    def _live(self, run: pb.Run) -> RunDriver | None:
        """Return the driver of a run that is recorded as running; close that of a run which no longer is."""
        driver = self._drivers.get(run.run_id)
        if driver is not None and run.state != pb.RUN_STATE_RUNNING:
            self._log.warning("run ended elsewhere", run_id=run.run_id, state=pb.RunState.Name(run.state))
            driver.close()
            driver.run = run
            self._drop(driver)
            return None
        return driver

    async def look_after(self) -> None:
        """Check for runs without a driver, now and every `look_every_s` seconds, forever."""
        tries = 0
        while True:
            try:
                await self.look()
                tries = 0
            except Exception as error:
                tries += 1
                self._log.warning("runs could not be listed", reason=as_safescale_error(error).reason)
            wait_s = self._ports.look_every_s
            await asyncio.sleep(min(wait_s, self._ports.back_off_s(tries)) if tries else wait_s)

    async def look(self) -> list[asyncio.Task[None]]:
        """Start recovering every run that is recorded as running but has no driver; return the task of each."""
        running = set(await self._ports.store.running())
        await self._ends.look()
        for run_id in set(self._drivers) - running:
            async with self._lock(run_id):
                self._live((await self._ports.store.get(run_id)).run)
        for run_id in running - set(self._drivers) - set(self._returning):
            self._returning[run_id] = asyncio.create_task(self._bring_back(run_id))
        return list(self._returning.values())

    async def resume_all(self) -> None:
        """Recover every run without a driver and wait for all; a failure of one does not delay the others."""
        await asyncio.gather(*await self.look())

    async def _bring_back(self, run_id: str) -> None:
        """Resume a run, retrying while a peer is unavailable. After any other error the next check tries again."""
        tries = 0
        retryable = True
        try:
            while retryable:
                try:
                    async with self._lock(run_id):
                        await self._resume(run_id)
                    retryable = False
                except Exception as error:
                    known = as_safescale_error(error)
                    self._log.warning("run not taken up yet", run_id=run_id, reason=known.reason)
                    retryable = known.retryable
                    tries += 1
                    if retryable:
                        await asyncio.sleep(self._ports.back_off_s(tries))
        finally:
            del self._returning[run_id]

    async def _resume(self, run_id: str) -> None:
        run = (await self._ports.store.get(run_id)).run
        if run.state != pb.RUN_STATE_RUNNING or run_id in self._drivers:
            return
        end = self._unrecorded.get(run_id)
        if end is not None:
            self._ends.add(await self._ports.store.finish(run_id, end.state, end.failure))
            self._unrecorded.pop(run_id, None)
            return
        try:
            environment = await self._unchanged(run)
            driver = self._driver(run, environment)
            driver.progress.take_up(run, await self._outcomes(run))
        except Exception as error:
            known = as_safescale_error(error)
            if known.retryable:
                raise
            # It can be continued once the cause is removed.
            self._log.error("run cannot go on", run_id=run_id, reason=known.reason, exception_type=type(error).__name__)
            self._ends.add(await self._ports.store.finish(run_id, pb.RUN_STATE_FAILED, to_failure(known)))
            return
        self._drive(driver)

    def _kind(self, manifest: pb.Manifest) -> RunKind[Any]:
        return kind_of(self._ports.kinds, manifest)

    async def _unchanged(self, run: pb.Run) -> Any:
        """Return the current environment of a run, in which the same run would be created.

        Raises:
            FailedPreconditionError: another one would be.

        """
        kind = self._kind(run.manifest)
        environment = await kind.environment(run.manifest.spec)
        kind.check_unchanged(run, environment)
        return environment

    def _driver(self, run: pb.Run, environment: Any) -> RunDriver:
        ports = DriverPorts(
            self._ports.bus, self._ports.store, self._ports.telemetry, self._drop, self._ports.messages_kept_s
        )
        return RunDriver(run, self._kind(run.manifest), environment, ports)

    def _drive(self, driver: RunDriver) -> None:
        run = driver.run
        self._unrecorded.pop(run.run_id, None)
        self._drivers[run.run_id] = driver
        self._observe()
        driver.start()
        self._log.info("run taken up", run_id=run.run_id, count=driver.progress.ended_count, attempt=run.attempt)

    def _drop(self, driver: RunDriver) -> None:
        run_id = driver.run.run_id
        if self._drivers.get(run_id) is driver:
            del self._drivers[run_id]
        if driver.unrecorded is not None:
            self._unrecorded[run_id] = driver.unrecorded
        self._ends.add(driver.run)
        self._observe()

    def _observe(self) -> None:
        self._ports.telemetry.gauge("safescale_runs_active", len(self._drivers))

    async def _outcomes(self, run: pb.Run) -> list[UnitOutcome]:
        return [outcome async for outcome in self._kind(run.manifest).outcomes(run.run_id)]

    async def _load_progress(self, run: pb.Run) -> RunProgress:
        progress = RunProgress(self._kind(run.manifest).groups(run.manifest))
        progress.take_up(run, await self._outcomes(run))
        return progress

    async def progress(self, run: pb.Run) -> pb.Progress:
        """Return the progress of any run; without a driver here, from its recorded outcomes."""
        driver = self._drivers.get(run.run_id)
        if driver is not None:
            return driver.message()
        message = (await self._load_progress(run)).message(0)
        message.elapsed_s = 0.0
        return message

    async def watch(self, run: pb.Run) -> AsyncIterator[pb.WatchRunResponse]:
        """Yield the current progress and each change of it until the run ends."""
        driver = self._drivers.get(run.run_id)
        if driver is None:
            yield _watch_response(run, await self.progress(run))
            return
        while not driver.ended.is_set():
            yield _watch_response(driver.run, driver.message())
            await asyncio.sleep(WATCH_INTERVAL_S)
            if not driver.ended.is_set():
                await driver.wait_change(WATCH_SILENCE_S)
        yield _watch_response(driver.run, driver.message())

    async def cancel(self, run: pb.Run) -> pb.Run:
        """Stop a run.

        Raises:
            FailedPreconditionError: it has already ended.
            StorageError: it stopped, but its state cannot be recorded yet.

        """
        return await self._whole(self._cancel(run.run_id))

    async def _cancel(self, run_id: str) -> pb.Run:
        async with self._lock(run_id):
            run = (await self._ports.store.get(run_id)).run
            driver = self._live(run)
            if driver is None and run.state == pb.RUN_STATE_RUNNING:
                run = await self._ports.store.finish(run_id, pb.RUN_STATE_CANCELLED)
                self._ends.add(run)
                self._unrecorded.pop(run_id, None)
                return run
            if driver is not None:
                await driver.end(pb.RUN_STATE_CANCELLED)
                if driver.unrecorded is not None:
                    raise StorageError(f"run {run_id} has stopped, but its state could not be recorded")
                run = driver.run
                if run.state == pb.RUN_STATE_CANCELLED:
                    return run
        state = pb.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        raise FailedPreconditionError(f"run {run_id} is not running: it is {state}")

    async def retry_failed(self, run: pb.Run, attempt: int = 0) -> pb.RetryFailedResponse:
        """Request the failed units of a run again; with `attempt`, only if the run is at that attempt.

        Raises:
            FailedPreconditionError: the run is still running, is at another attempt, or has changed since it was made:
                another revision of a model, another judge; each difference is named.

        """
        return await self._whole(self._retry(run.run_id, attempt))

    async def _retry(self, run_id: str, attempt: int) -> pb.RetryFailedResponse:
        async with self._lock(run_id):
            run = (await self._ports.store.get(run_id)).run
            if attempt and attempt != run.attempt:
                raise FailedPreconditionError(f"run {run_id} is at attempt {run.attempt}, not {attempt}")
            if self._live(run) is not None:
                raise FailedPreconditionError(f"run {run_id} is still running; retry when it has ended")
            outcomes = await self._outcomes(run)
            progress = RunProgress(self._kind(run.manifest).groups(run.manifest))
            progress.take_up(run, outcomes)
            failed = progress.failed
            if not failed:
                return pb.RetryFailedResponse(run=run, retried_count=0)
            environment = await self._unchanged(run)
            driver = self._driver(run, environment)
            driver.progress.take_up(run, outcomes, without_failed=True)
            driver.run = await self._ports.store.next_attempt(run_id)
            self._drive(driver)
        return pb.RetryFailedResponse(run=driver.run, retried_count=len(failed))

    async def on_event(self, run_id: str, event: Payload) -> None:
        """Pass an event to its run if this process drives it."""
        driver = self._drivers.get(run_id)
        if driver is not None:
            await driver.on_event(event)

    def driver(self, run_id: str) -> RunDriver | None:
        """Return the driver of a run, or None if this process does not drive it."""
        return self._drivers.get(run_id)

    async def on_dead_letter(self, run_id: str, failure: common_pb2.Failure, attempt: str = "") -> None:
        """End the run of a dead-lettered message, unless it belongs to another attempt, which nobody awaits."""
        driver = self._drivers.get(run_id)
        if driver is not None and attempt in ("", str(driver.run.attempt)):
            await driver.on_dead_letter(failure)

    async def stop(self) -> None:
        """Stop all drivers; their runs stay recorded as running."""
        works = [*self._works, *self._returning.values()]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        for driver in list(self._drivers.values()):
            await driver.stop()
        self._drivers.clear()
        await self._ends.stop()
        self._observe()


def _watch_response(run: pb.Run, progress: pb.Progress) -> pb.WatchRunResponse:
    failure = run.failure if run.HasField("failure") else None
    return pb.WatchRunResponse(state=run.state, progress=progress, failure=failure)
