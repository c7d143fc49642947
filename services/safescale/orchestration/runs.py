"""The runs of this process: create, continue, watch, cancel, retry."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from safescale.core.benchmark import Benchmark
from safescale.core.cells import Cell
from safescale.core.errors import DependencyUnavailableError, FailedPreconditionError, SafescaleError
from safescale.orchestration.driver import DriverPorts, RunDriver
from safescale.orchestration.manifest import Surroundings, digest_of, resolve
from safescale.orchestration.peers import Peers
from safescale.orchestration.plan import make_plan, unfit
from safescale.orchestration.progress import RunProgress
from safescale.orchestration.store import BenchmarkStore, RunStore, new_run_id, now
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.bus.port import Bus, back_off_s
from safescale.runtime.errors import to_failure
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry

WATCH_INTERVAL_S = 0.2
"""Least seconds between two messages of a watch."""

WATCH_SILENCE_S = 2.0
"""Seconds after which a watch repeats itself though nothing changed, so that elapsed time moves."""


@dataclass(frozen=True)
class RunsPorts:
    """What the runs work with."""

    bus: Bus
    benchmarks: BenchmarkStore
    store: RunStore
    peers: Peers
    telemetry: Telemetry


class Runs:
    """Creates and drives runs; at most one driver for each."""

    def __init__(self, ports: RunsPorts) -> None:
        self._ports = ports
        self._drivers: dict[str, RunDriver] = {}
        self._lock = asyncio.Lock()
        self._log = get_logger("orchestration")

    async def _surroundings(self, spec: pb.RunSpec) -> Surroundings:
        benchmark = await self._ports.benchmarks.get(spec.benchmark_id)
        return Surroundings(benchmark, await self._ports.peers.models(), await self._ports.peers.corpora())

    async def plan(self, spec: pb.RunSpec) -> pb.CreateRunResponse:
        """Check a spec and tell what it will take; nothing is stored.

        Raises:
            SpecError: with every defect.

        """
        around = await self._surroundings(spec)
        manifest = resolve(spec, around)
        plan = await make_plan(manifest, around.benchmark, around.models, self._ports.peers.seconds_per_token)
        existing = await self._ports.store.latest_of_digest(digest_of(manifest))
        run = pb.Run(digest=digest_of(manifest), manifest=manifest)
        if existing is not None:
            run = existing.run
            plan.done_count = (await self._load_progress(run)).ended_count
        return pb.CreateRunResponse(run=run, resumed=existing is not None, plan=plan)

    async def create(self, spec: pb.RunSpec, *, force_new: bool) -> pb.CreateRunResponse:
        """Create a run, or continue the newest run of the same digest.

        Raises:
            SpecError: with every defect.

        """
        around = await self._surroundings(spec)
        manifest = resolve(spec, around)
        digest = digest_of(manifest)
        async with self._lock:
            existing = None if force_new else await self._ports.store.latest_of_digest(digest)
            if existing is not None:
                run = existing.run
                if run.state != pb.RUN_STATE_COMPLETED and run.run_id not in self._drivers:
                    run = await self._ports.store.finish(run.run_id, pb.RUN_STATE_RUNNING)
                    await self._drive(run, around.benchmark)
                return pb.CreateRunResponse(run=run, resumed=True)
            run = pb.Run(
                run_id=new_run_id(spec.name),
                digest=digest,
                state=pb.RUN_STATE_RUNNING,
                manifest=manifest,
                created_at=now(),
                skips=unfit(manifest),
                attempt=1,
            )
            await self._ports.store.create(run)
            await self._drive(run, around.benchmark)
        return pb.CreateRunResponse(run=run)

    async def resume_all(self) -> None:
        """Take up every run that is recorded as running, as after a restart; wait for peers that are away."""
        tries = 0
        while True:
            try:
                async with self._lock:
                    for stored in await self._ports.store.all():
                        run = stored.run
                        if run.state == pb.RUN_STATE_RUNNING and run.run_id not in self._drivers:
                            await self._resume(run)
                return
            except DependencyUnavailableError as error:
                tries += 1
                self._log.warning("waiting for a dependency", reason=error.reason)
                await asyncio.sleep(back_off_s(tries))

    async def _resume(self, run: pb.Run) -> None:
        try:
            benchmark = await self._ports.benchmarks.get(run.manifest.spec.benchmark_id)
            await self._check_models(run)
        except DependencyUnavailableError:
            raise
        except SafescaleError as error:
            # One run that cannot go on must not keep the others from it; it can be taken up when the cause is gone.
            self._log.error("run not taken up", run_id=run.run_id, reason=error.reason)
            await self._ports.store.finish(run.run_id, pb.RUN_STATE_FAILED, to_failure(error))
            return
        await self._drive(run, benchmark)

    async def _check_models(self, run: pb.Run) -> None:
        catalog = await self._ports.peers.models()
        for model in run.manifest.models:
            row = catalog.get(model.id)
            # A model server that is away may come back; a model of this process that is not installed does not.
            if row is not None and not row.available and row.backend != "embedded":
                continue
            if row is None or not row.available:
                why = "is not in the catalog" if row is None else row.unavailable_reason
                raise FailedPreconditionError(f"model {model.id} cannot be asked: {why}")
            if row.revision != model.revision:
                raise FailedPreconditionError(
                    f"model {model.id} has revision {row.revision}; the run was made with {model.revision}"
                )

    async def _drive(self, run: pb.Run, benchmark: Benchmark, *, retry: bool = False) -> RunDriver:
        ports = DriverPorts(self._ports.bus, self._ports.store, self._ports.peers.put_context, self._ports.telemetry)
        driver = RunDriver(run, benchmark, ports)
        await self._take_up(driver.progress, run, without_failed=retry)
        self._drivers[run.run_id] = driver
        self._observe()
        driver.start()
        self._log.info("run taken up", run_id=run.run_id, count=driver.progress.ended_count, attempt=run.attempt)
        return driver

    async def _take_up(self, progress: RunProgress, run: pb.Run, *, without_failed: bool = False) -> None:
        async for verdict in self._ports.peers.verdict_keys(run.run_id):
            failed = verdict.HasField("failure")
            if failed and (without_failed or verdict.attempt < run.attempt):
                continue
            key = verdict.cell
            progress.known_before(Cell(key.run_id, key.model, key.condition, key.question_id), failed)
        for skip in run.skips:
            progress.skip(skip)

    async def _load_progress(self, run: pb.Run) -> RunProgress:
        progress = RunProgress(run)
        await self._take_up(progress, run)
        return progress

    async def progress(self, run: pb.Run) -> pb.Progress:
        """Progress of any run; of one that is not driven here, as its verdicts tell."""
        driver = self._drivers.get(run.run_id)
        if driver is not None:
            return driver.message()
        message = (await self._load_progress(run)).message(0)
        message.elapsed_s = 0.0
        return message

    async def watch(self, run: pb.Run) -> AsyncIterator[pb.WatchRunResponse]:
        """Progress now and at each change until the run ends."""
        driver = self._drivers.get(run.run_id)
        if driver is None:
            yield _watch_response(run, await self.progress(run))
            return
        while not driver.ended.is_set():
            yield _watch_response(driver.run, driver.message())
            await asyncio.sleep(WATCH_INTERVAL_S)
            if not driver.ended.is_set():
                await driver.wait_change(WATCH_SILENCE_S)
        await driver.recorded.wait()
        yield _watch_response(driver.run, driver.message())

    async def cancel(self, run: pb.Run) -> pb.Run:
        """Stop a run.

        Raises:
            FailedPreconditionError: it ended already.

        """
        driver = self._drivers.get(run.run_id)
        if run.state != pb.RUN_STATE_RUNNING:
            state = pb.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
            raise FailedPreconditionError(f"run {run.run_id} is not running: it is {state}")
        if driver is None:
            return await self._ports.store.finish(run.run_id, pb.RUN_STATE_CANCELLED)
        await driver.stop()
        await driver.end(pb.RUN_STATE_CANCELLED)
        self._drop(driver)
        return driver.run

    async def retry_failed(self, run: pb.Run) -> pb.RetryFailedResponse:
        """Ask the failed cells of a run again.

        Raises:
            FailedPreconditionError: the run is still running.

        """
        async with self._lock:
            driver = self._drivers.get(run.run_id)
            if driver is not None and not driver.ended.is_set():
                raise FailedPreconditionError(f"run {run.run_id} is still running; retry when it has ended")
            failed = (await self._load_progress(run)).failed
            if not failed:
                return pb.RetryFailedResponse(run=run, retried_count=0)
            benchmark = await self._ports.benchmarks.get(run.manifest.spec.benchmark_id)
            run = await self._ports.store.next_attempt(run.run_id)
            await self._drive(run, benchmark, retry=True)
        return pb.RetryFailedResponse(run=run, retried_count=len(failed))

    async def on_verdict(self, verdict: scoring_pb2.Verdict) -> None:
        """Hand a verdict to its run."""
        driver = self._drivers.get(verdict.cell.run_id)
        if driver is not None:
            await driver.on_verdict(verdict)
            self._drop_if_ended(driver)

    def driver(self, run_id: str) -> RunDriver | None:
        """Driver of a run; None when this process does not drive it."""
        return self._drivers.get(run_id)

    async def on_dead_letter(self, run_id: str, failure: common_pb2.Failure) -> None:
        """End the run whose message was given up."""
        driver = self._drivers.get(run_id)
        if driver is not None:
            await driver.on_dead_letter(failure)
            self._drop_if_ended(driver)

    def _drop_if_ended(self, driver: RunDriver) -> None:
        if driver.ended.is_set():
            self._drop(driver)

    def _drop(self, driver: RunDriver) -> None:
        self._drivers.pop(driver.run.run_id, None)
        self._observe()

    def _observe(self) -> None:
        self._ports.telemetry.gauge("safescale_runs_active", len(self._drivers))

    async def stop(self) -> None:
        """Stop all drivers; their runs stay recorded as running."""
        for driver in list(self._drivers.values()):
            await driver.stop()
        self._drivers.clear()


def _watch_response(run: pb.Run, progress: pb.Progress) -> pb.WatchRunResponse:
    failure = run.failure if run.HasField("failure") else None
    return pb.WatchRunResponse(state=run.state, progress=progress, failure=failure)
