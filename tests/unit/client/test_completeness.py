"""What the client tells of a run that is not whole."""

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from safescale.client import Completeness, Letters, Question, ScoringClient
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
        if request.policy == "requirements: []":
            return pb.EvaluatePolicyResponse(passed=True)
        rows = len(request.rows)
        results = [
            pb.RequirementResult(
                metric="accuracy", verdict=pb.POLICY_VERDICT_INSUFFICIENT, low=0.0, high=0.5, n=rows, questions_more=40,
                interval="clopper_pearson", slice="ward", slice_value="A", n_unread=1,
            ),
            # As services say it that knew two verdicts.
            pb.RequirementResult(metric="ece", passed=True),
        ]  # fmt: skip
        return pb.EvaluatePolicyResponse(
            results=results, verdict=pb.POLICY_VERDICT_INSUFFICIENT, confidence=0.9, policy_sha256="a",
            registered_sha256="b", notes=["Read this."],
        )  # fmt: skip

    def ComputeMetrics(self, request, context):
        return pb.ComputeMetricsResponse(rows=[pb.MetricRow()] * 2, slice_rows=[pb.MetricRow()] * len(request.slices))

    def PlanPolicy(self, request, context):
        row = pb.PlannedRequirement(metric="accuracy", n=request.question_count, needed=72, sentence="too few")
        return pb.PlanPolicyResponse(requirements=[row])


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


def test_a_judgement_tells_its_verdict_and_what_would_decide_it(client: ScoringClient) -> None:
    gate = client.gate("latest")
    assert (gate.verdict, gate.passed, gate.confidence, gate.notes) == ("insufficient", False, 0.9, ("Read this.",))
    assert (gate.policy_sha256, gate.registered_sha256) == ("a", "b")
    open_, held = gate.requirements
    assert (open_.verdict, open_.low, open_.high, open_.questions_more) == ("insufficient", 0.0, 0.5, 40)
    assert (open_.slice, open_.slice_value, open_.n_unread, open_.interval) == ("ward", "A", 1, "clopper_pearson")
    assert (held.verdict, held.passed, held.low, held.questions_more) == ("pass", True, None, None)


def test_letters_are_judged_without_a_run(client: ScoringClient) -> None:
    question = Question("q", "", {"A": "a", "B": "b"}, "A")
    gate = client.gate_letters([question], [Letters("m", "c", "q", "A")], "policy", slices=["ward"])
    # All rows that were measured were judged, those of the slice too.
    assert gate.requirements[0].n == 3


def test_a_policy_is_planned(client: ScoringClient) -> None:
    (row,) = client.plan("policy", 32)
    assert (row.n, row.needed, row.pivotal_events, row.decidable, row.sentence) == (32, 72, None, False, "too few")
