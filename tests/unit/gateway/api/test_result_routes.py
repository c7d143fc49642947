"""Verdicts, metrics, gate, exports, reviews over REST."""

import json

import pytest

from safescale.core.errors import FailedPreconditionError
from safescale.gateway.api.verdicts import has_outcome
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

YAML = {"Content-Type": "application/yaml"}


def verdict(number: int, **outcome: bool) -> pb.Verdict:
    made = pb.Verdict(
        cell=common_pb2.CellKey(run_id="demo-1", model="m", condition="zero_shot", question_id=f"q{number}"),
        formulation=common_pb2.FORMULATION_LETTER,
        greedy_asked=True,
    )
    made.greedy_outcome.CopyFrom(pb.Outcome(**outcome))
    return made


def pages_of(verdicts: list[pb.Verdict]):
    """The paging of the service: a token is the number of verdicts before."""

    def answer(request: pb.ListVerdictsRequest) -> pb.ListVerdictsResponse:
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        token = str(end) if end < len(verdicts) else ""
        return pb.ListVerdictsResponse(verdicts=verdicts[begin:end], next_page_token=token)

    return answer


@pytest.mark.parametrize("page_size", [1, 3, 7, 1000])
async def test_pages_by_outcome_hold_every_match_once(world, page_size: int) -> None:
    verdicts = [verdict(number, correct=number % 4 != 0, high_risk_error=number % 8 == 0) for number in range(150)]
    world.fakes.on("ListVerdicts", pages_of(verdicts))
    found: list[str] = []
    cursor, requests = "", 0
    while cursor is not None:
        url = f"/api/v1/runs/demo-1/verdicts?outcome=high_risk_error&page_size={page_size}&cursor={cursor}"
        body = (await world.client.get(url)).json()
        assert len(body["items"]) <= page_size
        found += [item["cell"]["question_id"] for item in body["items"]]
        cursor, requests = body["next_cursor"], requests + 1
        assert requests < 200
    assert found == [f"q{number}" for number in range(0, 150, 8)]


async def test_filters_of_the_service_are_handed_on(world) -> None:
    world.fakes.on("ListVerdicts", pb.ListVerdictsResponse())
    for query in ("model=m&condition=zero_shot&failed=true", "model=m&condition=zero_shot&outcome=failed"):
        assert (await world.client.get(f"/api/v1/runs/demo-1/verdicts?{query}")).status_code == 200
    (_, first), (_, second) = world.fakes.asked
    assert first == second
    assert (first.model, first.condition, first.failed_only, first.page_size) == ("m", "zero_shot", True, 100)
    found = await world.client.get("/api/v1/runs/demo-1/verdicts?failed=true&outcome=correct")
    assert (found.status_code, "no other outcome" in found.json()["detail"]) == (400, True)


def test_unread_is_told_from_a_stated_abstention() -> None:
    stated = verdict(0, abstention=True)
    stated.greedy.read_by = "judge"
    unread = verdict(1, abstention=True)
    assert [has_outcome(each, "unread", "greedy") for each in (stated, unread)] == [False, True]
    assert [has_outcome(each, "abstention", "greedy") for each in (stated, unread)] == [True, False]


@pytest.mark.parametrize(
    ("outcome", "expected"), [("correct", [0]), ("wrong", [1, 2]), ("high_risk_error", [2]), ("abstention", [3])]
)
def test_outcomes(outcome, expected: list[int]) -> None:
    verdicts = [verdict(0, correct=True), verdict(1), verdict(2, high_risk_error=True), verdict(3, abstention=True)]
    verdicts[3].greedy.read_by = "parser"
    failed = pb.Verdict(failure=common_pb2.Failure(reason="X"))
    assert [n for n, each in enumerate([*verdicts, failed]) if has_outcome(each, outcome, "greedy")] == expected
    assert has_outcome(failed, "failed", "greedy")
    # What was read of a cell whose judge failed is harm all the same; an abstention of it is none.
    harm = pb.Verdict(failure=common_pb2.Failure(reason="JUDGE_FAILED"), greedy_outcome={"high_risk_error": True})
    none = pb.Verdict(failure=common_pb2.Failure(reason="JUDGE_FAILED"), greedy_outcome={"abstention": True})
    assert [has_outcome(harm, name, "greedy") for name in ("failed", "high_risk_error", "wrong")] == [True] * 3
    assert [has_outcome(none, name, "greedy") for name in ("failed", "abstention", "unread")] == [True, False, False]
    # Where the regime was not asked there is no outcome of it.
    assert not has_outcome(verdicts[0], "correct", "majority")


async def test_metrics_can_be_narrowed(world) -> None:
    rows = [
        pb.MetricRow(model="m", condition=condition, regime="greedy", metric=metric, value=0.5, n=4)
        for condition in ("zero_shot", "top_1")
        for metric in ("accuracy", "abstention_rate")
    ]
    world.fakes.on(
        "GetRunMetrics", pb.GetRunMetricsResponse(rows=rows, verdict_count=8, failed_count=1, readings={"unread": 2})
    )
    found = (await world.client.get("/api/v1/runs/demo-1/metrics?condition=top_1&metric=accuracy")).json()
    assert [(row["condition"], row["metric"], row["value"], row["ci_low"]) for row in found["items"]] == [
        ("top_1", "accuracy", 0.5, None)
    ]
    assert (found["verdict_count"], found["failed_count"], found["cost"]) == (8, 1, None)
    assert (found["readings"]["unread"], found["readings"]["parser"]) == (2, 0)


async def test_metrics_tell_intervals_counts_and_slices(world) -> None:
    place = {"model": "m", "condition": "top_1", "regime": "greedy", "n": 32}
    share = pb.MetricRow(
        **place, metric="high_risk_error_rate", value=0.0, exact_low=0.0, exact_high=0.1089, n_unread=3,
        interval="clopper_pearson", measured=pb.ShareCount(), worst_case=pb.ShareCount(events=3), worst_high=0.25,
        corrected_value=0.01, corrected_low=0.0, corrected_high=0.14,
    )  # fmt: skip
    mean = pb.MetricRow(**place, metric="latency_mean_s", value=1.0, ci_low=0.5, ci_high=1.5, interval="bootstrap")
    sliced = pb.MetricRow(**place, metric="accuracy", value=1.0, slice="modality", slice_value="CT")
    asked = []

    def answer(request: pb.GetRunMetricsRequest) -> pb.GetRunMetricsResponse:
        asked.append(list(request.slices))
        return pb.GetRunMetricsResponse(rows=[share, mean], slice_rows=[sliced])

    world.fakes.on("GetRunMetrics", answer)
    found = (await world.client.get("/api/v1/runs/demo-1/metrics?by=modality&by=subspecialty")).json()
    assert asked == [["modality", "subspecialty"]]
    first, second = found["items"]
    assert (first["exact_high"], first["worst_high"], first["n_unread"]) == (0.1089, 0.25, 3)
    assert (first["measured"]["events"], first["measured"]["n_effective"]) == (0, None)
    assert first["worst_case"]["events"] == 3
    assert (first["corrected_value"], first["corrected_high"], second["corrected_value"]) == (0.01, 0.14, None)
    assert (second["interval"], second["exact_high"], second["measured"]) == ("bootstrap", None, None)
    assert [(row["slice"], row["slice_value"]) for row in found["slice_items"]] == [("modality", "CT")]


async def test_metrics_say_what_of_the_run_is_missing(world) -> None:
    message = pb.GetRunMetricsResponse(
        verdict_count=9, planned_count=12, skipped_count=2, cached_count=4, missing=["m: 1 of 3 questions"],
        readings=pb.ReadingCounts(parser=8, unread=1, judge_failed=1), warnings={"PROMPT_MAYBE_CUT": 2},
    )  # fmt: skip
    world.fakes.on("GetRunMetrics", message)
    found = (await world.client.get("/api/v1/runs/demo-1/metrics")).json()
    assert (found["planned_count"], found["skipped_count"], found["cached_count"], found["complete"]) == (
        12,
        2,
        4,
        False,
    )
    assert (found["missing"], found["warnings"]) == (["m: 1 of 3 questions"], {"PROMPT_MAYBE_CUT": 2})
    assert (found["readings"]["parser"], found["readings"]["judge_failed"]) == (8, 1)


async def test_an_export_says_where_its_run_stands(world) -> None:
    run = orchestration_pb2.Run(run_id="demo-1", state=orchestration_pb2.RUN_STATE_CANCELLED)
    world.fakes.on("GetRun", orchestration_pb2.GetRunResponse(run=run))
    world.fakes.on("ExportVerdicts", lambda _: [pb.ExportVerdictsResponse(verdict=verdict(1, correct=True))])
    found = await world.client.get("/api/v1/runs/latest/export?format=jsonl")
    assert found.headers["x-run-state"] == "cancelled"


POLICY = "name: p\nrequirements:\n  - {metric: accuracy, condition: zero_shot, regime: greedy, min: 0.9}\n"


async def test_a_gate_tells_why(world) -> None:
    world.fakes.on("GetRun", orchestration_pb2.GetRunResponse(run=orchestration_pb2.Run(run_id="demo-1")))
    results = [
        pb.RequirementResult(metric="accuracy", direction="min", limit=0.9, bound="estimate", passed=True),
        pb.RequirementResult(metric="failed_cells", direction="max", bound="estimate", reason="2 cells have no answer"),
    ]
    world.fakes.on("EvaluatePolicy", pb.EvaluatePolicyResponse(passed=False, results=results))
    found = await world.client.post("/api/v1/runs/latest/gate", content=POLICY, headers=YAML)
    body = found.json()
    assert (found.status_code, body["run_id"], body["passed"], body["failed_requirements"]) == (200, "demo-1", False, 1)
    assert body["results"][1]["reason"] == "2 cells have no answer"
    # As services say it that knew two verdicts.
    assert (body["verdict"], [each["verdict"] for each in body["results"]]) == ("fail", ["pass", "fail"])


async def test_a_gate_that_decides_nothing_says_so(world) -> None:
    world.fakes.on("GetRun", orchestration_pb2.GetRunResponse(run=orchestration_pb2.Run(run_id="demo-1")))
    result = pb.RequirementResult(
        metric="accuracy", direction="min", limit=0.9, bound="ci_low", low=0.8, high=1.0, n=32, questions_more=40,
        verdict=pb.POLICY_VERDICT_INSUFFICIENT,
    )  # fmt: skip
    judged = pb.EvaluatePolicyResponse(results=[result], verdict=pb.POLICY_VERDICT_INSUFFICIENT, notes=["Read this."])
    world.fakes.on("EvaluatePolicy", judged)
    body = (await world.client.post("/api/v1/runs/latest/gate", content=POLICY, headers=YAML)).json()
    assert (body["verdict"], body["passed"], body["notes"]) == ("insufficient", False, ["Read this."])
    assert (body["failed_requirements"], body["insufficient_requirements"]) == (1, 1)
    found = body["results"][0]
    assert (found["verdict"], found["low"], found["high"], found["questions_more"]) == ("insufficient", 0.8, 1.0, 40)


async def test_without_a_body_the_registered_policy_judges(world) -> None:
    world.fakes.on("GetRun", orchestration_pb2.GetRunResponse(run=orchestration_pb2.Run(run_id="demo-1")))
    asked = []
    world.fakes.on("EvaluatePolicy", lambda request: asked.append(request) or pb.EvaluatePolicyResponse())
    assert (await world.client.post("/api/v1/runs/latest/gate")).status_code == 200
    assert [(each.run_id, each.policy) for each in asked] == [("demo-1", "")]
    assert (await world.client.post("/api/v1/runs/latest/gate", content=b"x")).status_code == 415


async def test_what_a_policy_can_decide_is_planned(world) -> None:
    row = pb.PlannedRequirement(metric="accuracy", model="*", n=200, needed=36, pivotal_events=189, decidable=True)
    asked = []

    def planned(request: pb.PlanPolicyRequest) -> pb.PlanPolicyResponse:
        asked.append(request)
        return pb.PlanPolicyResponse(requirements=[row], confidence=0.95, policy_name="p")

    world.fakes.on("PlanPolicy", planned)
    found = await world.client.post("/api/v1/policies/plan?questions=200", content=POLICY, headers=YAML)
    assert (found.status_code, found.json()["requirements"][0]["pivotal_events"]) == (200, 189)
    assert [(each.policy, each.question_count) for each in asked] == [(POLICY, 200)]
    for query in ("", "?questions=0", "?questions=1000001"):
        refused = await world.client.post(f"/api/v1/policies/plan{query}", content=POLICY, headers=YAML)
        assert refused.status_code == 400, query


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (POLICY.replace("accuracy", "acuracy"), "acuracy"),
        ("name: p\n", "requirements"),
        ("a: &a [1]\nb: " + "[" * 30 + "*a" + "]" * 30, "policy"),
        ("\x00", "policy"),
    ],
)
async def test_defects_of_a_policy(world, policy: str, expected: str) -> None:
    world.fakes.on("GetRun", orchestration_pb2.GetRunResponse(run=orchestration_pb2.Run(run_id="demo-1")))
    found = await world.client.post("/api/v1/runs/latest/gate", content=policy, headers=YAML)
    assert (found.status_code, found.json()["reason"]) == (400, "INVALID_SPEC")
    assert any(expected in defect for defect in found.json()["defects"])
    assert world.fakes.count("EvaluatePolicy") == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
async def test_an_export_of_nothing_says_so_before_it_begins(world, form: str) -> None:
    world.fakes.on("GetRun", orchestration_pb2.GetRunResponse(run=orchestration_pb2.Run(run_id="demo-1")))
    world.fakes.on("ExportVerdicts", lambda _: [])
    found = await world.client.get(f"/api/v1/runs/latest/export?format={form}")
    assert (found.status_code, found.json()["detail"]) == (409, "run demo-1 has no verdicts yet")


async def test_an_export_is_named_after_its_run(world) -> None:
    world.fakes.on("GetRun", orchestration_pb2.GetRunResponse(run=orchestration_pb2.Run(run_id="demo-1")))
    world.fakes.on("ExportVerdicts", lambda _: [pb.ExportVerdictsResponse(verdict=verdict(1, correct=True))])
    found = await world.client.get("/api/v1/runs/latest/export?format=jsonl")
    assert found.headers["Content-Disposition"] == 'attachment; filename="demo-1-verdicts.jsonl"'
    assert json.loads(found.text)["cell"]["question_id"] == "q1"
    found = await world.client.get("/api/v1/runs/latest/export?format=jsonl&table=answers")
    assert (found.status_code, "whole verdicts" in found.json()["detail"]) == (400, True)


async def test_a_review_is_settled_by_its_whole_id(world) -> None:
    review = pb.Review(review_id="demo-1/ab/0001/greedy", resolved=True, reviewer="Dr. A", resolved_letter="B")
    world.fakes.on("ResolveReview", pb.ResolveReviewResponse(review=review))
    body = {"reviewer": "Dr. A", "letter": "B"}
    for path in ("demo-1/ab/0001/greedy", "demo-1%2Fab%2F0001%2Fgreedy"):
        found = await world.client.post(f"/api/v1/reviews/{path}/resolution", json=body)
        assert (found.status_code, found.json()["resolved_letter"]) == (200, "B")
    assert {request.review_id for _, request in world.fakes.asked} == {"demo-1/ab/0001/greedy"}
    await world.client.post("/api/v1/reviews/x/resolution", json={"reviewer": "Dr. A"})
    assert not world.fakes.asked[-1][1].HasField("letter")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"letter": "A"}', "reviewer"),
        ('{"reviewer": "x", "letter": "AB"}', 'letter = "AB"'),
        ('{"reviewer": "x", "lettre": "A"}', "lettre"),
        ("[]", "body"),
        ("{", "Invalid JSON"),
        ('{"reviewer": "x", "letter": "B", "letter": null}', 'the key "letter" twice'),
        ('{"reviewer": "x", "letter": true}', "letter = true"),
        ('{"reviewer": "x", "note": NaN}', "the number NaN"),
    ],
)
async def test_defects_of_a_resolution(world, body: str, expected: str) -> None:
    headers = {"Content-Type": "application/json"}
    found = await world.client.post("/api/v1/reviews/x/resolution", content=body, headers=headers)
    assert (found.status_code, found.json()["reason"]) == (400, "INVALID_INPUT")
    assert expected in found.json()["defects"][0]


async def test_a_review_is_settled_once(world) -> None:
    world.fakes.on("ResolveReview", FailedPreconditionError("review 'x' was settled by Dr. B"))
    found = await world.client.post("/api/v1/reviews/x/resolution", json={"reviewer": "Dr. A"})
    assert (found.status_code, found.json()["detail"]) == (409, "review 'x' was settled by Dr. B")
