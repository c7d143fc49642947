"""What the client tells of a run that is not whole."""

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from safescale.client import Completeness, ScoringClient
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc


class Scoring(scoring_pb2_grpc.ScoringServiceServicer):
    """Scoring with one run, and a gate that says that nothing passes."""

    def GetRunMetrics(self, request, context):
        return pb.GetRunMetricsResponse(
            verdict_count=9,
            planned_count=12,
            skipped_count=2,
            failed_count=1,
            cached_count=4,
            missing=["One is missing."],
        )  # fmt: skip

    def EvaluatePolicy(self, request, context):
        return pb.EvaluatePolicyResponse(passed=True)


@pytest.fixture
def client() -> Iterator[ScoringClient]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(Scoring(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with ScoringClient(f"127.0.0.1:{port}") as found:
        yield found
    server.stop(0)


def test_a_run_says_what_is_missing(client: ScoringClient) -> None:
    assert client.run_completeness("latest") == Completeness(
        complete=False, missing=("One is missing.",), planned=12, verdicts=9, skipped=2, failed=1, cached=4
    )


def test_a_judgement_of_nothing_does_not_pass(client: ScoringClient) -> None:
    assert not client.gate("latest", "requirements: []").passed
