"""The series that scoring reads from the stores, over SQLite and a scripted orchestration."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import structlog
from tests.unit.scoring.conftest import RUN
from tests.unit.scoring.store_world import CONDITIONS, World, run_of, store_world

from safescale.core.errors import StorageUnavailableError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.telemetry import Telemetry
from safescale.scoring import records, store_metrics
from safescale.scoring.records import ReviewStore, VerdictStore, cell_of, review_id
from safescale.scoring.store_metrics import (
    FULL_POLL_S,
    INTERVAL_S,
    MAX_INTERVAL_S,
    MAX_NAMES,
    MAX_RUNS,
    pause_s,
)


def shown(telemetry: Telemetry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All series of gauges."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in telemetry.registry.collect()
        if metric.type == "gauge"
        for sample in metric.samples
    }


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    async with store_world(tmp_path) as built:
        yield built


async def assert_as_the_metric_rows(world: World) -> None:
    rows = {
        (row.condition, row.metric): row.value
        for row in (await world.results().metrics(RUN)).rows
        if row.regime == "greedy"
    }
    for condition in CONDITIONS:
        labels = {"name": "night", "model": "m", "condition": condition}
        assert world.value("run_accuracy_ratio", **labels) == pytest.approx(rows[condition, "accuracy"])
        assert world.value("run_high_risk_ratio", **labels) == pytest.approx(rows[condition, "high_risk_error_rate"])


async def test_a_run_is_shown_with_the_values_of_its_metric_rows(world: World) -> None:
    world.peers.runs = [run_of("night")]
    await world.answers()
    await world.poller.poll()
    await assert_as_the_metric_rows(world)
    first = {"name": "night", "model": "m", "condition": CONDITIONS[0]}
    assert (world.value("run_accuracy_ratio", **first), world.value("run_high_risk_ratio", **first)) == (0.25, 0.25)
    assert world.value("run_failed_cells", **first) == 1
    assert world.value("run_failed_cells", **{**first, "condition": CONDITIONS[1]}) == 0
    assert world.value("run_ended_timestamp_seconds", name="night") == 150


async def test_harm_of_answers_without_labels_is_not_shown_as_none(world: World) -> None:
    bare = tuple(replace(question, labels={}) for question in world.peers.benchmark.questions)
    world.peers.benchmark = Benchmark("bench", bare)
    world.peers.runs = [run_of("night")]
    await world.answers()
    await world.poller.poll()
    labels = {"name": "night", "model": "m", "condition": CONDITIONS[0]}
    assert world.value("run_accuracy_ratio", **labels) == 0.25
    assert world.value("run_high_risk_ratio", **labels) is None


async def test_a_run_of_a_kind_of_a_later_version_hides_no_other(world: World) -> None:
    later = run_of("later")
    later.run_id = "later-00000001"
    later.manifest.kind = "later"
    world.peers.runs = [later, run_of("night")]
    await world.answers()
    assert await world.poller.poll()
    await assert_as_the_metric_rows(world)
    assert world.value("run_ended_timestamp_seconds", name="later") is None


async def test_what_a_person_settles_is_shown_at_the_next_look(world: World) -> None:
    world.peers.runs = [run_of("night")]
    await world.answers()
    await world.poller.poll()
    cell = common_pb2.CellKey(run_id=RUN, model="m", condition=CONDITIONS[0], question_id="q2")
    review = pb.Review(review_id=review_id(cell_of(cell), 1, None), cell=cell, attempt=1)
    await world.reviews.open([review])
    await world.poller.poll()
    labels = {"name": "night", "model": "m", "condition": CONDITIONS[0]}
    assert world.value("run_high_risk_ratio", **labels) == 0.25
    assert world.value("reviews_open") == 1
    await world.reviews.resolve(pb.ResolveReviewRequest(review_id=review.review_id, reviewer="a", letter="C"))
    await world.poller.poll()
    assert world.value("run_high_risk_ratio", **labels) == 0.5
    await assert_as_the_metric_rows(world)
    assert world.value("reviews_open") == 0


async def test_a_retried_run_is_counted_again(world: World) -> None:
    world.peers.runs = [run_of("night")]
    await world.answers()
    await world.poller.poll()
    await world.answer(CONDITIONS[0], "q3", "B", attempt=2)
    world.peers.runs = [run_of("night", attempt=2)]
    await world.poller.poll()
    labels = {"name": "night", "model": "m", "condition": CONDITIONS[0]}
    assert (world.value("run_accuracy_ratio", **labels), world.value("run_failed_cells", **labels)) == (0.5, 0)


async def test_a_restart_and_a_replica_show_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "time", SimpleNamespace(time=lambda: 5000.0))
    monkeypatch.setattr(store_metrics, "time", SimpleNamespace(time=lambda: 6000.0))
    world.peers.runs = [run_of("night")]
    await world.answers()
    await world.reviews.open([pb.Review(review_id="r1")])
    await world.judge(world.peers.runs[0], passed=False)
    await world.poller.poll()
    other, telemetry = world.replica()
    assert not [series for series in shown(telemetry) if series[0] == "safescale_gate_passed"]
    await other.poll()
    assert shown(telemetry) == shown(world.telemetry)
    assert world.value("review_oldest_seconds") == 1000
    assert world.value("gate_passed", policy="safe", name="night") == 0


async def test_judging_an_older_run_changes_nothing(world: World) -> None:
    await world.judge(run_of("night", "new", created=200), passed=False, limit=0.05)
    before = shown(world.telemetry)
    assert world.value("gate_high_risk_limit", name="night", model="m", condition="top_1") == 0.05
    await world.judge(run_of("night", "old", created=100), passed=True, limit=0.5)
    await world.poller.poll_gates()
    assert shown(world.telemetry) == before
    # The newest run judged anew is news, and so is another name.
    await world.judge(run_of("night", "new", created=200), passed=True)
    await world.judge(run_of("day", "old", created=100), passed=False)
    assert world.value("gate_passed", policy="safe", name="night") == 1
    assert world.value("gate_passed", policy="safe", name="day") == 0


async def test_the_least_limit_of_several_policies_is_shown(world: World) -> None:
    for policy, limit in (("loose", 0.3), ("strict", 0.1), ("middle", 0.2)):
        await world.judge(run_of("night"), passed=True, limit=limit, policy=policy)
    assert world.value("gate_high_risk_limit", name="night", model="m", condition="top_1") == 0.1


async def test_the_newest_completed_run_of_a_name_is_shown(world: World) -> None:
    world.peers.runs = [
        run_of("night", "still running", 300, orc.RUN_STATE_RUNNING),
        run_of("night", "cancelled", 250, orc.RUN_STATE_CANCELLED),
        run_of("night", RUN, 200),
        run_of("night", "older", 100),
    ]
    await world.answers()
    await world.poller.poll()
    assert world.value("run_ended_timestamp_seconds", name="night") == 250
    await assert_as_the_metric_rows(world)


def _names(world: World) -> set[str]:
    return {dict(labels)["name"] for name, labels in shown(world.telemetry) if name.startswith("safescale_run_ended")}


async def test_names_of_runs_are_bounded_and_those_that_fall_out_are_dropped(world: World) -> None:
    world.peers.runs = [run_of(f"name-{number}") for number in range(MAX_NAMES + 10)]
    await world.answers()
    await world.poller.poll()
    assert _names(world) == {f"name-{number}" for number in range(MAX_NAMES)}
    world.peers.runs = [run_of("newcomer"), *world.peers.runs]
    await world.poller.poll()
    assert _names(world) == {"newcomer", *(f"name-{number}" for number in range(MAX_NAMES - 1))}
    gone = {"name": f"name-{MAX_NAMES - 1}", "model": "m", "condition": CONDITIONS[0]}
    assert world.value("run_accuracy_ratio", **gone) is None


async def test_only_the_newest_runs_are_looked_through(world: World) -> None:
    waiting = [run_of("busy", state=orc.RUN_STATE_RUNNING) for _ in range(MAX_RUNS - 1)]
    world.peers.runs = [*waiting, run_of("seen"), run_of("too old")]
    await world.answers()
    await world.poller.poll()
    assert _names(world) == {"seen"}


async def test_judgements_are_bounded(world: World) -> None:
    for number in range(MAX_NAMES + 3):
        await world.judge(run_of(f"name-{number}"), passed=True)
    names = {dict(labels)["name"] for name, labels in shown(world.telemetry) if name == "safescale_gate_passed"}
    assert names == {f"name-{number}" for number in range(3, MAX_NAMES + 3)}


async def test_a_store_that_is_away_leaves_the_last_values_and_is_told(world: World) -> None:
    world.peers.runs = [run_of("night")]
    await world.answers()
    await world.reviews.open([pb.Review(review_id="r1")])
    await world.judge(world.peers.runs[0], passed=True)
    await world.poller.poll()
    before = shown(world.telemetry)
    for kind in ("review", "gate", "verdict"):
        world.documents.failure[kind] = StorageUnavailableError("secret words of the store")
    with structlog.testing.capture_logs() as told:
        assert not await world.poller.poll()
    assert shown(world.telemetry) == before
    # Runs read reviews, too.
    assert [(line["log_level"], line["reason"]) for line in told] == [("warning", "STORAGE_UNAVAILABLE")] * 3
    assert "secret" not in str(told)
    world.documents.failure.clear()
    await world.reviews.open([pb.Review(review_id="r2")])
    assert await world.poller.poll()
    assert world.value("reviews_open") == 2


async def test_one_store_that_is_broken_stops_no_other_series(world: World) -> None:
    world.documents.failure["gate"] = ValueError("secret words of the store")
    world.peers.runs = [run_of("night")]
    await world.answers()
    with structlog.testing.capture_logs() as told:
        await world.poller.poll()
    assert [(line["log_level"], line["exception_type"]) for line in told] == [("error", "ValueError")]
    assert "secret" not in str(told)
    await assert_as_the_metric_rows(world)


async def test_without_orchestration_the_runs_keep_their_values(world: World) -> None:
    world.peers.runs = [run_of("night")]
    await world.answers()
    await world.poller.poll()
    world.peers.away = True
    with structlog.testing.capture_logs() as told:
        await world.poller.poll()
    assert {line["event"] for line in told} == {"series of the stores not renewed"}
    await assert_as_the_metric_rows(world)


async def test_a_judgement_that_cannot_be_recorded_is_told_and_stands(world: World) -> None:
    await world.judge(run_of("night"), passed=True)
    world.documents.failure["gate"] = StorageUnavailableError("away")
    with structlog.testing.capture_logs() as told:
        await world.judge(run_of("night"), passed=False)
    assert [(line["log_level"], line["reason"]) for line in told] == [("error", "STORAGE_UNAVAILABLE")]
    assert world.value("gate_passed", policy="safe", name="night") == 1


def test_large_stores_are_looked_at_less_often_and_an_outage_delays_nothing() -> None:
    assert pause_s(0.2, complete=True) == INTERVAL_S
    assert pause_s(4.0, complete=True) == pytest.approx(80)
    # A store that answered at the last moment of its retries.
    assert pause_s(60.0, complete=True) == MAX_INTERVAL_S
    assert pause_s(60.0, complete=False) == INTERVAL_S


async def test_a_poller_polls_by_itself_until_it_is_stopped(world: World) -> None:
    world.peers.runs = [run_of("night")]
    await world.answers()
    world.poller.start()
    world.poller.start()
    while world.value("run_ended_timestamp_seconds", name="night") is None:
        await asyncio.sleep(0.005)
    await world.poller.stop()
    await world.poller.stop()
    assert world.peers.pages == 1


async def test_reviews_that_are_as_before_are_not_read_again(world: World) -> None:
    world.peers.runs = [run_of(f"name-{number}") for number in range(5)]
    await world.answers()
    await world.reviews.open([pb.Review(review_id="r1")])
    await world.poller.poll()
    world.documents.scans.clear()
    assert await world.poller.poll()
    assert world.documents.scans == ["gate"]
    await world.reviews.resolve(pb.ResolveReviewRequest(review_id="r1", reviewer="a"))
    assert await world.poller.poll()
    assert world.value("reviews_open") == 0


async def test_what_another_replica_settles_is_seen_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(store_metrics, "time", SimpleNamespace(time=lambda: 1000.0))
    await world.reviews.open([pb.Review(review_id="r1")])
    await world.poller.poll()
    await ReviewStore(world.documents).resolve(pb.ResolveReviewRequest(review_id="r1", reviewer="a"))
    monkeypatch.setattr(store_metrics, "time", SimpleNamespace(time=lambda: 1000.0 + FULL_POLL_S))
    await world.poller.poll()
    assert world.value("reviews_open") == 0


async def test_cells_that_are_missing_of_a_completed_run_are_shown(world: World) -> None:
    run = run_of("night")
    run.manifest.spec.models.append("m")
    run.manifest.spec.conditions.extend(CONDITIONS)
    run.manifest.question_ids.extend(f"q{number}" for number in range(5))
    world.peers.runs = [run]
    await world.answers()
    await world.poller.poll()
    assert world.value("run_unfinished_cells", name="night") == 2


@pytest.mark.parametrize(("cached", "share"), [(0, 0.0), (1, 0.25), (4, 1.0)])
async def test_it_is_shown_what_part_of_a_run_came_from_the_cache(world: World, cached: int, share: float) -> None:
    run = run_of("night")
    world.peers.runs = [run]
    for number in range(4):
        verdict = pb.Verdict(attempt=1, cached=number < cached, formulation=common_pb2.FORMULATION_LETTER)
        verdict.cell.run_id, verdict.cell.model = run.run_id, "m"
        verdict.cell.condition, verdict.cell.question_id = CONDITIONS[0], f"q{number}"
        await VerdictStore(world.documents).put(verdict)
    await world.poller.poll()
    assert world.value("run_cached_ratio", name="night") == share
