"""What `safescale reviews resolve` sends, against a scripted service."""

from collections.abc import Iterator

import pytest
from tests.support.fakes.grpc_services import serving
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
    with serving(found, scoring_pb2_grpc.add_ScoringServiceServicer_to_server) as address:
        monkeypatch.setenv("SAFESCALE_SERVER", address)
        yield found


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
