"""The gateway keeps what its OpenAPI description promises, on a real host that has a run; nothing drawn finds a 5xx."""

import asyncio
import atexit
import functools
import tempfile
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import (
    CoveragePhaseConfig,
    ExamplesPhaseConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from tests.support.fakes.varied_model import MODEL, VariedModel

from safescale.app.host import Host, HostOptions
from safescale.gateway.app import create_app
from safescale.gateway.config import Addresses, GatewayConfig
from safescale.gateway.context import Gateway
from safescale.gateway.server import serve
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

pytestmark = pytest.mark.timeout(300)

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = {
    "name": "contract",
    "benchmark": "contract",
    "models": [MODEL],
    "conditions": ["zero_shot"],
    "formulation": "letter",
    "regimes": {"greedy": True, "self_consistency": {"samples": 2}},
}
JSON_LINES = {"Content-Type": "application/x-ndjson"}
START_S = 120


async def host_and_gateway(told: Callable[[str, Callable[[], None]], None]) -> None:
    """An embedded host and the gateway before it, until the callback that is handed out is called."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder, VariedModel() as model:
        catalog = Path(folder, "models.yaml")
        catalog.write_text(model.catalog())  # noqa: ASYNC240
        async with Host(Settings(data_dir=Path(folder, "data"), models_file=catalog), HostOptions()) as host:
            config = GatewayConfig(Addresses(*[host.address] * 4), Telemetry())
            await serve(config, stop, lambda address: told(address, lambda: loop.call_soon_threadsafe(stop.set)))


@functools.cache
def base_url() -> str:
    """The gateway's URL. It starts once, in a thread: fixtures of a described test end with each operation."""
    found: list[str] = []
    ready = threading.Event()

    def told(address: str, stop: Callable[[], None]) -> None:
        def end() -> None:
            stop()
            thread.join(START_S)

        atexit.register(end)
        found.append(f"http://{address}")
        ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(host_and_gateway(told)), daemon=True)
    thread.start()
    assert ready.wait(START_S)
    measure(found[0])
    return found[0]


def measure(url: str) -> None:
    questions = "\n".join((EXAMPLES / "benchmark" / "radiology-mini.jsonl").read_text().splitlines()[:2])
    with httpx.Client(base_url=f"{url}/api/v1", timeout=START_S) as client:
        stored = client.post("/benchmarks", params={"name": "contract"}, content=questions, headers=JSON_LINES)
        assert stored.status_code == 201, stored.text
        created = client.post("/runs", json=SPEC)
        assert created.status_code == 201, created.text
        client.get("/runs/latest/events")
        assert client.get("/runs/latest").json()["state"] == "completed"


@schemathesis.serializer("application/x-ndjson", "text/csv", "application/yaml")
def _as_it_is(_, value):
    return {"data": value if isinstance(value, bytes) else str(value).encode(errors="replace")}


DESCRIPTION = create_app(Gateway(GatewayConfig(Addresses(*["127.0.0.1:1"] * 4), Telemetry()), services=None)).openapi()


def described(**project) -> schemathesis.BaseSchema:
    found = ProjectConfig(request_timeout=START_S, **project)
    config = SchemathesisConfig(projects=ProjectsConfig(default=found))
    return schemathesis.openapi.from_dict(deepcopy(DESCRIPTION), config=config)


DRAWN_ALONE = PhasesConfig(examples=ExamplesPhaseConfig(enabled=False), coverage=CoveragePhaseConfig(enabled=False))
ANY = described()
OF_THE_RUN = described(parameters={"path.run": "latest"}, phases=DRAWN_ALONE)

# What makes a text a benchmark or a policy cannot be said by a schema.
UNSAYABLE = [positive_data_acceptance]
# A check answers 200 whatever it is given: that the body is wrong is its answer.
CHECKS = "/api/v1/validations"


@ANY.parametrize()
@settings(max_examples=10, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_every_operation_answers_as_described(case) -> None:
    unsayable = [negative_data_rejection] if case.operation.path.startswith(CHECKS) else []
    case.call_and_validate(base_url=base_url(), excluded_checks=[*UNSAYABLE, *unsayable])


# A report takes a second each; one is read in the integration test.
@OF_THE_RUN.include(path_regex="/runs/{run}").exclude(path_regex="report").parametrize()
@settings(max_examples=5, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_every_operation_on_a_run_answers_as_described(case) -> None:
    case.call_and_validate(base_url=base_url(), excluded_checks=UNSAYABLE)


def test_every_operation_has_an_id_a_tag_a_summary_and_examples() -> None:
    operations = [operation for path in ANY.raw_schema["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) > 20
    for operation in operations:
        assert operation["tags"]
        assert operation["summary"]
        bodies = [*operation.get("requestBody", {}).get("content", {}).values()]
        for status, response in operation["responses"].items():
            if status != "204":
                bodies += response["content"].values()
        assert all(body["example"] for body in bodies), operation["operationId"]
        for parameter in operation.get("parameters", []):
            described = parameter["schema"]
            assert parameter.get("description"), (operation["operationId"], parameter["name"])
            closed = "enum" in described or described.get("type") == "boolean" or "default" in described
            assert closed or parameter.get("example") or described.get("examples"), parameter["name"]


def test_operations_take_a_bearer_token_or_none_and_health_none() -> None:
    assert ANY.raw_schema["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in ANY.raw_schema["paths"].items():
        expected = [{"bearer": []}, {}] if path.startswith("/api/v1/") else []
        assert [operation["security"] for operation in operations.values()] == [expected] * len(operations), path


def test_nothing_is_answered_as_the_framework_would() -> None:
    for path in ANY.raw_schema["paths"].values():
        for operation in path.values():
            assert "422" not in operation["responses"]
