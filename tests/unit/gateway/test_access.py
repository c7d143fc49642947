"""Who may not call is told so before their body is read."""

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from safescale.core.errors import InvalidInputError
from safescale.gateway.app import create_app
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.auth.guard import Guard
from safescale.runtime.auth.roles import HELD, Identity
from safescale.runtime.auth.tokens import digest

OPEN = {"/healthz", "/readyz", "/metrics"}
KINDS = {
    "/api/v1/benchmarks": "application/x-ndjson", "/api/v1/validations/benchmark": "multipart/form-data; boundary=x",
    "/api/v1/corpora": "application/x-ndjson", "/api/v1/validations/corpus": "application/x-ndjson",
    "/api/v1/reviews/{review_id}/resolution": "application/json",
}  # fmt: skip


@pytest.fixture
def guard() -> Guard:
    known = {digest(f"secret-{role}"): Identity(role, HELD[role], "token") for role in HELD}
    return Guard(SimpleNamespace(get=lambda: known), None)  # type: ignore[arg-type]


class Body:
    """A large body that tells whether it was read."""

    def __init__(self) -> None:
        self.read = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.read = True
        for _ in range(30):
            yield b"x" * 1024 * 1024


def routes(world) -> list[tuple[str, str]]:
    paths = create_app(world.gateway).openapi()["paths"]
    return [(method, path) for path, operations in paths.items() for method in operations if path not in OPEN]


def filled(path: str) -> str:
    names = {"{run}": "demo-1", "{model}": "m", "{review_id}": "r", "{benchmark_id}": "0" * 64}
    for name, value in names.items():
        path = path.replace(name, value)
    return path


@pytest.mark.parametrize("token", [None, "Bearer nobody", "Basic dTpw", "Bearer \xff", "Bearer " + "x" * 20_000])
async def test_every_route_asks_for_a_token_before_it_reads(world, token: str | None) -> None:
    found = routes(world)
    assert len(found) >= 20
    for method, path in found:
        body = Body()
        headers = {"Content-Type": KINDS.get(path, "application/yaml")}
        if token is not None:
            headers["Authorization"] = token.encode("latin-1")
        answer = await world.client.request(method, filled(path), headers=headers, content=body)
        assert (answer.status_code, body.read) == (401, False), (method, path, answer.text)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert world.fakes.asked == []


@pytest.mark.parametrize(
    ("role", "path", "needed"),
    [
        ("viewer", "/api/v1/benchmarks", "runner"),
        ("reviewer", "/api/v1/validations/benchmark", "runner"),
        ("viewer", "/api/v1/corpora", "runner"),
        ("viewer", "/api/v1/validations/corpus", "runner"),
        ("reviewer", "/api/v1/runs", "runner"),
        ("viewer", "/api/v1/plans", "runner"),
        ("runner", "/api/v1/reviews/r/resolution", "reviewer"),
    ],
)
async def test_a_role_that_is_not_enough_is_told_before_the_body_is_read(world, role: str, path: str, needed) -> None:
    body = Body()
    headers = {"Authorization": f"Bearer secret-{role}"}
    answer = await world.client.post(path, headers=headers, content=body)
    assert (answer.status_code, body.read) == (403, False)
    assert f"the role {needed}" in answer.json()["detail"]
    assert world.fakes.asked == []


async def test_who_may_is_asked_once_and_the_service_sees_the_real_request_alone(world) -> None:
    world.fakes.on("ListBenchmarks", pb.ListBenchmarksResponse())
    headers = {"Authorization": "Bearer secret-runner", "Content-Type": "application/yaml"}
    answer = await world.client.post("/api/v1/plans", headers=headers, content="name: x")
    assert answer.status_code == 400
    assert world.fakes.count("CreateRun") == 0
    assert (await world.client.post("/api/v1/validations/corpus", headers=headers, content="x")).status_code == 415


async def test_a_service_that_decides_and_is_away_lets_nobody_in(world) -> None:
    await world.stop()
    body = Body()
    answer = await world.client.post("/api/v1/validations/benchmark", content=body)
    assert (answer.status_code, body.read) == (503, False)


async def test_a_service_that_does_not_know_the_question_lets_in(world, monkeypatch) -> None:
    """One of an older version: it answers the empty request itself."""
    monkeypatch.setattr("safescale.gateway.access.CHECK", "x-unknown-there")
    world.fakes.on("CreateRun", InvalidInputError("the spec is empty"))
    headers = {"Authorization": "Bearer secret-runner", "Content-Type": "application/yaml"}
    answer = await world.client.post("/api/v1/plans", headers=headers, content="name: x")
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_SPEC")
