"""Runs over REST: specs, repeats, events."""

import json

import pytest

from safescale.core.errors import FailedPreconditionError, NotFoundError, SpecError
from safescale.gateway.config import Limits
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2

YAML = {"Content-Type": "application/yaml"}
SPEC = "name: demo\nbenchmark: mini\ncorpus: articles\nmodels: [m]\nconditions: [top_1, zero_shot]\n"


@pytest.fixture
def stored(world):
    world.fakes.on(
        "ListBenchmarks",
        pb.ListBenchmarksResponse(
            benchmarks=[
                pb.Benchmark(benchmark_id="b1", name="mini"),
                pb.Benchmark(benchmark_id="b2", name="twice"),
                pb.Benchmark(benchmark_id="b3", name="twice"),
            ]
        ),
    )
    corpora = [retrieval_pb2.Corpus(corpus_id="c1", name="articles")]
    world.fakes.on("ListCorpora", retrieval_pb2.ListCorporaResponse(corpora=corpora))
    world.fakes.on("CreateRun", lambda request: pb.CreateRunResponse(run=run(), resumed=request.spec.name == "again"))
    return world


def run(state=pb.RUN_STATE_RUNNING, attempt: int = 1) -> pb.Run:
    return pb.Run(run_id="demo-1", state=state, attempt=attempt, manifest=pb.Manifest())


def asked(world, name: str):
    return [request for each, request in world.fakes.asked if each == name]


async def test_a_spec_in_yaml_or_json_makes_the_same_request(stored) -> None:
    body = {"name": "demo", "benchmark": "b1", "corpus": "c1", "models": ["m"], "conditions": ["zero_shot", "top_1"]}
    first = await stored.client.post("/api/v1/runs", content=SPEC, headers=YAML)
    second = await stored.client.post("/api/v1/runs", json=body)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.headers["Location"] == "/api/v1/runs/demo-1"
    one, two = asked(stored, "CreateRun")
    assert one == two
    assert (one.spec.benchmark_id, one.spec.corpus_id, list(one.spec.conditions)) == (
        "b1",
        "c1",
        ["zero_shot", "top_1"],
    )


async def test_a_spec_says_more_of_a_stored_benchmark_for_its_run_alone(stored) -> None:
    spec = SPEC.replace("mini", "{questions: mini, clinician_validated: true, name: ward}")
    assert (await stored.client.post("/api/v1/runs", content=spec, headers=YAML)).status_code == 201
    assert (await stored.client.post("/api/v1/runs", content=SPEC, headers=YAML)).status_code == 201
    stated, silent = (request.spec for request in asked(stored, "CreateRun"))
    assert (stated.benchmark_id, stated.clinician_validated, stated.benchmark_name) == ("b1", True, "ward")
    assert not silent.HasField("clinician_validated")
    spec = SPEC.replace("mini", "{questions: mini, labels: l.json}")
    refused = await stored.client.post("/api/v1/runs", content=spec, headers=YAML)
    assert (refused.status_code, "benchmark.labels" in refused.text) == (400, True)


async def test_a_spec_holds_the_text_of_its_policy_since_no_file_is_read(stored) -> None:
    policy = "name: p\nrequirements: [{metric: accuracy, min: 0.9}]\n"
    body = {"name": "demo", "benchmark": "b1", "models": ["m"], "conditions": ["zero_shot"], "policy": policy}
    assert (await stored.client.post("/api/v1/runs", json=body)).status_code == 201
    assert [request.spec.policy.text for request in asked(stored, "CreateRun")] == [policy]
    refused = await stored.client.post("/api/v1/runs", json={**body, "policy": "policy.yaml"})
    assert (refused.status_code, "the text of the policy itself" in refused.text) == (400, True)


async def test_a_run_that_is_there_is_200(stored) -> None:
    found = await stored.client.post("/api/v1/runs", content=SPEC.replace("demo", "again"), headers=YAML)
    assert (found.status_code, found.json()["resumed"]) == (200, True)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "mini",
            "nothing",
            "spec: benchmark = 'nothing'; expected the id or the name of a stored one (there are: m",
        ),
        ("mini", "twice", "several have this name: b2, b3"),
        ("mini", "{questions: q.jsonl}", "expected the id or the name of a stored benchmark"),
        ("articles", "other", "spec: corpus = 'other'"),
        ("models: [m]", "models: []", "spec:4: models = []"),
        ("name: demo", "name: demo\nname: two", "the key 'name' twice"),
        (SPEC, "[1", "valid YAML"),
    ],
)
async def test_defects_of_a_spec(stored, old: str, new: str, expected: str) -> None:
    found = await stored.client.post("/api/v1/runs", content=SPEC.replace(old, new), headers=YAML)
    assert (found.status_code, found.json()["reason"]) == (400, "INVALID_SPEC")
    assert any(expected in defect for defect in found.json()["defects"]), found.json()
    assert "\n" not in found.json()["detail"]
    assert not asked(stored, "CreateRun")


async def test_what_orchestration_finds_wrong_is_listed(stored) -> None:
    stored.fakes.on("CreateRun", SpecError("run spec 'demo' cannot be run:\n  models: x: is not in the catalog"))
    found = await stored.client.post("/api/v1/plans", content=SPEC, headers=YAML)
    assert found.json()["defects"] == ["models: x: is not in the catalog"]
    assert asked(stored, "CreateRun")[0].validate_only


async def test_a_key_is_taken_where_a_repeat_is_harmless_alone(stored) -> None:
    headers = {**YAML, "Idempotency-Key": "k-1"}
    assert (await stored.client.post("/api/v1/runs", content=SPEC, headers=headers)).status_code == 201
    found = await stored.client.post("/api/v1/runs?new=true", content=SPEC, headers=headers)
    assert (found.status_code, found.json()["reason"]) == (400, "IDEMPOTENCY_NOT_POSSIBLE")
    found = await stored.client.post("/api/v1/runs/demo-1/retry", headers={"Idempotency-Key": "k-1"})
    assert (found.status_code, "attempt=N" in found.json()["detail"]) == (400, True)
    found = await stored.client.post("/api/v1/runs", content=SPEC, headers={**YAML, "Idempotency-Key": "x" * 256})
    assert found.status_code == 400
    assert [request.force_new for request in asked(stored, "CreateRun")] == [False]


async def test_new_starts_another_run(stored) -> None:
    assert (await stored.client.post("/api/v1/runs?new=true", content=SPEC, headers=YAML)).status_code == 201
    assert asked(stored, "CreateRun")[0].force_new


async def test_a_cancelled_run_can_be_cancelled_again(world) -> None:
    world.fakes.on("CancelRun", FailedPreconditionError("run demo-1 is not running: it is cancelled"))
    world.fakes.on("GetRun", pb.GetRunResponse(run=run(pb.RUN_STATE_CANCELLED)))
    found = await world.client.post("/api/v1/runs/demo-1/cancel")
    assert (found.status_code, found.json()["state"]) == (200, "cancelled")
    world.fakes.on("GetRun", pb.GetRunResponse(run=run(pb.RUN_STATE_COMPLETED)))
    assert (await world.client.post("/api/v1/runs/demo-1/cancel")).status_code == 409


@pytest.mark.parametrize(
    ("attempt", "status", "retried", "calls"), [(0, 200, 3, 1), (2, 200, 3, 1), (1, 200, 0, 0), (3, 409, None, 0)]
)
async def test_a_retry_names_the_attempt_that_failed(world, attempt: int, status: int, retried, calls: int) -> None:
    world.fakes.on("GetRun", pb.GetRunResponse(run=run(pb.RUN_STATE_COMPLETED, attempt=2)))
    world.fakes.on("RetryFailed", pb.RetryFailedResponse(run=run(attempt=3), retried_count=3))
    found = await world.client.post(f"/api/v1/runs/demo-1/retry?attempt={attempt}")
    assert (found.status_code, found.json().get("retried_count")) == (status, retried)
    assert world.fakes.count("RetryFailed") == calls
    assert all(request.attempt == attempt for request in asked(world, "RetryFailed"))


async def test_of_two_equal_retries_at_once_the_second_has_what_it_asked_for(world) -> None:
    seen = iter([run(pb.RUN_STATE_COMPLETED, attempt=2), run(attempt=3)])
    world.fakes.on("GetRun", lambda _: pb.GetRunResponse(run=next(seen)))
    world.fakes.on("RetryFailed", FailedPreconditionError("run demo-1 is at attempt 3, not 2"))
    found = await world.client.post("/api/v1/runs/demo-1/retry?attempt=2")
    assert (found.status_code, found.json()["retried_count"]) == (200, 0)


async def test_a_retry_that_is_refused_for_another_reason_is_refused(world) -> None:
    world.fakes.on("GetRun", pb.GetRunResponse(run=run(pb.RUN_STATE_COMPLETED, attempt=2)))
    world.fakes.on("RetryFailed", FailedPreconditionError("model m: revision was r1 and is r2"))
    found = await world.client.post("/api/v1/runs/demo-1/retry?attempt=2")
    assert (found.status_code, "revision was r1" in found.json()["detail"]) == (409, True)


def update(completed: int, state=pb.RUN_STATE_RUNNING) -> pb.WatchRunResponse:
    cells = [pb.CellProgress(model="m", condition="zero_shot", planned=2, completed=completed)]
    return pb.WatchRunResponse(state=state, progress=pb.Progress(cells=cells))


def ids(text: str) -> list[str]:
    return [line[4:] for line in text.splitlines() if line.startswith("id: ")]


async def test_events_come_to_their_end_and_are_not_sent_twice(world) -> None:
    world.fakes.on("GetRun", pb.GetRunResponse(run=run()))
    world.fakes.on("WatchRun", lambda _: [update(1), 0.2, update(2, pb.RUN_STATE_COMPLETED)])
    found = await world.client.get("/api/v1/runs/demo-1/events")
    assert found.headers["Content-Type"].startswith("text/event-stream")
    assert ids(found.text) == ["1.running.1.0.0", "1.completed.2.0.0"]
    assert ": ping" in found.text
    data = next(line for line in found.text.splitlines() if line.startswith("data: "))
    assert json.loads(data[6:])["run_id"] == "demo-1"
    again = await world.client.get("/api/v1/runs/demo-1/events", headers={"Last-Event-ID": "1.running.1.0.0"})
    assert ids(again.text) == ["1.completed.2.0.0"]
    world.fakes.on("WatchRun", lambda _: [update(2, pb.RUN_STATE_COMPLETED)])
    over = await world.client.get("/api/v1/runs/demo-1/events", headers={"Last-Event-ID": "1.completed.2.0.0"})
    assert (over.status_code, over.content) == (204, b"")


async def test_a_run_that_is_not_there_has_no_events(world) -> None:
    world.fakes.on("GetRun", NotFoundError("no run"))
    assert (await world.client.get("/api/v1/runs/demo-1/events")).status_code == 404
    world.fakes.on("GetRun", pb.GetRunResponse(run=run()))
    world.fakes.on("WatchRun", lambda _: [NotFoundError("no run")])
    assert (await world.client.get("/api/v1/runs/demo-1/events")).status_code == 404


@pytest.mark.parametrize("limits", [Limits(event_streams=1)])
async def test_streams_are_limited_and_give_their_place_back(world) -> None:
    world.fakes.on("GetRun", pb.GetRunResponse(run=run()))
    world.fakes.on("WatchRun", lambda _: [update(1), update(2, pb.RUN_STATE_COMPLETED)])
    with world.gateway.event_streams.take():
        assert (await world.client.get("/api/v1/runs/demo-1/events")).status_code == 429
    for _ in range(2):
        assert (await world.client.get("/api/v1/runs/demo-1/events")).status_code == 200
    world.fakes.on("WatchRun", lambda _: [NotFoundError("gone")])
    for _ in range(2):
        assert (await world.client.get("/api/v1/runs/demo-1/events")).status_code == 404


async def test_runs_come_in_pages(world) -> None:
    world.fakes.on(
        "ListRuns", lambda request: pb.ListRunsResponse(runs=[run()], next_page_token=request.page_token + "x")
    )
    found = await world.client.get("/api/v1/runs?page_size=1&cursor=a&series=nightly")
    assert (found.json()["next_cursor"], found.json()["items"][0]["run_id"]) == ("ax", "demo-1")
    assert asked(world, "ListRuns")[0] == pb.ListRunsRequest(page_size=1, page_token="a", series="nightly")


async def test_a_size_that_is_not_known_is_none(world) -> None:
    models = [pb.ManifestModel(id="a", parameters_b=7), pb.ManifestModel(id="b")]
    run = pb.Run(run_id="demo-1", manifest=pb.Manifest(models=models, judge=pb.ManifestModel(id="j")))
    world.fakes.on("GetRun", pb.GetRunResponse(run=run))
    manifest = (await world.client.get("/api/v1/runs/demo-1")).json()["manifest"]
    assert [model["parameters_b"] for model in (*manifest["models"], manifest["judge"])] == [7, None, None]
    rows = [inference_pb2.Model(id="a", parameters_b=7), inference_pb2.Model(id="b")]
    world.fakes.on("ListModels", inference_pb2.ListModelsResponse(models=rows))
    world.fakes.on("GetModel", inference_pb2.GetModelResponse(model=rows[1]))
    found = (await world.client.get("/api/v1/models")).json()["items"]
    assert [model["parameters_b"] for model in found] == [7, None]
    assert (await world.client.get("/api/v1/models/b")).json()["parameters_b"] is None
