"""What `safescale series` and `safescale runs --series` say, against scripted services."""

from collections.abc import Iterator

import pytest
from tests.support.fakes.grpc_services import serving
from typer.testing import CliRunner

from safescale.cli.main import app
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc

HARM = {"model": "m", "condition": "zero_shot", "regime": "greedy", "metric": "unsafe_answer_rate"}


class Services(orchestration_pb2_grpc.OrchestrationServiceServicer, scoring_pb2_grpc.ScoringServiceServicer):
    """One series, whose points the test sets."""

    def __init__(self) -> None:
        self.found = pb.GetSeriesResponse(series="nightly", alpha=0.01, reference_run_id="night-a")
        self.summaries: list[orc.SeriesSummary] = []
        self.asked: list[object] = []

    def GetSeries(self, request, context):
        self.asked.append(request)
        return self.found

    def ListSeries(self, request, context):
        return orc.ListSeriesResponse(series=self.summaries)

    def ListRuns(self, request, context):
        self.asked.append(request)
        return orc.ListRunsResponse()

    def GetRun(self, request, context):
        spec = orc.RunSpec(series="nightly" if request.run_id == "night-b" else "")
        return orc.GetRunResponse(run=orc.Run(run_id=request.run_id, manifest=orc.Manifest(spec=spec)))


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    found = Services()
    adders = (
        orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server,
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server,
    )
    with serving(found, *adders) as address:
        monkeypatch.setenv("SAFESCALE_SERVER", address)
        yield found


def cli(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def points(services: Services, evidence: float, alarm: bool) -> None:
    whole = {"run_id": "night-b", "kind": "drift", "created_at_s": 1_796_000_000, "model_revision": "r2", "n": 40}
    services.found.points.extend([
        pb.SeriesPoint(**whole, worse=9, better=1, left_out=2, evidence=evidence, alarm=alarm),
        pb.SeriesPoint(**whole, **HARM, worse=9, better=1, left_out=2, evidence=evidence, alarm=alarm),
    ])  # fmt: skip


def test_a_series_is_shown_run_by_run_and_where_its_evidence_is(services: Services) -> None:
    points(services, 3.25, alarm=False)
    services.found.notes.append("night-c is left out, since it is not complete: running")
    done = cli("series", "nightly", "--fail-on-alarm")
    assert done.exit_code == 0, done.output
    assert "Drift: the same questions as in the reference run night-a" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["night-b"])
    assert row.split() == ["night-b", "2026-11-30", "r2", "40", "9", "1", "2", "3.25"]
    assert "m / zero_shot / greedy" in done.stdout
    assert "No alarm. An alarm is raised at an evidence of 100; without a change at most 1% of" in done.stdout
    assert "night-c is left out" in done.stdout


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--fail-on-alarm"], 1)])
def test_an_alarm_fails_where_that_is_asked_for(services: Services, options: list[str], code: int) -> None:
    points(services, 2e7, alarm=True)
    done = cli("series", "nightly", *options)
    assert (done.exit_code, "ALARM (drift)" in done.stdout, "2.0e+07 !" in done.stdout) == (code, True, True)


def test_rates_have_events_and_a_limit(services: Services) -> None:
    point = {"run_id": "night-b", "kind": "rate", "n": 50, "worse": 4, "evidence": 0.5}
    services.found.points.extend([pb.SeriesPoint(**point), pb.SeriesPoint(**point, **HARM, limit=0.05)])
    done = cli("series", "nightly")
    assert done.exit_code == 0, done.output
    assert "Rate: fresh questions against their limits" in done.stdout
    assert "unsafe_answer_rate ≤ 0.05" in done.stdout
    assert "events" in done.stdout
    assert "better" not in done.stdout


def test_a_run_names_its_series(services: Services) -> None:
    assert "no run to compare yet. Its reference run is night-a" in cli("series", "--run", "night-b").stdout
    assert services.asked == [pb.GetSeriesRequest(series="nightly")]
    alone = cli("series", "--run", "alone", "--fail-on-alarm")
    assert (alone.exit_code, alone.stdout) == (0, "Run alone is of no series.\n")


def test_series_are_listed(services: Services) -> None:
    assert "There are no series yet" in cli("series").stdout
    services.summaries = [orc.SeriesSummary(series="nightly", run_count=3, completed_count=2, newest_run_id="night-c")]
    row = next(line for line in cli("series").stdout.splitlines() if "nightly" in line)
    assert row.split() == ["nightly", "3", "2", "night-c"]


def test_runs_of_a_series_are_asked_for(services: Services) -> None:
    for arguments in (["runs", "--series", "nightly"], ["runs", "list", "--series", "nightly"]):
        assert "There are no runs of the series nightly yet" in cli(*arguments).stdout
    assert [request.series for request in services.asked] == ["nightly", "nightly"]
