"""Audits of the reading over REST."""

import pytest

from safescale.rpc.scoring.v1 import scoring_pb2 as pb


@pytest.mark.parametrize(("created", "status"), [(True, 201), (False, 200)])
async def test_an_audit_is_started_once(world, created: bool, status: int) -> None:
    audit = pb.ReadingAudit(run_id="demo-1", sample=50, seed=7)
    world.fakes.on("StartAudit", pb.StartAuditResponse(audit=audit, created=created))
    found = await world.client.post("/api/v1/runs/demo-1/audit?sample=50&seed=7")
    assert found.status_code == status
    assert found.json() == {
        "run_id": "demo-1", "sample": 50, "seed": 7, "settled": 0, "complete": False, "disagreements": 0,
    }  # fmt: skip
    assert world.fakes.asked == [("StartAudit", pb.StartAuditRequest(run_id="demo-1", sample=50, seed=7))]


async def test_an_audit_is_shown_and_its_absence_is_404(world) -> None:
    world.fakes.on("GetAudit", pb.GetAuditResponse(audit=pb.ReadingAudit(run_id="demo-1", sample=5, settled=2)))
    assert (await world.client.get("/api/v1/runs/demo-1/audit")).json()["settled"] == 2
    world.fakes.on("GetAudit", pb.GetAuditResponse())
    found = await world.client.get("/api/v1/runs/demo-1/audit")
    assert (found.status_code, "has no audit" in found.json()["detail"]) == (404, True)
    assert (await world.client.post("/api/v1/runs/demo-1/audit")).status_code == 400
