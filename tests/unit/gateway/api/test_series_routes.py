"""Series over REST."""

from safescale.core.errors import NotFoundError
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


async def test_series_are_listed(world) -> None:
    each = orchestration_pb2.SeriesSummary(series="nightly", run_count=2, completed_count=1, newest_run_id="b-1")
    each.newest_created_at.FromJsonString("2026-12-01T02:00:00Z")
    world.fakes.on("ListSeries", orchestration_pb2.ListSeriesResponse(series=[each]))
    assert (await world.client.get("/api/v1/series")).json()["items"] == [
        {
            "series": "nightly", "run_count": 2, "completed_count": 1, "newest_run_id": "b-1",
            "newest_created_at": "2026-12-01T02:00:00Z",
        }
    ]  # fmt: skip


async def test_the_evidence_of_a_series_is_given_as_it_is(world) -> None:
    point = pb.SeriesPoint(run_id="b-1", kind="drift", n=40, worse=9, better=1, evidence=1e308, alarm=True, left_out=2)
    world.fakes.on("GetSeries", pb.GetSeriesResponse(series="ward/night 2", alpha=0.01, points=[point], notes=["one"]))
    body = (await world.client.get("/api/v1/series/ward/night%202")).json()
    assert world.fakes.asked == [("GetSeries", pb.GetSeriesRequest(series="ward/night 2"))]
    assert (body["series"], body["notes"], body["reference_run_id"]) == ("ward/night 2", ["one"], "")
    (found,) = body["points"]
    assert (found["evidence"], found["alarm"], found["limit"], found["left_out"]) == (1e308, True, None, 2)


async def test_a_series_without_runs_is_404(world) -> None:
    world.fakes.on("GetSeries", NotFoundError("no run is of a series 'x'"))
    found = await world.client.get("/api/v1/series/x")
    assert (found.status_code, found.json()["detail"]) == (404, "no run is of a series 'x'")
