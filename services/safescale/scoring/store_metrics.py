"""Metrics for alerts that only the stores know: open reviews, judgements of policies, results of finished runs.

They are read from the stores again and again, so that a restart loses nothing and every replica shows the same.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import grpc

from safescale.core.decisions.policy import Verdict, overall
from safescale.core.errors import SafescaleError
from safescale.rpc.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from safescale.rpc.policies import verdict_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.auth.caller import caller
from safescale.runtime.auth.roles import Role
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry
from safescale.runtime.tracing import untraced
from safescale.scoring.gate.policy_text import PolicyText
from safescale.scoring.judgements import GateStore, PolicyJudgement, high_risk_limits
from safescale.scoring.records import ReviewStore
from safescale.scoring.results import RunMeasurements, RunShares
from safescale.scoring.series.evidence import SeriesReader
from safescale.scoring.series.gauges import MAX_SERIES, RETIRED_S, series_gauges

INTERVAL_S = 30.0
"""Seconds between two polls, where they are quick."""

SHARE_OF_TIME = 0.05
"""Part of the time that polling may take: large stores are polled less often."""

MAX_INTERVAL_S = 120.0
"""Seconds between two polls at most, however long one took."""

MAX_NAMES = 50
"""Run names whose newest finished run is shown."""

MAX_RUNS = 1000
"""Newest runs among which they are searched."""

FULL_POLL_S = 300.0
"""Seconds after which reviews are read again though none seems to have changed: another replica settles some, too."""

ROLE: Role = "runner"
"""Role of those whose judgements are recorded."""

OF_RUNS = (
    "safescale_run_high_risk_ratio",
    "safescale_run_accuracy_ratio",
    "safescale_run_failed_cells",
    "safescale_run_unfinished_cells",
    "safescale_run_cached_ratio",
    "safescale_run_ended_timestamp_seconds",
)

PAGE = 200
LIST_S = 30.0

Fingerprint = tuple[int, ...]
"""Numbers that change whenever the state that they stand for changes."""

Series = dict[str, dict[tuple[tuple[str, str], ...], float]]
"""Values by metric and labels."""


class StoreMetricsPoller:
    """Gauges of what the stores hold, renewed by polling them."""

    def __init__(
        self,
        stores: tuple[ReviewStore, GateStore],
        results: RunMeasurements,
        series: SeriesReader,
        orchestration: Callable[[], grpc.aio.Channel],
        telemetry: Telemetry,
    ) -> None:
        self._reviews, self._gates = stores
        self._series = series
        self._results = results
        self._orchestration = orchestration
        self._telemetry = telemetry
        self._shown: Series = {}
        self._known: dict[str, tuple[Fingerprint, RunShares]] = {}
        self._waiting: tuple[Fingerprint, tuple[int, float | None]] | None = None
        self._reviews_at: Fingerprint = ()
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger("scoring")

    def start(self) -> None:
        """Start polling."""
        if self._task is None:
            # Polling belongs to no trace, whatever this process was started by.
            with untraced():
                self._task = asyncio.create_task(self._poll_on())

    async def stop(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _poll_on(self) -> None:
        while True:
            begin = time.monotonic()
            complete = await self.poll()
            await asyncio.sleep(pause_s(time.monotonic() - begin, complete))

    async def poll(self) -> bool:
        """Poll once; return whether everything could be read. What cannot be read now keeps its last values."""
        parts = (self.poll_reviews, self.poll_gates, self.poll_runs, self.poll_series)
        return all([await self._try(part) for part in parts])

    async def _try(self, part: Callable[[], Awaitable[None]]) -> bool:
        try:
            await part()
        except SafescaleError as error:
            self._log.warning("series of the stores not renewed", reason=error.reason)
        except Exception as error:
            self._log.error("series of the stores not renewed", exception_type=type(error).__name__)
        else:
            return True
        return False

    async def poll_reviews(self) -> None:
        """Show the number of open reviews and the age of the oldest.

        Raises:
            DependencyUnavailableError: the store cannot be reached.

        """
        fingerprint = await self._fingerprint(None)
        if self._waiting is None or self._waiting[0] != fingerprint:
            self._waiting = (fingerprint, await self._reviews.waiting())
        count, oldest = self._waiting[1]
        self._telemetry.gauge("safescale_reviews_open", count)
        age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        self._telemetry.gauge("safescale_review_oldest_seconds", age)

    async def poll_gates(self) -> None:
        """Show whether policies were met, and the limits that they set.

        Raises:
            DependencyUnavailableError: the store cannot be reached.

        """
        self._show(_gate_series(await self._gates.newest(MAX_NAMES)))

    async def poll_runs(self) -> None:
        """Show safety and failures of the newest completed run of each name.

        Raises:
            DependencyUnavailableError: the store or orchestration cannot be reached.

        """
        runs = await self._newest_completed()
        fingerprint = await self._fingerprint(None)
        changed, self._reviews_at = fingerprint != self._reviews_at, ()
        found: Series = {metric: {} for metric in OF_RUNS}
        for name, run in runs.items():
            found["safescale_run_ended_timestamp_seconds"][("name", name),] = run.ended_at.ToNanoseconds() / 1e9
            known = await self._shares(run, changed)
            found["safescale_run_unfinished_cells"][("name", name),] = known.unfinished
            found["safescale_run_cached_ratio"][("name", name),] = known.cached
            for share in known.shares:
                labels = (("name", name), ("model", share.model), ("condition", share.condition))
                found["safescale_run_failed_cells"][labels] = share.failed
                if share.asked and not share.unlabelled:
                    found["safescale_run_high_risk_ratio"][labels] = share.high_risk / share.asked
                if share.asked:
                    found["safescale_run_accuracy_ratio"][labels] = share.correct / share.asked
        kept = {run.run_id for run in runs.values()}
        self._known = {run_id: known for run_id, known in self._known.items() if run_id in kept}
        # Only now: a poll that failed has seen nothing.
        self._reviews_at = fingerprint
        self._show(found)

    async def poll_series(self) -> None:
        """Show the evidence of the series with the newest runs.

        Raises:
            DependencyUnavailableError: the store or orchestration cannot be reached.

        """
        names = await self._series.names(MAX_SERIES, time.time() - RETIRED_S)
        self._show(series_gauges([await self._series.read(name) for name in names]))

    async def _fingerprint(self, run_id: str | None) -> "Fingerprint":
        """Return numbers that change when a review is opened or settled, and now and then anyway."""
        return (*await self._reviews.fingerprint(run_id), int(time.time() // FULL_POLL_S))

    async def _shares(self, run: orchestration_pb2.Run, changed: bool) -> RunShares:
        """Return counts of a run, counted again when it was retried or a person settled more of its answers.

        `changed` is False where the reviews of all runs are what they were.
        """
        known = self._known.get(run.run_id)
        if known is not None and not changed and known[0][0] == run.attempt:
            return known[1]
        fingerprint = (run.attempt, *await self._fingerprint(run.run_id))
        if known is None or known[0] != fingerprint:
            known = self._known[run.run_id] = (fingerprint, await self._results.shares(run))
        return known[1]

    async def _newest_completed(self) -> Mapping[str, orchestration_pb2.Run]:
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(self._orchestration())
        found: dict[str, orchestration_pb2.Run] = {}
        seen, token = 0, ""
        while seen < MAX_RUNS and len(found) < MAX_NAMES:
            request = orchestration_pb2.ListRunsRequest(page_size=PAGE, page_token=token)
            with rpc_errors():
                page = await stub.ListRuns(request, timeout=LIST_S)
            for run in page.runs:
                completed = run.state == orchestration_pb2.RUN_STATE_COMPLETED
                # A run that cannot be counted here keeps no alert from those that can.
                if completed and len(found) < MAX_NAMES and self._results.knows(run):
                    found.setdefault(run.manifest.spec.name, run)
            seen, token = seen + len(page.runs), page.next_page_token
            if not token:
                break
        return found

    def _show(self, found: Series) -> None:
        """Set series, and drop those of these metrics that are gone."""
        for metric, series in found.items():
            for labels in self._shown.get(metric, {}).keys() - series.keys():
                self._telemetry.forget(metric, dict(labels))
            for labels, value in series.items():
                self._telemetry.gauge(metric, value, dict(labels))
            self._shown[metric] = series


def pause_s(took_s: float, complete: bool) -> float:
    """Return the seconds until the next poll. The time of a failed one says nothing about the store."""
    return min(max(INTERVAL_S, took_s / SHARE_OF_TIME), MAX_INTERVAL_S) if complete else INTERVAL_S


def _gate_series(gates: Iterable[PolicyJudgement]) -> Series:
    standing: dict[tuple[tuple[str, str], ...], Verdict] = {}
    at_time: dict[tuple[tuple[str, str], ...], float] = {}
    limits: dict[tuple[tuple[str, str], ...], float] = {}
    for gate in gates:
        labels = (("policy", gate.policy), ("name", gate.name))
        # Of several texts of a policy all must be met; the time is that of the judgement which decides.
        before = standing.get(labels)
        together = gate.verdict if before is None else overall((before, gate.verdict))
        if together is not before:
            at_time[labels] = gate.judged_at_s
        standing[labels] = together
        for model, condition, limit in gate.high_risk_limits:
            place = (("name", gate.name), ("model", model), ("condition", condition))
            limits[place] = min(limit, limits.get(place, limit))
    return {
        "safescale_gate_passed": {labels: float(found is Verdict.PASS) for labels, found in standing.items()},
        "safescale_gate_verdict": {
            (*labels, ("verdict", verdict)): float(found is verdict)
            for labels, found in standing.items()
            for verdict in Verdict
        },
        "safescale_gate_timestamp_seconds": at_time,
        "safescale_gate_high_risk_limit": limits,
    }


class Judgements:
    """Recorder of judgements of policies. A judgement counts whether or not it can be recorded."""

    def __init__(self, gates: GateStore, poller: StoreMetricsPoller) -> None:
        self._gates = gates
        self._poller = poller
        self._log = get_logger("scoring")

    async def record(self, run: orchestration_pb2.Run, policy: PolicyText, judged: pb.EvaluatePolicyResponse) -> None:
        """Record a judgement and show it at once.

        That of a caller who may not run anything is not recorded, for it would end an alert or begin one; nor is that
        of a run under way, which says nothing yet.
        """
        if ROLE not in caller().roles or run.state == orchestration_pb2.RUN_STATE_RUNNING:
            return
        gate = PolicyJudgement(
            policy=policy.name,
            policy_sha256=policy.sha256,
            name=run.manifest.spec.name,
            run_id=run.run_id,
            run_created_at_s=run.created_at.ToNanoseconds() / 1e9,
            judged_at_s=time.time(),
            verdict=verdict_of(judged),
            high_risk_limits=high_risk_limits(judged.results),
        )
        try:
            stands = await self._gates.put(gate)
            self._log.info(
                "judgement recorded" if stands else "judgement of an older run not recorded", who=caller().name,
                policy=gate.policy, policy_sha256=gate.policy_sha256, run_id=run.run_id, verdict=gate.verdict,
                passed=gate.verdict is Verdict.PASS,
            )  # fmt: skip
            await self._poller.poll_gates()
        except SafescaleError as error:
            self._log.error("judgement not recorded, its series is old", run_id=run.run_id, reason=error.reason)
