"""What commands say of a run that is not whole, against scripted services."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.support.factories.run_tables import sent_tables
from tests.support.fakes.grpc_services import serving
from typer.testing import CliRunner

from safescale.cli.main import app
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import question_to_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc

QUESTIONS = [Question(f"q{number}", "Which?", {"A": "this", "B": "that"}, "B") for number in range(3)]
POLICY = "requirements: [{metric: accuracy, min: 0}]\n"
LEFT = "b under top_1: 1 of 3 questions have no verdict: q2."


def verdict(cell: common_pb2.CellKey) -> pb.Verdict:
    return pb.Verdict(
        cell=cell, formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True, attempt=1,
        greedy=pb.Reading(letter="B"), greedy_outcome=pb.Outcome(correct=True),
    )  # fmt: skip


class Services(orchestration_pb2_grpc.OrchestrationServiceServicer, scoring_pb2_grpc.ScoringServiceServicer):
    """One run of two models; one cell of it is missing, and one failed since the judge did."""

    def __init__(self) -> None:
        spec = orc.RunSpec(name="night", benchmark_id="b", models=["a", "b"], conditions=["zero_shot", "top_1"])
        spec.greedy = True
        spec.ensembles.add(name="both", members=["a", "b"])
        models = [orc.ManifestModel(id=name, formulation=common_pb2.FORMULATION_LETTER) for name in spec.models]
        manifest = orc.Manifest(spec=spec, models=models, question_ids=["q0", "q1", "q2"])
        self.run = orc.Run(run_id="run-1", state=orc.RUN_STATE_COMPLETED, attempt=1, manifest=manifest)
        self.left = {("b", "top_1", "q2")}
        self.judged = pb.EvaluatePolicyResponse()
        self.asked: list[str] = []
        self.audit = pb.ReadingAudit()

    def GetAudit(self, request, context):
        return pb.GetAuditResponse(audit=self.audit if self.audit.run_id else None)

    def GetRun(self, request, context):
        return orc.GetRunResponse(run=self.run)

    def GetBenchmark(self, request, context):
        questions = [question_to_proto(question) for question in QUESTIONS]
        return orc.GetBenchmarkResponse(benchmark=orc.Benchmark(name="bench"), questions=questions)

    def ExportVerdicts(self, request, context):
        for model in ("a", "b"):
            for name in ("zero_shot", "top_1"):
                for question in QUESTIONS:
                    key = (model, name, question.question_id)
                    if key not in self.left:
                        cell = common_pb2.CellKey(run_id="run-1", model=model, condition=name, question_id=key[2])
                        yield pb.ExportVerdictsResponse(verdict=verdict(cell))

    def GetRunTables(self, request, context):
        verdicts = [response.verdict for response in self.ExportVerdicts(request, context)]
        yield from sent_tables(self.run, Benchmark("bench", tuple(QUESTIONS)), verdicts)

    def EvaluatePolicy(self, request, context):
        self.asked.append(request.run_id)
        return self.judged


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Services]:
    found = Services()
    services = (
        orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server,
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server,
    )
    with serving(found, *services) as address:
        monkeypatch.setenv("SAFESCALE_SERVER", address)
        monkeypatch.chdir(tmp_path)
        yield found


def cli(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_the_json_report_says_what_is_missing(services: Services, tmp_path: Path) -> None:
    done = cli("report", "latest", "--format", "json", "--out", "r.json")
    assert done.exit_code == 0, done.output
    assert LEFT in done.stderr
    found = json.loads((tmp_path / "r.json").read_text())["completeness"]
    assert (found["complete"], found["missing"]) == (False, [LEFT])
    assert (found["planned"], found["verdicts"], found["skipped"]) == (12, 11, 0)
    assert found["missing_cells"] == [["b", "top_1", "q2"]]
    assert found["cells"][3] == {
        "model": "b", "condition": "top_1", "n_cells": 3, "n_verdicts": 2, "n_failed": 0, "n_skipped": 0,
        "n_missing": 1,
    }  # fmt: skip


def test_the_tables_of_the_report_have_one_of_what_is_there(services: Services, tmp_path: Path) -> None:
    services.run.skips.add(model="b", condition="top_1", question_id="q2", reason="too long")
    assert cli("report", "latest", "--format", "csv", "--out", "tables").exit_code == 0
    rows = list(csv.DictReader((tmp_path / "tables" / "completeness.csv").open()))
    assert [(row["model"], row["n_skipped"], row["n_missing"]) for row in rows] == [
        ("a", "0", "0"), ("a", "0", "0"), ("b", "0", "0"), ("b", "1", "0"),
    ]  # fmt: skip


def test_an_ensemble_that_lacks_a_member_is_told(services: Services, tmp_path: Path) -> None:
    services.left = {("b", "top_1", question.question_id) for question in QUESTIONS}
    assert cli("report", "latest", "--format", "json", "--out", "r.json").exit_code == 0
    missing = json.loads((tmp_path / "r.json").read_text())["completeness"]["missing"]
    assert missing[1] == (
        "The ensemble both has no vote under top_1: "
        "not all of its members (a, b) have answers there in one formulation."
    )


@pytest.mark.parametrize("form", ["csv", "jsonl", "judged"])
def test_an_export_says_beside_its_files_what_they_lack(services: Services, tmp_path: Path, form: str) -> None:
    done = cli("export", "latest", "--format", form, "--out", "x")
    assert done.exit_code == 0, done.output
    assert LEFT in done.stderr
    assert (tmp_path / "x" / "missing.txt").read_text() == f"{LEFT}\nb\ttop_1\tq2\n"
    services.left = set()
    done = cli("export", "latest", "--format", form, "--out", "x")
    assert (done.exit_code, done.stderr) == (0, "")
    assert not (tmp_path / "x" / "missing.txt").exists()


def test_an_export_says_that_it_is_not_for_those_who_read_for_an_open_audit(services: Services) -> None:
    services.audit.run_id = "run-1"
    assert "keep them from who reads for it" in cli("export", "latest", "--format", "jsonl").stderr
    services.audit.complete = True
    assert "audit" not in cli("export", "latest", "--format", "jsonl").stderr


def test_a_gate_asks_for_the_run_that_it_names_and_tells_what_is_missing(services: Services, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    services.judged.results.add(metric="accuracy", model="a", direction="min", passed=True, value=1, decisive=1)
    services.judged.results.add(metric="unfinished_cells", direction="max", value=1, decisive=1, reason=LEFT)
    done = cli("gate", "latest", "--policy", "p.yaml", "--junit", "j.xml")
    assert (done.exit_code, services.asked) == (1, ["run-1"])
    assert "FAIL: 1 of 2 requirements does not hold." in done.stdout
    assert "run-1" in done.stdout
    assert LEFT in " ".join(done.stdout.split())
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()
    case = suite.findall("testcase")[1]
    assert case.attrib == {"classname": "run", "name": "unfinished_cells ≤ 0"}
    assert case[0].attrib["message"] == LEFT


def test_a_judgement_of_nothing_is_none(services: Services, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    services.judged.passed = True
    done = cli("gate", "latest", "--policy", "p.yaml", "--junit", "j.xml")
    assert done.exit_code == 1
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("1", "1")
