"""The report over REST: of runs whose ids no reader can see, and when charts cannot be drawn."""

import sys

import pytest
from tests.support.factories.run_tables import sent_tables

from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.report import pictures
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import benchmark_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2

OLD = "chest\x0b1\ufffe"


@pytest.fixture
def stored(world) -> None:
    """A run as a version stored it that took any id."""
    flags = {letter: common_pb2.OptionLabels(high_risk=letter == "B") for letter in "AB"}
    stem = common_pb2.QuestionStem(question_id=OLD, question_text="see \x1b[2J", options={"A": "a\x0b", "B": "b"})
    question = common_pb2.Question(stem=stem, correct_answer="A", labels=flags)
    manifest = pb.Manifest(
        spec=pb.RunSpec(name="old\x00", benchmark_id="b", models=["m"], conditions=["zero_shot"], greedy=True),
        models=[pb.ManifestModel(id="m", family="F", formulation=common_pb2.FORMULATION_LETTER)],
        question_ids=[OLD],
    )
    run = pb.Run(run_id="old-1", state=pb.RUN_STATE_COMPLETED, manifest=manifest)
    verdict = scoring_pb2.Verdict(
        cell=common_pb2.CellKey(run_id="old-1", model="m", condition="zero_shot", question_id=OLD),
        formulation=common_pb2.FORMULATION_LETTER,
        greedy_asked=True,
        greedy=scoring_pb2.Reading(letter="B"),
        greedy_outcome=scoring_pb2.Outcome(high_risk_error=True),
    )
    world.fakes.on("GetRun", pb.GetRunResponse(run=run))
    chunks = sent_tables(run, benchmark_from_proto("mini", [question], False), [verdict])
    world.fakes.on("GetRunTables", lambda _: chunks)
    benchmark = pb.Benchmark(benchmark_id="b", name="mini")
    world.fakes.on("GetBenchmark", pb.GetBenchmarkResponse(benchmark=benchmark, questions=[question]))


@pytest.mark.usefixtures("stored")
async def test_an_old_run_with_ids_that_no_reader_can_see_has_a_report(world) -> None:
    found = await world.client.get("/api/v1/runs/old-1/report")
    assert found.status_code == 200
    assert "chest\\x0b1\\ufffe" in found.text
    assert "<svg" in found.text
    assert not {"\x00", "\x0b", "\x1b", "\ufffe"} & set(found.text)


@pytest.mark.usefixtures("stored")
async def test_a_process_that_dies_while_it_draws_costs_the_pictures_alone(world, monkeypatch) -> None:
    command = (sys.executable, "-c", "import os; os.abort()")
    monkeypatch.setattr(pictures.Drawing.__init__, "__defaults__", (command, 30.0))
    found = await world.client.get("/api/v1/runs/old-1/report")
    assert found.status_code == 200
    assert "This picture could not be drawn: the drawing process ended by signal 6" in found.text
    assert (await world.client.get("/healthz")).status_code == 200


@pytest.mark.usefixtures("stored")
async def test_a_run_without_verdicts_has_no_report_yet(world) -> None:
    run = pb.Run(run_id="new-1", state=pb.RUN_STATE_RUNNING, manifest=pb.Manifest(question_ids=["q"]))
    world.fakes.on("GetRun", pb.GetRunResponse(run=run))
    world.fakes.on("GetRunTables", lambda _: sent_tables(run, Benchmark("mini", ()), []))
    found = await world.client.get("/api/v1/runs/new-1/report")
    assert (found.status_code, found.json()["detail"]) == (409, "run new-1 has no verdicts yet")


@pytest.mark.usefixtures("stored")
async def test_a_run_of_a_kind_that_nothing_draws_is_refused(world) -> None:
    run = pb.Run(run_id="new-1", state=pb.RUN_STATE_COMPLETED, manifest=pb.Manifest(kind="later"))
    world.fakes.on("GetRun", pb.GetRunResponse(run=run))
    found = await world.client.get("/api/v1/runs/new-1/report")
    expected = "runs of the kind 'later' have no report here; expected safety"
    assert (found.status_code, found.json()["detail"]) == (409, expected)
