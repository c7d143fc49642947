"""What `safescale reviews resolve` sends, against a scripted service."""

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from safescale.cli.main import app
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc


class Scoring(scoring_pb2_grpc.ScoringServiceServicer):
    """Keeps what it was asked to settle."""

    def __init__(self) -> None:
        self.asked: list[pb.ResolveReviewRequest] = []

    def ResolveReview(self, request, context):
        self.asked.append(request)
        return pb.ResolveReviewResponse()


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scoring]:
    found = Scoring()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(found, server)
    ready = health.HealthServicer()
    ready.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(ready, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("SAFESCALE_SERVER", f"127.0.0.1:{port}")
    yield found
    server.stop(0)


@pytest.mark.parametrize(
    ("options", "sent", "said"),
    [
        (["--letter", "B"], "B", "Settled as B."),
        ([], None, "Settled as no answer."),
        (["--letter", ""], "", ""),
    ],
)
def test_an_empty_letter_is_sent_as_one_and_is_not_no_answer(
    scoring: Scoring, options: list[str], sent: str | None, said: str
) -> None:
    done = CliRunner().invoke(app, ["reviews", "resolve", "r/1", "--reviewer", "dr", *options])
    (request,) = scoring.asked
    assert (request.letter if request.HasField("letter") else None) == sent
    assert said in done.stdout
