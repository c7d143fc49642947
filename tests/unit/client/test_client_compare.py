"""What the client tells of a comparison."""

import pytest
from tests.support.fakes.grpc_services import serving

from safescale.client import Comparison, Flip, PairedRow, SafescaleError, ScoringClient
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc


class Scoring(scoring_pb2_grpc.ScoringServiceServicer):
    def __init__(self) -> None:
        self.asked: list[pb.CompareRunsRequest] = []

    def CompareRuns(self, request, context):
        self.asked.append(request)
        response = pb.CompareRunsResponse(candidate_run_id="new", baseline_run_id="old", notes=["Mind this."])
        response.rows.add(
            candidate_model="a", baseline_model="b", condition="top_1", regime="greedy", metric="accuracy", n=4,
            left_out=1, only_candidate=1, only_baseline=2, candidate_value=0.25, baseline_value=0.5, difference=-0.25,
            low=-0.75, high=0.25, p_value=0.5, p_holm=1, worst_low=-0.875, worst_high=0.125,
        )  # fmt: skip
        response.flips.add(
            question_id="q", candidate_model="a", condition="top_1", regime="greedy", better=["accuracy"]
        )
        return response


def test_a_comparison_comes_as_plain_values() -> None:
    scoring = Scoring()
    with (
        serving(scoring, scoring_pb2_grpc.add_ScoringServiceServicer_to_server) as address,
        ScoringClient(address) as client,
    ):
        found = client.compare("latest", "old", ("a", "b"))
    row = PairedRow(
        "a", "b", "top_1", "greedy", "accuracy", n=4, left_out=1, only_candidate=1, only_baseline=2,
        candidate_value=0.25, baseline_value=0.5, difference=-0.25, low=-0.75, high=0.25, worst=(-0.875, 0.125),
        p_holm=1,
    )  # fmt: skip
    flip = Flip("q", "a", "top_1", "greedy", (), ("accuracy",), None, None)
    assert found == Comparison("new", "old", (row,), (flip,), ("Mind this.",))
    (asked,) = scoring.asked
    assert (asked.candidate_run_id, asked.baseline_run_id, asked.baseline_model) == ("latest", "old", "b")


def test_a_refusal_is_an_error() -> None:
    with (
        serving(scoring_pb2_grpc.ScoringServiceServicer(), scoring_pb2_grpc.add_ScoringServiceServicer_to_server) as at,
        ScoringClient(at) as client,
        pytest.raises(SafescaleError),
    ):
        client.compare("latest", "old")
