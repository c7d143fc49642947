"""The demo in miniature over REST: an embedded host with the four services, the gateway before it, and one client."""

import asyncio
import csv
import io
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pandas as pd
import pytest
from tests.integration.conftest import settings_of
from tests.support.fakes.varied_model import MODEL, PLAIN, VariedModel

from safescale.app.host import Host, HostOptions
from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.benchmark.formats import load_benchmark
from safescale.core.safety.tables.analysis import metrics_of
from safescale.formats.answers import read_answers
from safescale.gateway.config import Addresses, GatewayConfig
from safescale.gateway.server import serve
from safescale.runtime.files.reading import read_source
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

EXAMPLES = Path(__file__).parents[2] / "examples"
BENCHMARK = EXAMPLES / "benchmark" / "radiology-mini.jsonl"
# A few of the documents: each is embedded anew in this process.
CORPUS = b"".join((EXAMPLES / "corpus" / "radiology-mini.jsonl").read_bytes().splitlines(keepends=True)[:12])
LINES = {"Content-Type": "application/x-ndjson"}
YAML = {"Content-Type": "application/yaml"}
SPEC = """name: miniature
benchmark: radiology-mini
corpus: radiology-mini
models: [m]
formulation: letter
conditions: [zero_shot, evidence_clean, evidence_conflict, top_1]
questions: {limit: 2}
regimes: {greedy: true, self_consistency: {samples: 3, temperature: 0.7}}
"""
HOLDS = """name: holds
requirements:
  - {metric: accuracy, condition: '*', regime: greedy, min: 0.0, bound: estimate}
"""
FAILS = HOLDS.replace("holds", "fails").replace("accuracy", "abstention_rate").replace("min: 0.0", "min: 1.0")


@asynccontextmanager
async def gateway(folder: Path, model: VariedModel) -> AsyncIterator[httpx.AsyncClient]:
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    own = {name.removeprefix("SAFESCALE_").lower(): value for name, value in settings_of(folder, model).items()}
    async with Host(Settings(data_dir=folder / "data", **own), HostOptions()) as host:
        config = GatewayConfig(Addresses(*[host.address] * 4), Telemetry())
        serving = asyncio.create_task(serve(config, stop, ready.set_result))
        try:
            address = await asyncio.wait_for(ready, 30)
            async with httpx.AsyncClient(base_url=f"http://{address}/api/v1", timeout=240) as client:
                yield client
        finally:
            stop.set()
            await serving


async def followed(client: httpx.AsyncClient, run: str) -> list[dict]:
    async with client.stream("GET", f"/runs/{run}/events") as response:
        lines = [line async for line in response.aiter_lines()]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


async def test_a_run_from_upload_to_report(tmp_path: Path, model: VariedModel) -> None:
    # No answer abstains, and none is left for people to read.
    model.forms = PLAIN
    async with gateway(tmp_path, model) as client:
        await _stored(client)
        run_id = await _measured(client)
        await _judged(client, run_id)
        await _exported(client, run_id, tmp_path)
        await _reported(client, run_id)
        assert (await client.get("/reviews")).json() == {"items": [], "next_cursor": None}


async def _stored(client: httpx.AsyncClient) -> None:
    for kind, content in (("benchmarks", BENCHMARK.read_bytes()), ("corpora", CORPUS)):
        for status in (201, 200):
            url = f"/{kind}?name=radiology-mini"
            found = await client.post(url, content=content, headers={**LINES, "Idempotency-Key": "k-1"})
            assert (found.status_code, found.json()["created"]) == (status, status == 201), found.text
    [benchmark] = (await client.get("/benchmarks")).json()["items"]
    [corpus] = (await client.get("/corpora")).json()["items"]
    assert (benchmark["question_count"], corpus["document_count"]) == (48, 12)
    whole = (await client.get(f"/benchmarks/{benchmark['benchmark_id']}")).json()
    expected = sorted(json.loads(line)["question_id"] for line in BENCHMARK.read_text().splitlines())
    assert [question["question_id"] for question in whole["questions"]] == expected
    models = {model["id"]: model for model in (await client.get("/models")).json()["items"]}
    assert models[MODEL]["available"]


async def _measured(client: httpx.AsyncClient) -> str:
    plan = (await client.post("/plans", content=SPEC, headers=YAML)).json()
    assert (plan["cell_count"], plan["answer_count"], plan["existing_run"]) == (8, 32, None)
    created = await client.post("/runs", content=SPEC, headers=YAML)
    assert created.status_code == 201, created.text
    run_id = created.json()["run"]["run_id"]
    assert created.headers["Location"] == f"/api/v1/runs/{run_id}"
    events = await followed(client, run_id)
    assert events[-1]["state"] == "completed"
    counted = [sum(cell["completed"] for cell in event["progress"]["cells"]) for event in events]
    assert counted == sorted(counted)
    assert counted[-1] == 8
    again = await client.post("/runs", content=SPEC, headers=YAML)
    assert (again.status_code, again.json()["resumed"], again.json()["run"]["run_id"]) == (200, True, run_id)
    shown = (await client.get("/runs/latest")).json()
    assert (shown["run_id"], shown["state"], shown["manifest"]["spec"]["samples"]) == (run_id, "completed", 3)
    assert [run["run_id"] for run in (await client.get("/runs")).json()["items"]] == [run_id]
    assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 409
    retried = (await client.post(f"/runs/{run_id}/retry?attempt=1")).json()
    assert retried["retried_count"] == 0
    return run_id


async def _judged(client: httpx.AsyncClient, run_id: str) -> None:
    metrics = (await client.get(f"/runs/{run_id}/metrics?regime=greedy&metric=accuracy")).json()
    assert (metrics["verdict_count"], metrics["failed_count"], len(metrics["items"])) == (8, 0, 4)
    passed = (await client.post(f"/runs/{run_id}/gate", content=HOLDS, headers=YAML)).json()
    assert (passed["passed"], len(passed["results"])) == (True, 4)
    failed = (await client.post(f"/runs/{run_id}/gate", content=FAILS, headers=YAML)).json()
    assert (failed["passed"], failed["failed_requirements"]) == (False, 4)
    assert all(result["reason"] for result in failed["results"])


async def _exported(client: httpx.AsyncClient, run_id: str, folder: Path) -> None:
    pages, cursor = [], ""
    while cursor is not None:
        page = (await client.get(f"/runs/{run_id}/verdicts?page_size=3&cursor={cursor}")).json()
        pages += page["items"]
        cursor = page["next_cursor"]
    keys = [(item["cell"]["condition"], item["cell"]["question_id"]) for item in pages]
    assert len(set(keys)) == len(keys) == 8
    correct = [item for item in pages if item["greedy_outcome"]["correct"]]
    filtered = (await client.get(f"/runs/{run_id}/verdicts?outcome=correct")).json()["items"]
    assert filtered == correct

    table = list(csv.DictReader(io.StringIO((await client.get(f"/runs/{run_id}/export")).text)))
    assert [(row["condition"], row["question_id"]) for row in table] == keys
    answers = await client.get(f"/runs/{run_id}/export?format=parquet&table=answers")
    assert len(pd.read_parquet(io.BytesIO(answers.content))) == 32

    # What `analyze` reads of an export gives the numbers that the API gives.
    exported = folder / "export"
    exported.mkdir()
    whole = await client.get(f"/runs/{run_id}/export?format=jsonl")
    (exported / "verdicts.jsonl").write_bytes(whole.content)
    benchmark = load_benchmark("radiology-mini", [read_source(BENCHMARK)])
    answer_set = read_answers(exported, benchmark)
    rows = metrics_of(answer_set, label_set(benchmark, answer_set.question_ids)).rows()
    read = {(row["condition"], row["regime"], row["metric"]): row["value"] for row in rows}
    told = (await client.get(f"/runs/{run_id}/metrics")).json()["items"]
    assert len(told) == len(read)
    for row in told:
        value = read[row["condition"], row["regime"], row["metric"]]
        assert row["value"] == pytest.approx(value) or (row["value"] is None and math.isnan(value))


async def _reported(client: httpx.AsyncClient, run_id: str) -> None:
    found = await client.get(f"/runs/{run_id}/report")
    assert (found.status_code, found.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "NOT clinician-validated" in found.text
    assert "<script" not in found.text
    with_policy = await client.post(f"/runs/{run_id}/report", content=FAILS, headers=YAML)
    assert with_policy.status_code == 200
    assert "FAIL: 4 of 4 requirements do not hold." in with_policy.text


async def test_a_run_is_cancelled_and_continued_by_its_spec(tmp_path: Path, model: VariedModel) -> None:
    model.seconds = 0.1
    spec = SPEC.replace("corpus: radiology-mini\n", "").replace(", top_1", "").replace("limit: 2", "limit: 3")
    async with gateway(tmp_path, model) as client:
        await client.post("/benchmarks?name=radiology-mini", content=BENCHMARK.read_bytes(), headers=LINES)
        created = (await client.post("/runs", content=spec, headers=YAML)).json()
        run_id = created["run"]["run_id"]
        for _ in range(2):
            cancelled = await client.post(f"/runs/{run_id}/cancel", headers={"Idempotency-Key": "k-2"})
            assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        assert (await followed(client, run_id))[-1]["state"] == "cancelled"
        again = await client.post("/runs", content=spec, headers=YAML)
        assert (again.status_code, again.json()["run"]["run_id"]) == (200, run_id)
        assert (await followed(client, run_id))[-1]["state"] == "completed"
        metrics = (await client.get(f"/runs/{run_id}/metrics")).json()
        assert (metrics["verdict_count"], metrics["failed_count"]) == (9, 0)
