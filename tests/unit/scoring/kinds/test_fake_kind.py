"""A kind of run that scoring does not know: its outcomes are stored and its table comes back by the port alone."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.scoring.conftest import RUN, scoring_world

from safescale.core.errors import FailedPreconditionError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.tables import Table, table_of_rows
from safescale.report.port import Page, RunResults, renderer_of
from safescale.report.registry import run_renderers
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.rpc.tables import tables_of
from safescale.runtime.bus import topics
from safescale.runtime.bus.port import Message
from safescale.runtime.grpc.channels import responses, rpc_errors
from safescale.scoring.clients import RunTruth
from safescale.scoring.kinds.port import ComparedRun, ComparisonOptions, MeasuredRun, MetricRows, RunComparison, Shares
from safescale.scoring.records import StoredLetters
from safescale.scoring.settled import CellReviews


class Counting:
    """Counts the words of texts; knows no letters, no questions and no metrics."""

    tables = ("words", "longest")

    async def outcome(self, unit: events_pb2.GenerationCompleted, truth: RunTruth) -> pb.Verdict:
        words = unit.greedy.text.split()
        return pb.Verdict(cell=unit.cell, formulation=unit.formulation, attempt=unit.attempt, judge_s=len(words))

    def settle(self, verdict: pb.Verdict, reviews: CellReviews, truth: RunTruth) -> None:
        verdict.judge_s = 0

    def metrics(self, letters: Iterable[StoredLetters], truth: RunTruth, slices: Sequence[str] = ()) -> MetricRows:
        return MetricRows()

    def shares(self, letters: Iterable[StoredLetters], truth: RunTruth) -> Sequence[Shares]:
        return ()

    def events(self, letters: Iterable[StoredLetters], truth: RunTruth) -> Mapping[Any, Any]:
        return {}

    def compare(self, candidate: ComparedRun, baseline: ComparedRun, chosen: ComparisonOptions) -> RunComparison:
        counts = [sum(1 for _ in side.letters) for side in (candidate, baseline)]
        return RunComparison((), (), [f"{counts[0]} texts against {counts[1]}"])

    def record(self, verdict: pb.Verdict) -> tuple[str, int]:
        return verdict.cell.question_id, int(verdict.judge_s)

    def tables_of(
        self, measured: MeasuredRun, records: Sequence[tuple[str, int]], wanted: Collection[str]
    ) -> Sequence[Table]:
        schema = {"text": str, "words": int}
        made = {"words": records, "longest": [max(records, key=lambda row: row[1])]}
        return [table_of_rows(name, schema, rows) for name, rows in made.items() if name in wanted]


async def scored(world, cell_key, texts: dict[str, str]) -> None:
    """Send texts through the bus, and wait until all are stored."""
    stub = ScoringServiceStub(world.channel)
    for name, text in texts.items():
        unit = events_pb2.GenerationCompleted(
            cell=cell_key(name), formulation="FORMULATION_LETTER", greedy=events_pb2.Answer(text=text), attempt=1
        )
        await world.bus.publish(Message(topics.GENERATION_COMPLETED, name, unit.SerializeToString(), {"run-id": RUN}))
    async with asyncio.timeout(10):
        while len((await stub.ListVerdicts(pb.ListVerdictsRequest(run_id=RUN))).verdicts) < len(texts):
            await asyncio.sleep(0.005)


async def tables(world, *names: str) -> dict[str, Table]:
    stream = ScoringServiceStub(world.channel).GetRunTables(pb.GetRunTablesRequest(run_id="latest", tables=names))
    return tables_of([chunk async for chunk in responses(stream)])


@pytest.fixture
async def counting(tmp_path):
    async with scoring_world(tmp_path, lambda _: {"counting": Counting()}) as world:
        world.peers.run.manifest.kind = "counting"
        yield world


async def test_outcomes_of_another_kind_are_stored_and_its_tables_come_back(counting, cell_key) -> None:
    # Neither text is of a question of the benchmark: only the safety kind needs one.
    await scored(counting, cell_key, {"t1": "one two three", "t2": "one"})
    found = await tables(counting)
    assert sorted(found["words"].rows(), key=lambda row: row["text"]) == [
        {"text": "t1", "words": 3},
        {"text": "t2", "words": 1},
    ]
    assert list(found["longest"].rows()) == [{"text": "t1", "words": 3}]
    assert list(await tables(counting, "longest")) == ["longest"]
    metrics = await ScoringServiceStub(counting.channel).GetRunMetrics(pb.GetRunMetricsRequest(run_id=RUN))
    assert (len(metrics.rows), metrics.verdict_count) == (0, 2)


class Listing:
    """Draws the words of texts; nothing of a safety run is there."""

    def check(self, results: RunResults) -> None:
        assert results.run.manifest.kind == "counting"

    def page(self, results: RunResults) -> Page:
        return Page("".join(f"<p>{row['text']}: {row['words']}</p>" for row in results.tables["longest"].rows()))

    def missing(self, results: RunResults) -> Sequence[str]:
        return ()

    def files(self, results: RunResults) -> Mapping[str, Table]:
        return results.tables

    def document(self, results: RunResults) -> Mapping[str, Any]:
        return {}


async def test_a_report_of_another_kind_is_drawn_through_a_registry(counting, cell_key) -> None:
    await scored(counting, cell_key, {"t1": "one two three", "t2": "one"})
    run, when = counting.peers.run, datetime(2026, 12, 1, tzinfo=UTC)
    results = RunResults(run, Benchmark("none", ()), await tables(counting), None, when)
    assert renderer_of({"counting": Listing()}, results).page(results).html == "<p>t1: 3</p>"
    with pytest.raises(FailedPreconditionError, match="'counting' have no report here; expected safety"):
        renderer_of(run_renderers(), results)


async def test_a_kind_that_nobody_registered_is_named(counting, cell_key) -> None:
    counting.peers.run.manifest.kind = ""
    with pytest.raises(FailedPreconditionError, match="'safety' are not known here; expected counting"), rpc_errors():
        await tables(counting)
