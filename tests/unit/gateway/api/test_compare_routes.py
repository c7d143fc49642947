"""A comparison over REST."""

import pytest

from safescale.core.errors import FailedPreconditionError
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

URL = "/api/v1/runs/new-1/comparison"


async def test_a_comparison_is_answered_with_rows_and_flips(world) -> None:
    response = pb.CompareRunsResponse(candidate_run_id="new-1", baseline_run_id="old-1", confidence=0.9, flip_count=1)
    response.rows.add(metric="accuracy", n=3, difference=-0.5, low=-0.9, high=0.1, worst_low=-0.95)
    response.flips.add(question_id="q1", worse=["accuracy"], baseline_letter="A")
    world.fakes.on("CompareRuns", response)
    found = await world.client.get(f"{URL}?baseline=old-1&model=a&baseline_model=b&confidence=0.9&flips=false")
    body = found.json()
    assert (found.status_code, body["rows"][0]["difference"], body["rows"][0]["worst_low"]) == (200, -0.5, -0.95)
    assert (body["flips"][0]["candidate_letter"], body["flips"][0]["baseline_letter"]) == (None, "A")
    ((_, asked),) = world.fakes.asked
    assert (asked.candidate_run_id, asked.baseline_run_id, asked.without_flips) == ("new-1", "old-1", True)
    assert (asked.candidate_model, asked.baseline_model, asked.confidence) == ("a", "b", 0.9)


async def test_unlike_runs_are_a_conflict_with_each_difference(world) -> None:
    world.fakes.on("CompareRuns", FailedPreconditionError("reading: strict in the candidate, explicit in the baseline"))
    found = await world.client.get(f"{URL}?baseline=old-1")
    assert (found.status_code, "reading: strict" in found.json()["detail"]) == (409, True)


@pytest.mark.parametrize("query", ["baseline=OLD", "confidence=1", "confidence=0.2", "flips=perhaps", "with=old-1"])
async def test_queries_that_are_wrong_are_refused(world, query: str) -> None:
    assert (await world.client.get(f"{URL}?{query}")).status_code == 400


async def test_a_gate_takes_the_run_that_the_policy_compares_with(world) -> None:
    world.fakes.on("GetRun", orchestration_pb2.GetRunResponse(run=orchestration_pb2.Run(run_id="new-1")))
    result = pb.RequirementResult(metric="accuracy", direction="baseline", margin=0.02, baseline_run_id="old-1")
    world.fakes.on("EvaluatePolicy", pb.EvaluatePolicyResponse(results=[result]))
    policy = "requirements: [{metric: accuracy, against: baseline, margin: 0.02}]"
    found = await world.client.post(
        "/api/v1/runs/new-1/gate?baseline=old-1", content=policy, headers={"Content-Type": "application/yaml"}
    )
    assert found.status_code == 200, found.text
    assert (found.json()["results"][0]["margin"], found.json()["results"][0]["baseline_run_id"]) == (0.02, "old-1")
    assert [asked.baseline_run_id for name, asked in world.fakes.asked if name == "EvaluatePolicy"][-1] == "old-1"
