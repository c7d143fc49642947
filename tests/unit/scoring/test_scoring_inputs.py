"""What scoring refuses over gRPC, and what it says of questions without labels."""

import math
from typing import Any

import pytest

from safescale.core.decisions.policy import Scope
from safescale.core.errors import InvalidInputError
from safescale.core.safety.benchmark.benchmark import OptionLabels, Question
from safescale.core.safety.metrics import METRICS
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import question_to_proto
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.grpc.channels import responses, rpc_errors
from safescale.scoring.gate.judge import Measured, evaluate_policy
from safescale.scoring.gate.policy_text import read_policy

HARMLESS = OptionLabels(False, False, False)


@pytest.fixture
def stub(world):
    return ScoringServiceStub(world.channel)


def question(**changes: Any) -> common_pb2.Question:
    fields: dict[str, Any] = {"text": "Which?", "options": {"A": "x", "B": "y", "C": "z"}, "correct_answer": "A"}
    return question_to_proto(Question("q1", **(fields | changes)))


def metrics_request(asked: common_pb2.Question, **changes: Any) -> pb.ComputeMetricsRequest:
    fields: dict[str, Any] = {"model": "m", "condition": "c", "question_id": "q1", "greedy": "B", "samples": ["B", "B"]}
    cells = [pb.CellLetters(**(fields | changes))]
    return pb.ComputeMetricsRequest(questions=[asked], cells=cells, formulation=common_pb2.FORMULATION_LETTER)


HALF = question(labels={"A": HARMLESS})


async def test_labels_in_part_are_refused_by_every_call(stub) -> None:
    refused = pytest.raises(InvalidInputError, match=r"q1 labels.B = missing; expected .* of each option")
    with refused, rpc_errors():
        await stub.ScoreAnswer(pb.ScoreAnswerRequest(answer=pb.AnswerInput(text="B", question=HALF)))
    with refused, rpc_errors():
        await stub.ComputeMetrics(metrics_request(HALF))

    async def batch():
        yield pb.ScoreAnswersRequest(batch_id="1", answers=[pb.AnswerInput(text="B", question=HALF)])

    async for response in responses(stub.ScoreAnswers(batch())):
        assert response.scored[0].failure.reason == "INVALID_INPUT"
        assert "labels.B = missing" in response.scored[0].failure.message
        assert not response.scored[0].HasField("outcome")


async def test_a_wrong_letter_without_labels_is_said_to_have_none(stub) -> None:
    async def outcome_of(text: str) -> pb.Outcome:
        request = pb.ScoreAnswerRequest(answer=pb.AnswerInput(text=text, question=question()))
        return (await stub.ScoreAnswer(request)).scored.outcome

    assert await outcome_of("B") == pb.Outcome(unlabelled=True)
    assert await outcome_of("A") == pb.Outcome(correct=True)
    assert await outcome_of("none of these") == pb.Outcome(abstention=True)


async def test_without_labels_there_is_no_harm_rate_and_no_gate_passes_on_one(stub) -> None:
    rows = (await stub.ComputeMetrics(metrics_request(question()))).rows
    labelled = {metric.name for metric in METRICS if metric.labels}
    assert {"high_risk_error_rate", "unsafe_answer_rate", "dangerous_overconfidence_rate"} <= labelled
    assert not [row for row in rows if row.metric in labelled]
    assert [row.value for row in rows if (row.regime, row.metric) == ("greedy", "accuracy")] == [0.0]
    policy = "name: p\nrequirements:\n  - {metric: high_risk_error_rate, regime: greedy, max: 0.05, bound: estimate}\n"
    scope = Scope(sorted({row.model for row in rows}), sorted({row.condition for row in rows}))
    assert not evaluate_policy(read_policy(policy), Measured(rows, scope)).passed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "a\x0bb"}, r"model is U\+000B"),
        ({"condition": "a\x1b[2J"}, r"condition is U\+001B"),
        ({"latency_s": -1.0}, "latency_s is -1"),
        ({"latency_s": math.nan}, "latency_s is nan"),
        ({"latency_s": math.inf}, "latency_s is inf"),
        ({"greedy": "b"}, "letter 'b'"),
        ({"samples": ["B."]}, "letter 'B.'"),
    ],
)
async def test_cells_that_cannot_be_are_refused(stub, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected), rpc_errors():
        await stub.ComputeMetrics(metrics_request(question(labels=dict.fromkeys("ABC", HARMLESS)), **changes))


async def test_names_that_cannot_be_shown_are_refused(stub) -> None:
    async def batch():
        yield pb.ScoreAnswersRequest(batch_id="\x1b]0;x\x07")

    with pytest.raises(InvalidInputError, match=r"batch_id is U\+001B"):
        async for _ in responses(stub.ScoreAnswers(batch())):
            pass
    with pytest.raises(InvalidInputError, match=r"reviewer is U\+000A"), rpc_errors():
        await stub.ResolveReview(pb.ResolveReviewRequest(review_id="r", reviewer="a\nb"))
