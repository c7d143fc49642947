"""What is around every request."""

import asyncio
import contextlib
import io
import json

import httpx
import pytest

from safescale.core.errors import BackendOverloadedError, NotFoundError
from safescale.gateway.config import Limits
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.log import configure_logging

SECRET = "the patient of bed 4 has a pneumothorax"
PROBLEM = "application/problem+json"
RUN = pb.Run(run_id="demo-1", state=pb.RUN_STATE_RUNNING, manifest=pb.Manifest())


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/api/v1/runs/", 404, "NOT_FOUND"),
        ("DELETE", "/api/v1/runs", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/v1/runs?page_size=5000", 400, "INVALID_INPUT"),
        ("GET", "/api/v1/runs?page_sise=5", 400, "INVALID_INPUT"),
        ("GET", "/api/v1/runs/RUN_1", 400, "INVALID_INPUT"),
        ("POST", "/api/v1/runs", 415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
)
async def test_every_refusal_is_a_problem(world, method: str, path: str, status: int, reason: str) -> None:
    found = await world.client.request(method, path)
    problem = found.json()
    assert (found.status_code, found.headers["Content-Type"]) == (status, PROBLEM)
    assert (problem["status"], problem["reason"], problem["retryable"]) == (status, reason, False)
    assert problem["type"] == f"urn:safescale:error:{reason.lower()}"


async def test_a_wrong_method_is_told_the_right_ones(world) -> None:
    assert (await world.client.delete("/api/v1/runs")).headers["Allow"] == "GET, POST"


async def test_defects_name_place_value_and_expectation(world) -> None:
    found = await world.client.get("/api/v1/runs/demo-1/verdicts?page_size=x&outcome=good")
    assert sorted(found.json()["defects"]) == [
        "query: outcome = \"good\"; expected input should be 'correct', 'wrong', 'high_risk_error', 'unsafe_answer', "
        "'contradiction', 'abstention', 'unread' or 'failed'",
        'query: page_size = "x"; expected input should be a valid integer, unable to parse string as an integer',
    ]
    found = await world.client.get("/api/v1/runs/demo-1/verdicts?modle=m&page=2")
    first, second = found.json()["defects"]
    assert first.startswith('query: modle = "m"; expected one of condition, cursor, failed, model')
    assert second.startswith('query: page = "2"')


async def test_defects_of_a_service_are_a_list(world) -> None:
    world.fakes.on("GetRun", NotFoundError("two defects:\n  first\n  second"))
    found = await world.client.get("/api/v1/runs/demo-1")
    assert (found.json()["detail"], found.json()["defects"]) == ("two defects:", ["first", "second"])


async def test_a_request_has_an_id_and_careful_headers(world) -> None:
    found = await world.client.get("/healthz", headers={"X-Request-Id": "from-the-caller-1"})
    assert found.headers["X-Request-Id"] == "from-the-caller-1"
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in found.headers["Content-Security-Policy"]
    made = (await world.client.get("/healthz", headers={"X-Request-Id": "not an id " * 20})).headers["X-Request-Id"]
    assert len(made) == 32


async def test_an_overloaded_model_is_429_with_a_time(world) -> None:
    world.fakes.on("GetModel", BackendOverloadedError("too much"))
    found = await world.client.get("/api/v1/models/m")
    assert (found.status_code, found.headers["Retry-After"]) == (429, "5")


async def test_an_unknown_error_says_nothing_of_its_text(world) -> None:
    world.fakes.on("GetModel", ValueError(SECRET))
    log = io.StringIO()
    configure_logging("INFO", log)
    found = await world.client.get("/api/v1/models/m")
    assert (found.status_code, found.json()["reason"]) == (500, "INTERNAL")
    assert SECRET not in found.text + log.getvalue()


async def test_a_defect_of_our_own_is_logged_by_place_alone(world, monkeypatch) -> None:
    def broken(_message: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr("safescale.gateway.api.models.plain", broken)
    world.fakes.on("ListModels", inference_pb2.ListModelsResponse(models=[inference_pb2.Model(id="m")]))
    log = io.StringIO()
    configure_logging("INFO", log)
    found = await world.client.get("/api/v1/models", headers={"X-Request-Id": "r-1"})
    assert (found.status_code, found.headers["Content-Type"]) == (500, PROBLEM)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    failed = next(line for line in lines if line["event"] == "request failed")
    assert (failed["request_id"], failed["exception_type"]) == ("r-1", "ValueError")
    assert SECRET not in found.text + log.getvalue()


async def test_what_passes_through_is_not_logged(world) -> None:
    world.fakes.on("ListReviews", scoring_pb2.ListReviewsResponse(reviews=[scoring_pb2.Review(text=SECRET)]))
    log = io.StringIO()
    configure_logging("DEBUG", log)
    shown = await world.client.get("/api/v1/reviews")
    checked = await world.client.post(
        "/api/v1/validations/corpus", content=SECRET, headers={"Content-Type": "application/jsonl"}
    )
    assert SECRET in shown.text
    assert checked.status_code == 200
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["route"] for line in lines] == ["/api/v1/reviews", "/api/v1/validations/corpus"]
    assert SECRET not in log.getvalue()


async def test_times_are_by_route_and_not_by_id(world) -> None:
    world.fakes.on("GetRun", pb.GetRunResponse(run=RUN))
    for name in ("demo-1", "demo-2"):
        await world.client.get(f"/api/v1/runs/{name}")
    await world.client.request("BREW", "/coffee")
    text = (await world.client.get("/metrics")).text
    count = 'safescale_http_seconds_count{method="GET",route="/api/v1/runs/{run}",status="200"} 2.0'
    assert count in text
    assert 'method="other",route="none",status="404"' in text


async def test_a_page_of_elsewhere_may_not_write(world) -> None:
    url = "/api/v1/runs/demo-1/cancel"
    foreign = await world.client.post(url, headers={"Origin": "http://evil.example"})
    assert (foreign.status_code, foreign.json()["reason"]) == (403, "FOREIGN_ORIGIN")
    assert world.fakes.count("CancelRun") == 0
    world.fakes.on("CancelRun", pb.CancelRunResponse(run=RUN))
    assert (await world.client.post(url, headers={"Origin": "http://gateway"})).status_code == 200
    assert (await world.client.post(url, headers={"Origin": "http://[bad"})).status_code == 403


async def test_no_page_of_elsewhere_may_read(world) -> None:
    found = await world.client.get("/healthz", headers={"Origin": "http://portal.example"})
    assert "Access-Control-Allow-Origin" not in found.headers


@pytest.mark.parametrize("cors_origins", [("http://portal.example",)])
async def test_pages_of_named_origins_may_do_both(world) -> None:
    headers = {"Origin": "http://portal.example"}
    world.fakes.on("CancelRun", pb.CancelRunResponse(run=RUN))
    found = await world.client.post("/api/v1/runs/demo-1/cancel", headers=headers)
    assert (found.status_code, found.headers["Access-Control-Allow-Origin"]) == (200, "http://portal.example")
    refused = await world.client.get("/nothing", headers=headers)
    assert refused.headers["Access-Control-Allow-Origin"] == "http://portal.example"


@pytest.mark.parametrize("limits", [Limits(requests=0)])
async def test_too_many_requests_at_once_are_refused_but_health_is_not(world) -> None:
    found = await world.client.get("/api/v1/runs")
    assert (found.status_code, found.json()["reason"], found.headers["Retry-After"]) == (503, "OVERLOADED", "5")
    assert (await world.client.get("/healthz")).status_code == 200
    assert (await world.client.get("/readyz")).status_code == 200


async def test_an_answer_that_breaks_on_the_way_is_cut_and_not_ended(world) -> None:
    verdict = scoring_pb2.Verdict(formulation=common_pb2.FORMULATION_LETTER)
    many = [scoring_pb2.ExportVerdictsResponse(verdict=verdict)] * 400
    world.fakes.on("GetRun", pb.GetRunResponse(run=pb.Run(run_id="demo-1")))
    world.fakes.on("ExportVerdicts", lambda _: [*many, NotFoundError("gone")])
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    async def receive() -> dict:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "method": "GET", "path": "/api/v1/runs/demo-1/export", "query_string": b"format=csv",
        "headers": [(b"host", b"gateway")], "scheme": "http", "server": ("gateway", 80), "client": ("c", 1),
        "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    with contextlib.suppress(httpx.HTTPError):
        await world.client._transport.app(scope, receive, send)
    assert (sent[0]["type"], sent[0]["status"]) == ("http.response.start", 200)
    assert len(sent) > 1
    assert all(message.get("more_body") for message in sent[1:])


async def test_a_problem_shows_what_no_reader_can_see(world) -> None:
    world.fakes.on("GetRun", NotFoundError("no run \x1b[2J\u202e:\n  b\x0b"))
    found = await world.client.get("/api/v1/runs/demo-1")
    assert (found.json()["detail"], found.json()["defects"]) == ("no run \\x1b[2J\\u202e:", ["b\\x0b"])
    for query in ("page_size=%1B%00", "x%E2%80%AE=1", "page_size=%ED%A0%80", "%FF=%C2%9B"):
        found = await world.client.get(f"/api/v1/runs/demo-1/verdicts?{query}")
        assert found.status_code == 400
        assert not {"\x1b", "\x00", "\u202e", "\x9b"} & set(found.json()["detail"] + "".join(found.json()["defects"]))


RUNS = "/api/v1/runs"


@pytest.mark.parametrize("allowed_hosts", [("review.example",)])
@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "localhost:8080",
        "127.0.0.1:1",
        "127.0.0.2",
        "[::1]:8080",
        "[::1]",
        "LOCALHOST",
        "Review.Example:443",
    ],
)
async def test_a_gateway_on_loopback_answers_to_its_own_names(world, name: str) -> None:
    world.fakes.on("ListRuns", pb.ListRunsResponse())
    assert (await world.client.get(RUNS, headers={"Host": name})).status_code == 200


@pytest.mark.parametrize("path", [RUNS, "/metrics", "/api/v1/openapi.json", "/nothing"])
@pytest.mark.parametrize(
    "name",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.7", "", "["],
)
async def test_a_name_that_somebody_pointed_at_loopback_is_refused(world, path: str, name: str) -> None:
    found = await world.client.get(path, headers={"Host": name})
    assert (found.status_code, found.json()["reason"]) == (421, "UNKNOWN_HOST")
    posted = await world.client.post(RUNS, headers={"Host": name, "Origin": f"http://{name}"})
    assert posted.status_code == 421
    assert world.fakes.asked == []
    assert (await world.client.get("/healthz", headers={"Host": name})).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("allowed_hosts", [(), ("review.example",)])
async def test_a_gateway_that_others_reach_is_held_to_the_names_that_are_set(world, host, allowed_hosts) -> None:
    world.fakes.on("ListRuns", pb.ListRunsResponse())
    statuses = {
        name: (await world.client.get(RUNS, headers={"Host": name})).status_code
        for name in ("review.example", "10.0.0.7:8080", "[fd00::7]:8080", "localhost", "evil.example")
    }
    assert statuses.pop("evil.example") == (421 if allowed_hosts else 200)
    assert set(statuses.values()) == {200}
