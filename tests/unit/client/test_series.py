"""What the client makes of the evidence of a series."""

import pytest
from tests.support.fakes.grpc_services import serving

from safescale.client import AsyncScoringClient, ClientOptions, Evidence, ScoringClient
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc


class Scoring(scoring_pb2_grpc.ScoringServiceServicer):
    def GetSeries(self, request, context):
        place = {"run_id": "b", "kind": "rate", "n": 50, "worse": 4, "left_out": 1}
        return pb.GetSeriesResponse(
            series=request.series, alpha=0.01, reference_run_id="a", notes=["c is left out"],
            points=[
                pb.SeriesPoint(**place, evidence=12.5),
                pb.SeriesPoint(**place, model="m", metric="unsafe_answer_rate", evidence=150, alarm=True, limit=0.05),
            ],
        )  # fmt: skip


@pytest.fixture
def address():
    with serving(Scoring(), scoring_pb2_grpc.add_ScoringServiceServicer_to_server) as found:
        yield found


async def test_the_alarm_of_a_series_is_that_of_a_whole_kind(address: str) -> None:
    async with AsyncScoringClient(address, ClientOptions()) as client:
        found = await client.series("nightly")
    assert (found.name, found.reference_run_id, found.alpha, found.alarm) == ("nightly", "a", 0.01, False)
    assert found.notes == ("c is left out",)
    assert found.points[1] == Evidence("b", "rate", "m", "", "", "unsafe_answer_rate", 50, 4, 0, 1, 150.0, True, 0.05)
    assert found.points[0].limit is None
    assert not found.points[0].alarm


def test_the_blocking_client_has_it_too(address: str) -> None:
    with ScoringClient(address, ClientOptions()) as client:
        assert len(client.series("nightly").points) == 2
