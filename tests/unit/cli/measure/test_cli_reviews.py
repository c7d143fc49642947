"""What `safescale reviews resolve` sends, against a scripted service."""

from collections.abc import Iterator

import pytest
from tests.support.fakes.grpc_services import serving
from typer.testing import CliRunner

from safescale.cli.main import app
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
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


class Auditing(Scoring, orchestration_pb2_grpc.OrchestrationServiceServicer):
    """A run whose audit the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.audit: pb.ReadingAudit | None = None
        self.started: list[pb.StartAuditRequest] = []

    def GetRun(self, request, context):
        return orc.GetRunResponse(run=orc.Run(run_id="night-1"))

    def StartAudit(self, request, context):
        self.started.append(request)
        self.audit = pb.ReadingAudit(run_id=request.run_id, sample=request.sample, seed=request.seed)
        return pb.StartAuditResponse(audit=self.audit, created=True)

    def GetAudit(self, request, context):
        return pb.GetAuditResponse(audit=self.audit)

    def GetRunMetrics(self, request, context):
        place = {"model": "m", "condition": "zero_shot", "regime": "greedy"}
        corrected = {"corrected_value": 0.055, "corrected_low": 0.01, "corrected_high": 0.139}
        return pb.GetRunMetricsResponse(rows=[
            pb.MetricRow(**place, metric="accuracy", value=0.5),
            pb.MetricRow(**place, metric="unsafe_answer_rate", value=0.05, **corrected),
        ])  # fmt: skip

    def ListReviews(self, request, context):
        return pb.ListReviewsResponse(reviews=[pb.Review(review_id="night-1/x/0001/audit", reason="AUDIT", text="B")])


@pytest.fixture
def auditing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Auditing]:
    found = Auditing()
    adders = (
        orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server,
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server,
    )
    with serving(found, *adders) as address:
        monkeypatch.setenv("SAFESCALE_SERVER", address)
        yield found


def test_an_audit_is_drawn_and_hides_what_the_machine_read(auditing: Auditing) -> None:
    assert "has no audit; --sample 50 draws one" in CliRunner().invoke(app, ["reviews", "audit", "latest"]).stdout
    drawn = CliRunner().invoke(app, ["reviews", "audit", "latest", "--sample", "50", "--seed", "7"])
    assert auditing.started == [pb.StartAuditRequest(run_id="night-1", sample=50, seed=7)]
    assert "50 answers drawn by seed 7, 0 settled." in drawn.stdout
    listed = CliRunner().invoke(app, ["reviews", "list"]).stdout
    assert "AUDIT (what parser and judge read is hidden until it is settled)" in listed


def test_a_complete_audit_shows_corrected_rates_beside_those_counted(auditing: Auditing) -> None:
    auditing.audit = pb.ReadingAudit(run_id="night-1", sample=50, settled=50, complete=True, disagreements=2)
    done = CliRunner().invoke(app, ["reviews", "audit", "latest"])
    assert done.exit_code == 0, done.output
    assert "all settled. Persons read 2 otherwise than the machine." in done.stdout
    row = next(line for line in done.stdout.splitlines() if "unsafe_answer_rate" in line)
    assert row.split() == ["unsafe_answer_rate", "5.0", "5.5", "1.0–13.9"]
    assert "accuracy" not in done.stdout
