"""Audits through the service: the list hides what the machine read until a person has settled it."""

import pytest
from tests.unit.scoring.test_scoring_service import complete, letter_cell

from safescale.core.errors import NotFoundError
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.grpc.channels import rpc_errors


async def test_an_audit_goes_through_the_list_of_reviews(world, stub, verdicts, cell_key) -> None:
    for number in range(4):
        await complete(world, verdicts, letter_cell(cell_key(f"q{number}"), "A", []))
    assert not (await stub.GetAudit(pb.GetAuditRequest(run_id="latest"))).HasField("audit")
    started = await stub.StartAudit(pb.StartAuditRequest(run_id="latest", sample=2, seed=3))
    assert (started.created, started.audit.run_id, started.audit.seed) == (True, "run-1", 3)
    listed = (await stub.ListReviews(pb.ListReviewsRequest(run_id="run-1"))).reviews
    assert [(review.reason, review.text, review.HasField("parsed_letter")) for review in listed] == [
        ("AUDIT", "A", False)
    ] * 2
    for letter, review in zip("AC", listed, strict=True):
        request = pb.ResolveReviewRequest(review_id=review.review_id, letter=letter, reviewer="dr")
        settled = (await stub.ResolveReview(request)).review
        assert (settled.parsed_letter, settled.resolved_letter) == ("A", letter)
    audit = (await stub.GetAudit(pb.GetAuditRequest(run_id="run-1"))).audit
    assert (audit.settled, audit.complete, audit.disagreements) == (2, True, 1)
    page = await stub.ListVerdicts(pb.ListVerdictsRequest(run_id="run-1"))
    read = {verdict.cell.question_id: (verdict.greedy.letter, verdict.greedy.read_by) for verdict in page.verdicts}
    assert read[listed[1].cell.question_id] == ("C", "person")
    metrics = await stub.GetRunMetrics(pb.GetRunMetricsRequest(run_id="run-1"))
    corrected = [row.metric for row in metrics.rows if row.HasField("corrected_value")]
    assert corrected == ["accuracy", "high_risk_error_rate", "unsafe_answer_rate", "contradiction_rate"]


async def test_a_run_that_is_not_there_has_no_audit(stub) -> None:
    with pytest.raises(NotFoundError), rpc_errors():
        await stub.StartAudit(pb.StartAuditRequest(run_id="nobody", sample=2))
