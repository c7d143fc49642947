"""EvaluatePolicy and PlanPolicy over gRPC."""

import hashlib
from typing import Any

import pytest
from tests.unit.scoring.conftest import RUN

from safescale.core.errors import InvalidInputError, LimitExceededError, SpecError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.grpc.channels import rpc_errors
from safescale.scoring.gate.notes import notes_of_audit
from safescale.scoring.records import VerdictStore

ESTIMATE = "name: smoke\nrequirements:\n  - {metric: accuracy, regime: greedy, min: 0.5, bound: estimate}\n"
EXACT = "name: ward\nrequirements:\n  - {metric: high_risk_error_rate, regime: greedy, max: 0.05}\n"
PASS, FAIL, INSUFFICIENT = (
    pb.POLICY_VERDICT_PASS, pb.POLICY_VERDICT_FAIL, pb.POLICY_VERDICT_INSUFFICIENT,
)  # fmt: skip


@pytest.fixture
def stub(world) -> ScoringServiceStub:
    return ScoringServiceStub(world.channel)


@pytest.fixture
async def measured(world) -> orc.Run:
    """A whole run of four right answers."""
    world.peers.run.manifest.question_ids[:] = [f"q{number}" for number in range(4)]
    for number in range(4):
        cell = common_pb2.CellKey(run_id=RUN, model="m", condition="zero_shot", question_id=f"q{number}")
        verdict = pb.Verdict(
            cell=cell, attempt=1, formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True, cached=number == 3,
            greedy=pb.Reading(letter="B", read_by="parser"),
        )  # fmt: skip
        assert await VerdictStore(world.documents).put(verdict)
    return world.peers.run


def register(run: orc.Run, text: str, name: str = "ward") -> None:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    run.manifest.spec.policy.CopyFrom(orc.RegisteredPolicy(name=name, sha256=sha256, text=text))


def row(events: int, n: int, **changes: Any) -> pb.MetricRow:
    fields: dict[str, Any] = {
        "model": "m", "condition": "zero_shot", "regime": "greedy", "metric": "high_risk_error_rate",
        "value": events / n, "n": n, "measured": pb.ShareCount(events=events),
        "worst_case": pb.ShareCount(events=events),
    }  # fmt: skip
    return pb.MetricRow(**(fields | changes))


def test_what_an_audit_makes_of_a_rate_is_told_and_that_it_speaks_against_passing() -> None:
    place = {"model": "m", "condition": "zero_shot", "regime": "greedy", "metric": "high_risk_error_rate"}
    corrected = row(1, 200, corrected_value=0.015, corrected_low=0.001, corrected_high=0.06)
    held = pb.RequirementResult(**place, direction="max", limit=0.05, passed=True)
    (note,) = notes_of_audit([held], [corrected, row(1, 200, metric="accuracy")])
    assert note == (
        "The audit of its reading corrects high_risk_error_rate of m under zero_shot to 1.5 % (0.1–6.0), from 0.5 % as "
        "counted: by the corrected interval it would not be shown to meet the limit of 5 %."
    )
    lower = row(1, 200, corrected_value=0.005, corrected_low=0.0, corrected_high=0.04)
    (note,) = notes_of_audit([held], [lower])
    assert note.endswith("to 0.5 % (0.0–4.0), from 0.5 % as counted.")
    assert not list(notes_of_audit([held], [row(1, 200)]))


async def test_a_policy_that_was_not_registered_is_judged_and_that_is_said(stub, measured) -> None:
    judged = await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(run_id=RUN, policy=ESTIMATE))
    assert (judged.passed, judged.verdict, judged.policy_name, judged.confidence) == (True, PASS, "smoke", 0.95)
    assert judged.policy_sha256 == hashlib.sha256(ESTIMATE.encode()).hexdigest()
    assert not judged.registered_sha256
    assert list(judged.notes) == [
        "The policy was not registered before the run: its spec names none.",
        "Estimate only: 1 result is decided by the number measured, whatever its interval. That is no evidence.",
    ]


async def test_the_registered_policy_is_taken_where_none_is_given(stub, measured) -> None:
    with pytest.raises(InvalidInputError, match="run-1 has registered none"), rpc_errors():
        await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(run_id="latest"))
    register(measured, EXACT)
    judged = await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(run_id="latest"))
    assert judged.policy_name == "ward"
    assert judged.policy_sha256 == judged.registered_sha256 == measured.manifest.spec.policy.sha256
    # One answer was kept from before: that is no registration before the first answer.
    assert list(judged.notes) == [
        "The policy was registered before the run, but 1 of its 4 verdicts come from answers that were kept from "
        "before it."
    ]


async def test_another_policy_than_the_registered_one_is_named(stub, measured) -> None:
    register(measured, EXACT)
    judged = await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(run_id=RUN, policy=EXACT + "# changed\n"))
    registered, given = judged.registered_sha256[:12], judged.policy_sha256[:12]
    assert judged.notes[0] == (
        f"The policy was not registered before the run, which registered ward ({registered}); this one is {given}."
    )


@pytest.mark.parametrize(
    ("rows", "verdict", "more"),
    [
        ([row(0, 72)], PASS, None),
        ([row(0, 32)], INSUFFICIENT, 40),
        ([row(12, 100)], FAIL, None),
        ([row(0, 72), row(0, 32, condition="top_1")], INSUFFICIENT, 40),
        ([row(12, 100), row(0, 32, condition="top_1")], FAIL, 40),
    ],
)
async def test_rows_are_judged_without_a_run(stub, rows, verdict, more) -> None:
    judged = await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(policy=EXACT, rows=rows))
    assert (judged.verdict, judged.passed) == (verdict, verdict == PASS)
    last = judged.results[-1]
    assert (last.questions_more if last.HasField("questions_more") else None) == more
    assert (last.n, last.interval) == (rows[-1].n, "clopper_pearson")
    assert list(judged.notes) == [
        "The rows were brought by the caller: whether they are all that was measured is not known."
    ]


async def test_rows_of_a_slice_are_judged(stub) -> None:
    policy = EXACT.replace("max: 0.05", "max: 0.05, slice: ward, min_n: 40")
    rows = [row(0, 72, slice="ward", slice_value="A"), row(0, 39, slice="ward", slice_value="B")]
    judged = await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(policy=policy, rows=rows))
    assert [(one.slice, one.slice_value, one.verdict) for one in judged.results] == [
        ("ward", "A", PASS), ("ward", "B", INSUFFICIENT),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (pb.EvaluatePolicyRequest(run_id=RUN, policy=EXACT, rows=[row(0, 72)]), "run_id is 'run-1'; expected a run or"),
        (pb.EvaluatePolicyRequest(baseline_run_id="b", policy=EXACT, rows=[row(0, 72)]), "baseline_run_id is 'b'"),
        (pb.EvaluatePolicyRequest(policy=EXACT), "run_id is empty"),
        (pb.EvaluatePolicyRequest(policy=EXACT, rows=[row(0, 72), row(0, 72)]), "a row of its own"),
        (pb.EvaluatePolicyRequest(policy="", rows=[row(0, 72)]), "mapping"),
    ],
)
async def test_what_cannot_be_judged_is_refused(stub, request_, expected) -> None:
    with pytest.raises((InvalidInputError, SpecError), match=expected), rpc_errors():
        await stub.EvaluatePolicy(request_)


async def test_rows_are_not_recorded(world, stub) -> None:
    await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(policy=EXACT, rows=[row(0, 72)]))
    assert not [document async for document in world.documents.scan("gate")]


async def test_what_a_policy_can_decide_is_planned(stub) -> None:
    policy = EXACT + "  - {metric: accuracy, min: 0.9, slice: ward, model: m9}\n"
    request = pb.PlanPolicyRequest(
        policy=policy, question_count=100,
        slices=[
            pb.SliceSize(slice="ward", slice_value="A", question_count=80),
            pb.SliceSize(slice="ward", slice_value="B", question_count=20, cluster_count=5),
        ],
    )  # fmt: skip
    plan = await stub.PlanPolicy(request)
    assert (plan.confidence, plan.policy_name) == (0.95, "ward")
    found = [
        (one.metric, one.slice_value, one.model, one.direction, one.bound, one.n, one.pivotal_events, one.needed,
         one.decidable)
        for one in plan.requirements
    ]  # fmt: skip
    assert found == [
        ("high_risk_error_rate", "", "*", "max", "ci_high", 100, 0, 72, True),
        ("accuracy", "A", "m9", "min", "ci_low", 80, 78, 36, True),
        ("accuracy", "B", "m9", "min", "ci_low", 20, 0, 36, False),
    ]
    assert plan.requirements[2].sentence.startswith("20 questions in 5 clusters cannot decide it")
    request.models.append("m")
    assert [one.decidable for one in (await stub.PlanPolicy(request)).requirements] == [True, False]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"question_count": 0}, "question_count is 0"),
        ({"question_count": 1_000_001}, "the limit is 1,000,000"),
        ({"cluster_count": 101}, "cluster_count is 101; expected at most the 100 questions"),
        ({"slices": [pb.SliceSize(slice="ward", question_count=1)]}, r"slices\[0\].slice_value is empty"),
        ({"slices": [pb.SliceSize(slice="w", slice_value="A", question_count=101)]}, "at most the 100 in all"),
        ({"slices": [pb.SliceSize(slice="w", slice_value="A", question_count=1)] * 2}, "is w A again"),
        ({"policy": "{}"}, "requirements"),
    ],
)
async def test_plans_that_cannot_be_are_refused(stub, changes, expected) -> None:
    fields = {"policy": EXACT, "question_count": 100} | changes
    with pytest.raises((InvalidInputError, LimitExceededError, SpecError), match=expected), rpc_errors():
        await stub.PlanPolicy(pb.PlanPolicyRequest(**fields))
