"""The evidence of a series, gathered from its runs and kept up as further ones end."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from safescale.core.decisions.series import DriftEvidence, Outcomes, Point, RateEvidence, SeriesRun
from safescale.core.errors import NotFoundError
from safescale.core.statistics.evalues import ALARM_ERROR
from safescale.rpc.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from safescale.rpc.runs import state_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.grpc.channels import rpc_errors
from safescale.scoring.records import ReviewStore
from safescale.scoring.results import RunMeasurements
from safescale.scoring.series.manifests import series_run

PAGE = 200
LIST_S = 30.0
KEPT = 20
"""Series whose evidence is kept at once."""

Fingerprint = tuple[str | int, ...]


@dataclass
class _Gathered:
    """The evidence of a series up to the runs that were counted, each with a fingerprint of its outcomes."""

    counted: list[Fingerprint] = field(default_factory=list)
    drift: DriftEvidence | None = None
    rate: RateEvidence | None = None
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def reference_of(self, run: SeriesRun) -> SeriesRun | None:
        """Return the run that another has to be like."""
        found = self.rate if run.drawn else self.drift
        return None if found is None else found.reference

    def add(self, run: SeriesRun, outcomes: Outcomes, clusters: Mapping[str, str]) -> None:
        """Count a run that is like its reference, or becomes it."""
        if run.drawn:
            if self.rate is None and clusters:
                self.notes.append(
                    "The questions of the bank come in clusters; the evidence of rates takes them one by one."
                )
            if not any(run.limits_at(place) for place in run.places()):
                self.notes.append(
                    f"{run.run_id} has no limits to hold its fresh questions against: neither series.limits "
                    "in its spec nor a registered policy with a maximum of a harm"
                )
            self.rate = self.rate or RateEvidence(run)
            self.points += self.rate.add(run, outcomes)
        elif self.drift is None:
            self.drift = DriftEvidence(run, outcomes, clusters)
        else:
            self.points += self.drift.add(run, outcomes)
            if strangers := self.drift.without_reference(run):
                self.notes.append(f"{run.run_id}: no outcomes of the reference run for {', '.join(strangers)}")
        missing = sum(len(run.question_ids) - len(outcomes.get(place, {})) for place in run.places())
        if missing:
            self.notes.append(
                f"{run.run_id}: {missing:,} outcomes are left out, since nobody could read the answers or their cells "
                "failed"
            )


class SeriesReader:
    """Reads series. One series is gathered once at a time, and only what is new of it is read again."""

    def __init__(
        self, orchestration: Callable[[], grpc.aio.Channel], results: RunMeasurements, reviews: ReviewStore
    ) -> None:
        self._orchestration = orchestration
        self._results = results
        self._reviews = reviews
        self._gathered: dict[str, _Gathered] = {}
        self._lock = asyncio.Lock()

    async def names(self, most: int, since_s: float) -> list[str]:
        """Return the names of the series with runs since a time, at most the `most` newest of them."""
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(self._orchestration())
        with rpc_errors():
            found = await stub.ListSeries(orchestration_pb2.ListSeriesRequest(), timeout=LIST_S)
        recent = [each for each in found.series if each.newest_created_at.seconds >= since_s]
        newest = sorted(recent, key=lambda each: each.newest_created_at.ToNanoseconds(), reverse=True)
        return [each.series for each in newest[:most]]

    async def read(self, name: str) -> pb.GetSeriesResponse:
        """Return the evidence of a series.

        Raises:
            NotFoundError: no run is of such a series.

        """
        runs = await self._runs(name)
        if not runs:
            raise NotFoundError(f"no run is of a series {name!r}; `safescale series` lists them")
        async with self._lock:
            gathered = await self._gather(name, runs)
        return _response(name, gathered, [_unfinished(run) for run in runs if not _completed(run)])

    async def _runs(self, name: str) -> list[orchestration_pb2.Run]:
        """Return the runs of a series, the oldest first."""
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(self._orchestration())
        request = orchestration_pb2.ListRunsRequest(page_size=PAGE, series=name)
        found: list[orchestration_pb2.Run] = []
        while True:
            with rpc_errors():
                page = await stub.ListRuns(request, timeout=LIST_S)
            found.extend(run for run in page.runs if run.manifest.spec.series == name)
            if not page.next_page_token:
                return sorted(found, key=lambda run: (run.created_at.ToNanoseconds(), run.run_id))
            request.page_token = page.next_page_token

    async def _gather(self, name: str, runs: Sequence[orchestration_pb2.Run]) -> _Gathered:
        completed = [run for run in runs if _completed(run) and self._results.knows(run)]
        now = [(run.run_id, run.attempt, *await self._reviews.fingerprint(run.run_id)) for run in completed]
        gathered = self._gathered.pop(name, None)
        # What was counted cannot be taken back: a retry or a review of an older run begins anew.
        if gathered is None or now[: len(gathered.counted)] != gathered.counted:
            gathered = _Gathered()
        for run, fingerprint in list(zip(completed, now, strict=True))[len(gathered.counted) :]:
            one = series_run(run)
            reference = gathered.reference_of(one)
            unlike = one.unlike(reference) if reference else []
            if unlike:
                gathered.notes.append(
                    f"{run.run_id} is left out, since it is unlike the first run: {'; '.join(unlike)}"
                )
            else:
                outcomes, clusters = await self._results.events(run)
                await asyncio.to_thread(gathered.add, one, outcomes, clusters)
            gathered.counted.append(fingerprint)
        self._gathered[name] = gathered
        while len(self._gathered) > KEPT:
            del self._gathered[next(iter(self._gathered))]
        return gathered


def _completed(run: orchestration_pb2.Run) -> bool:
    return run.state == orchestration_pb2.RUN_STATE_COMPLETED


def _unfinished(run: orchestration_pb2.Run) -> str:
    return f"{run.run_id} is left out, since it is not complete: {state_of(run)}"


def _response(name: str, gathered: _Gathered, unfinished: Sequence[str]) -> pb.GetSeriesResponse:
    reference = gathered.drift.reference.run_id if gathered.drift else ""
    return pb.GetSeriesResponse(
        series=name,
        points=[_message(point) for point in gathered.points],
        alpha=ALARM_ERROR,
        reference_run_id=reference,
        notes=[*gathered.notes, *unfinished],
    )


def _message(point: Point) -> pb.SeriesPoint:
    place = point.place
    return pb.SeriesPoint(
        run_id=point.run.run_id,
        model=place.model,
        model_revision=point.revision,
        condition=place.condition,
        regime=place.regime,
        metric=point.metric,
        kind=point.kind,
        n=point.n,
        worse=point.worse,
        better=point.better,
        left_out=point.left_out,
        evidence=point.evidence,
        alarm=point.alarm,
        limit=point.limit,
        created_at_s=point.run.created_at_s,
    )
