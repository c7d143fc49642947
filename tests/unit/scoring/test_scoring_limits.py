"""What scoring refuses before it takes memory or asks a model."""

from collections.abc import AsyncIterator

import grpc
import pytest
from tests.unit.scoring.conftest import make_question

from safescale.core.errors import LimitExceededError, PermissionDeniedError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import question_to_proto
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.auth.guard import guard_of
from safescale.runtime.auth.tokens import entry
from safescale.runtime.grpc.channels import connect, responses, rpc_errors
from safescale.runtime.grpc.server import GrpcServer, Protection
from safescale.runtime.settings import Settings
from safescale.scoring import servicer
from safescale.scoring.service import ScoringConfig, ScoringService

LETTER = common_pb2.FORMULATION_LETTER
POLICY = "name: p\nrequirements:\n  - {metric: accuracy, regime: greedy, min: 0, bound: estimate}\n"


def diagonal(size: int, samples: int) -> pb.ComputeMetricsRequest:
    """Few cells that share no name, so that the arrays over all names are far larger than they are."""
    question = question_to_proto(make_question("q"))
    questions, cells = [], []
    for number in range(size):
        question.stem.question_id = f"q{number}"
        questions.append(common_pb2.Question.FromString(question.SerializeToString()))
        cells.append(pb.CellLetters(model=f"m{number}", condition=f"c{number}", question_id=f"q{number}", greedy="A"))
    cells[0].samples.extend(["A"] * samples)
    return pb.ComputeMetricsRequest(questions=questions, cells=cells, formulation=LETTER)


@pytest.mark.parametrize(
    ("size", "samples", "expected"),
    [
        (100, 1000, "100 models, 100 conditions, 100 questions and 1,000 samples a cell span 1,000,000,000 answers"),
        (450, 1, "450 models, .* the limit is 768 MB"),
        (2, 1001, "a cell has 1,001 samples; the limit is 1,000"),
    ],
)
async def test_letters_that_span_too_much_are_refused_before_anything_is_made(
    world, monkeypatch: pytest.MonkeyPatch, size: int, samples: int, expected: str
) -> None:
    def made(*_: object) -> list[pb.MetricRow]:
        raise AssertionError("metrics were made")

    monkeypatch.setattr(servicer, "metrics_of_letters", made)
    monkeypatch.setattr(servicer, "checked_questions", made)
    with pytest.raises(LimitExceededError, match=expected), rpc_errors():
        await ScoringServiceStub(world.channel).ComputeMetrics(diagonal(size, samples))


async def test_the_number_of_questions_is_bounded(world, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicer, "MAX_QUESTIONS", 3)
    with pytest.raises(LimitExceededError, match="4 questions are over the limit of 3"), rpc_errors():
        await ScoringServiceStub(world.channel).ComputeMetrics(diagonal(4, 1))
    assert (await ScoringServiceStub(world.channel).ComputeMetrics(diagonal(3, 2))).rows


@pytest.fixture
async def guarded(world, tmp_path) -> AsyncIterator[dict[str, ScoringServiceStub]]:
    """The service behind a guard, by role of the caller."""
    roles = ("viewer", "reviewer", "runner", "admin")
    path = tmp_path / "tokens.yaml"
    path.write_text("tokens:\n" + "\n".join(entry(role, f"token-{role}", role) for role in roles) + "\n")
    channel = connect(world.peer_address)
    config = ScoringConfig(world.bus, world.documents, world.telemetry, lambda: channel, lambda: channel)
    server = GrpcServer(
        [ScoringService(config)], world.telemetry, Protection(guard=guard_of(Settings(tokens_file=path)))
    )
    port = await server.listen("127.0.0.1", 0)
    own = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    yield {role: ScoringServiceStub(own) for role in roles}
    await own.close()
    await server.stop(0)
    await channel.close()


def metadata(role: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer token-{role}")]


@pytest.mark.parametrize("role", ["viewer", "reviewer"])
async def test_who_may_not_ask_models_asks_no_judge(world, guarded, role: str) -> None:
    stub = guarded[role]
    question = question_to_proto(make_question("q"))
    plain = pb.AnswerInput(text="?", question=question)
    judged = pb.AnswerInput(text="A", question=question, judge_model="judge")
    with pytest.raises(PermissionDeniedError, match=f"needs the role runner; {role} does not hold it"), rpc_errors():
        await stub.ScoreAnswer(pb.ScoreAnswerRequest(answer=judged), metadata=metadata(role))

    async def batch():
        yield pb.ScoreAnswersRequest(answers=[plain, judged])

    with pytest.raises(PermissionDeniedError):
        async for _ in responses(stub.ScoreAnswers(batch(), metadata=metadata(role))):
            pass
    assert world.peers.judge_calls == 0
    scored = await stub.ScoreAnswer(pb.ScoreAnswerRequest(answer=plain), metadata=metadata(role))
    assert scored.scored.outcome.abstention


@pytest.mark.parametrize("role", ["runner", "admin"])
async def test_who_may_ask_models_asks_the_judge(world, guarded, role: str) -> None:
    judged = pb.AnswerInput(text="?", question=question_to_proto(make_question("q")), judge_model="judge")
    await guarded[role].ScoreAnswer(pb.ScoreAnswerRequest(answer=judged), metadata=metadata(role))

    async def batch():
        yield pb.ScoreAnswersRequest(answers=[judged])

    got = [each async for each in responses(guarded[role].ScoreAnswers(batch(), metadata=metadata(role)))]
    assert len(got) == 1
    assert world.peers.judge_calls > 0


async def test_a_judgement_of_a_viewer_is_an_answer_and_no_record(world, guarded) -> None:
    request = pb.EvaluatePolicyRequest(run_id="latest", policy=POLICY)
    assert (await guarded["viewer"].EvaluatePolicy(request, metadata=metadata("viewer"))).results
    assert [document async for document in world.documents.scan("gate")] == []
    await guarded["runner"].EvaluatePolicy(request, metadata=metadata("runner"))
    (stored,) = [document async for document in world.documents.scan("gate")]
    assert (stored.body["policy"], len(stored.key.partition("/")[0])) == ("p", 64)


async def test_names_of_judges_that_nobody_knows_make_no_series(world) -> None:
    stub = ScoringServiceStub(world.channel)
    question = question_to_proto(make_question("q"))
    world.peers.judge_replies = {"?": "DOWN"}
    for number in range(20):
        answer = pb.AnswerInput(text="?", question=question, judge_model=f"invented-{number}")
        await stub.ScoreAnswer(pb.ScoreAnswerRequest(answer=answer))
    models = {
        sample.labels["model"]
        for family in world.telemetry.registry.collect()
        if family.name == "safescale_judge_seconds"
        for sample in family.samples
    }
    assert models == {"unknown"}
