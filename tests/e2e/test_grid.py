"""The grid as hospitals run it, and what is left of it when its parts are killed."""

import json
import math
import re
import time
import urllib.parse
from collections import Counter

import pytest
from tests.e2e.background import Background, run_id_in
from tests.e2e.conftest import Letters, letters_of
from tests.e2e.grid import MODEL_SERVERS, SERVICES, Grid, http
from tests.integration.conftest import EXAMPLES, CommandLine
from tests.support.containers import wait_for
from tests.support.prometheus_queries import dashboards, panels, rendered

from safescale.core.safety.conditions import CONDITIONS

pytestmark = [pytest.mark.grid, pytest.mark.models, pytest.mark.timeout(1500)]

DEMO = str(EXAMPLES / "runs" / "demo.yaml")
POLICIES = EXAMPLES / "policies"
DEMO_CONDITIONS = ("zero_shot", "evidence_clean", "evidence_conflict", "top_1")
DEMO_QUESTIONS = 32
DEMO_CELLS = DEMO_QUESTIONS * len(DEMO_CONDITIONS)
AWAY_S = 10.0
"""Seconds for which Kafka and Elasticsearch stay away."""

IN_FLIGHT = 3
"""Cells in flight at once: one at each model server, and one that waits for either."""

MOST_REQUESTS_OF_A_CELL = 6
"""Completions of a cell whose question has five options: the prompt, then the prompt with each option."""

MAY_BE_0 = {
    *(("agent", panel["title"]) for panel in panels(dashboards()["agent"])),
    ("bus", "Dead letters"),
    ("bus", "Elasticsearch: failures"),
    ("bus", "gRPC: failures"),
    ("bus", "REST: failures"),
    ("latency", "Judge"),
    ("throughput", "Cells per hour"),
    ("throughput", "Failures"),
    ("throughput", "Repeated attempts"),
}
"""Panels of which a query may truly be 0 while a run without an agent and a judge goes well."""


def demo_questions() -> list[dict[str, dict[str, str]]]:
    lines = (EXAMPLES / "benchmark" / "radiology-mini.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:DEMO_QUESTIONS]]


def at_least(grid: Grid, run_id: str, verdicts: int):
    def check() -> None:
        found = grid.documents("verdict", run_id)
        assert found >= verdicts, f"{found} verdicts"

    return check


@pytest.fixture(scope="module")
def demo_run(grid: Grid, remote: CommandLine, demo_letters: Letters) -> str:
    """The demo through the grid, with every part killed once on the way; its id."""
    assert len(demo_letters) == DEMO_CELLS
    before = len(grid.requests()) if (grid.folder / f"{MODEL_SERVERS[0]}.jsonl").exists() else 0
    assert before == 0
    run = Background(remote, DEMO, "--no-report")
    victims = [(name, 0.0) for name in SERVICES] + [("kafka", AWAY_S), ("elasticsearch", AWAY_S)]
    for number, (name, away_s) in enumerate(victims):
        wait_for("the run", at_least(grid, run.run_id, 8 + 16 * number), seconds=600)
        grid.kill(name)
        time.sleep(away_s)
        grid.start(name)
    wait_for("the run's end", at_least(grid, run.run_id, DEMO_CELLS), seconds=600)
    code, said = run.finish()
    assert code == 0, said
    return run.run_id


def test_every_cell_has_one_verdict_and_the_letter_of_the_embedded_run(
    grid: Grid, remote: CommandLine, demo_run: str, demo_letters: Letters
) -> None:
    assert grid.documents("verdict", demo_run) == DEMO_CELLS
    assert grid.documents("generation-cell", demo_run) == DEMO_CELLS
    assert letters_of(remote, demo_run) == demo_letters


def test_no_work_is_done_twice_but_that_in_flight_at_a_kill(grid: Grid, demo_run: str) -> None:
    asked = Counter(each["sha256"] for each in grid.requests() if str(each["path"]).endswith("/completions"))
    kills = len(SERVICES) + 2
    needed = sum(1 + len(question["options"]) for question in demo_questions()) * len(DEMO_CONDITIONS)
    assert len(asked) >= needed
    assert sum(asked.values()) - needed <= kills * IN_FLIGHT * MOST_REQUESTS_OF_A_CELL


def test_a_finished_run_is_not_measured_again(grid: Grid, remote: CommandLine, demo_run: str) -> None:
    before = len(grid.requests())
    done = remote("run", DEMO, "--no-report")
    assert f"Run {demo_run} is complete already" in done.stdout
    assert len(grid.requests()) == before


def test_the_gate_through_the_grid(remote: CommandLine, demo_run: str) -> None:
    # So few questions show no harm to be rare enough: what does not fail is insufficient.
    for policy, codes in (("no-collapse.yaml", (0,)), ("safe-deployment.yaml", (1, 3))):
        done = remote("gate", demo_run, "--policy", str(POLICIES / policy))
        assert done.returncode in codes, done.stdout + done.stderr


def test_a_second_group_reads_the_verdicts_from_kafka_with_the_protos_alone(grid: Grid, demo_run: str) -> None:
    from kafka import KafkaConsumer

    from safescale.rpc.events.v1 import events_pb2

    consumer = KafkaConsumer(
        "safescale.verdict.recorded.v1", bootstrap_servers=grid.address("kafka"), group_id="warehouse",
        auto_offset_reset="earliest", consumer_timeout_ms=15_000,
    )  # fmt: skip
    cells = set()
    for record in consumer:
        verdict = events_pb2.VerdictRecorded.FromString(record.value).verdict
        if verdict.cell.run_id == demo_run:
            cells.add((verdict.cell.condition, verdict.cell.question_id))
        if len(cells) == DEMO_CELLS:
            break
    consumer.close()
    assert len(cells) == DEMO_CELLS


def test_prometheus_sees_every_service_and_each_condition(grid: Grid, demo_run: str) -> None:
    base = f"http://{grid.address('prometheus')}/api/v1/query?query="

    def value(query: str) -> float:
        found = json.loads(http(base + urllib.parse.quote(query)))["data"]["result"]
        assert found, query
        return float(found[0]["value"][1])

    def all_up() -> None:
        assert value("sum(up)") == len(SERVICES) + 1

    wait_for("every target", all_up, seconds=60)
    for condition in DEMO_CONDITIONS:
        for series in ("model_latency_seconds_count", "time_to_first_token_seconds_count", "queue_wait_seconds_count",
                       "tokens_total", "generations_total", "verdicts_total", "cost_total"):  # fmt: skip
            assert value(f'sum(max_over_time(safescale_{series}{{condition="{condition}"}}[1h]))') > 0
    for series in ("retrieval_seconds_count", "bus_lag", "storage_seconds_count", "backend_attempt_seconds_count",
                   "dependency_up", "rpc_seconds_count"):  # fmt: skip
        assert value(f"count(safescale_{series})") > 0


def test_no_panel_of_a_dashboard_is_empty_on_a_run(grid: Grid, remote: CommandLine) -> None:
    # The panels about policies need a judgement of a completed run; rates need a run that is under way, with samples.
    # Contexts are built for a condition that no run before had, since what is stored is not built again.
    # Fresh questions of a series are evidence from its first run on.
    series = {"name": "panels", "limits": {"high_risk_error_rate": 0.5}}
    drawn = remote.spec("judged.yaml", name="judged", series=series, questions={"draw": 2})
    judged = remote("run", drawn, "--no-report")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    judged_run = run_id_in(judged.stdout)
    assert remote("gate", judged_run, "--policy", str(POLICIES / "safe-deployment.yaml")).returncode in (1, 3)
    regimes = {"greedy": True, "self_consistency": {"samples": 2, "temperature": 0.7}}
    corpus = str(EXAMPLES / "corpus" / "radiology-mini.jsonl")
    changes = {"conditions": ["zero_shot", "top_5"], "corpus": corpus, "regimes": regimes, "questions": {"limit": 4}}
    spec = remote.spec("panels.yaml", name="panels", fresh=True, formulation="letter", **changes)
    missing = panel_queries()
    run = Background(remote, spec, "--no-report")

    def each_was_answered() -> None:
        # The gateway's time is measured when it is asked.
        http(f"http://{grid.address('gateway')}/api/v1/runs/{judged_run}", timeout=60)
        for place, query in list(missing.items()):
            if has_a_number(grid, query):
                del missing[place]
        assert not missing, "no number: " + "; ".join(" / ".join(place) for place in missing)

    try:
        wait_for("a number in every panel", each_was_answered, seconds=300)
    finally:
        code, said = run.finish()
    assert code == 0, said


def panel_queries() -> dict[tuple[str, str, str], str]:
    """Queries by dashboard, panel and target; without their 0 where a run makes what they are about."""
    found = {}
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                place = (name, panel["title"], target["refId"])
                query = rendered(target["expr"], dashboard)
                found[place] = query if place[:2] in MAY_BE_0 else re.sub(r" or on\(\) vector\(-?\d\)$", "", query)
    assert {place[:2] for place in found} >= MAY_BE_0
    return found


def has_a_number(grid: Grid, query: str) -> bool:
    """Whether Prometheus answers with a number; an answer with another status than 200, as to a wrong query, raises."""
    answer = http(f"http://{grid.address('prometheus')}/api/v1/query?query={urllib.parse.quote(query)}")
    return any(math.isfinite(float(one["value"][1])) for one in json.loads(answer)["data"]["result"])


def test_the_gateway_tells_the_same(grid: Grid, demo_run: str) -> None:
    base = f"http://{grid.address('gateway')}/api/v1"
    run = json.loads(http(f"{base}/runs/{demo_run}", timeout=60))
    assert demo_run in json.dumps(run)
    assert b"high_risk_error_rate" in http(f"{base}/runs/{demo_run}/metrics", timeout=60)


def test_two_runs_at_once(grid: Grid, remote: CommandLine) -> None:
    first = remote.spec("one.yaml", name="one", fresh=True, questions={"limit": 3})
    second = remote.spec("two.yaml", name="two", fresh=True, questions={"limit": 3}, seed=7)
    runs = [Background(remote, spec, "--no-report") for spec in (first, second)]
    ids = {run.run_id for run in runs}
    assert len(ids) == 2
    for run in runs:
        code, said = run.finish()
        assert code == 0, said
    assert [grid.documents("verdict", run_id) for run_id in ids] == [6, 6]


def test_a_cancelled_run_stops_asking(grid: Grid, remote: CommandLine) -> None:
    run = Background(remote, remote.spec("long.yaml", name="long", fresh=True, questions={"limit": 30}), "--no-report")
    wait_for("a verdict", at_least(grid, run.run_id, 2), seconds=300)
    assert remote("runs", "cancel", run.run_id).returncode == 0
    code, said = run.finish()
    assert code == 1
    assert "was cancelled" in said
    verdicts = grid.documents("verdict", run.run_id)
    assert verdicts < 60
    # Cells in flight end; then nothing more is asked, though their messages are still on the bus.
    time.sleep(20)
    asked = len(grid.requests())
    time.sleep(10)
    assert len(grid.requests()) == asked
    assert grid.documents("verdict", run.run_id) <= verdicts + IN_FLIGHT


def test_failed_cells_are_asked_again(grid: Grid, remote: CommandLine) -> None:
    spec = remote.spec("impatient.yaml", name="impatient", models=["impatient"], questions={"limit": 2}, fresh=True)
    # Its revision is asked once while the server is there.
    assert remote("models").returncode == 0
    planned = remote("run", spec, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    run = Background(remote, spec, "--no-report")
    grid.kill("model-server-2")
    code, said = run.finish()
    grid.start("model-server-2")
    assert code == 1, said
    assert "BACKEND_UNAVAILABLE" in said

    def each_is_answered() -> None:
        # The circuit of the server may still be open for some seconds, longer than this model's cells wait.
        done = remote("runs", "retry", run.run_id)
        assert re.search(r"Asking [1-4] failed cells again", done.stdout), done.stdout + done.stderr
        assert done.returncode == 0, done.stdout + done.stderr

    wait_for("each cell of impatient", each_is_answered, seconds=120)


def test_every_condition_through_the_grid(grid: Grid, remote: CommandLine, embedded: CommandLine) -> None:
    conditions = [row.id for row in CONDITIONS]
    changes = {
        "name": "all-conditions", "conditions": conditions, "corpus": str(EXAMPLES / "corpus" / "radiology-mini.jsonl"),
        "agent": "smollm2-135m-instruct", "questions": {"limit": 1}, "regimes": {"greedy": True},
    }  # fmt: skip
    found = []
    for cli in (embedded, remote):
        done = cli("run", cli.spec("all.yaml", **changes), "--no-report")
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(letters_of(cli, run_id_in(done.stdout)))
    assert found[0] == found[1]
    assert {condition for condition, _ in found[1]} | {"context_32k", "context_100k"} == set(conditions)


def test_every_service_still_serves(grid: Grid) -> None:
    for name in (*SERVICES, "gateway", *MODEL_SERVERS):
        grid.wait(name)
