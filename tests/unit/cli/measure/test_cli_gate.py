"""`safescale gate` and `safescale plan`, and what a dry run says of a policy, against scripted services."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.fakes.grpc_services import serving
from typer.testing import CliRunner

from safescale.cli.main import app
from safescale.cli.measure.plan import plan_request
from safescale.core.errors import InvalidInputError, SpecError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc

POLICY = "name: ward\nrequirements: [{metric: accuracy, min: 0.9}]\n"
SPEC = "name: night\nbenchmark: b.jsonl\nmodels: [m]\nconditions: [zero_shot]\n"
QUESTION = (
    '{"question_id": "q0", "question_text": "Which?", "options": {"A": "x", "B": "y"}, "correct_answer": "A", '
    '"labels": {"A": {"high_risk": 0, "unsafe": 0, "contradicts": 0}, '
    '"B": {"high_risk": 1, "unsafe": 1, "contradicts": 1}}}\n'
)


class Services(orchestration_pb2_grpc.OrchestrationServiceServicer, scoring_pb2_grpc.ScoringServiceServicer):
    """One run, and a gate that says what it is told to."""

    def __init__(self) -> None:
        spec = orc.RunSpec(name="night", benchmark_id="b", models=["m"], conditions=["zero_shot"], greedy=True)
        self.run = orc.Run(run_id="run-1", manifest=orc.Manifest(spec=spec, question_ids=["q0", "q1"]))
        self.verdict, self.asked = pb.POLICY_VERDICT_PASS, []
        self.planned: list[pb.PlanPolicyRequest] = []
        self.specs: list[orc.RunSpec] = []

    def GetRun(self, request, context):
        return orc.GetRunResponse(run=self.run)

    def EvaluatePolicy(self, request, context):
        self.asked.append(request.policy)
        result = pb.RequirementResult(
            metric="accuracy", model="m", direction="min", limit=0.9, verdict=self.verdict, bound="ci_low",
            passed=self.verdict == pb.POLICY_VERDICT_PASS, questions_more=40, n=2,
        )  # fmt: skip
        return pb.EvaluatePolicyResponse(
            results=[result], verdict=self.verdict, passed=result.passed, policy_name="ward", notes=["Read this."]
        )

    def ImportBenchmark(self, request, context):
        return orc.ImportBenchmarkResponse(benchmark=orc.Benchmark(benchmark_id="b"))

    def CreateRun(self, request, context):
        self.specs.append(request.spec)
        return orc.CreateRunResponse(run=self.run, plan=orc.Plan(cell_count=2))

    def GetBenchmark(self, request, context):
        return orc.GetBenchmarkResponse(questions=[question(f"q{number}") for number in range(9)])

    def PlanPolicy(self, request, context):
        self.planned.append(request)
        row = pb.PlannedRequirement(metric="accuracy", model="*", direction="min", limit=0.9, sentence="too few")
        return pb.PlanPolicyResponse(requirements=[row], confidence=0.95)


def question(name: str, **changes: Any) -> common_pb2.Question:
    fields: dict[str, Any] = {"stem": common_pb2.QuestionStem(question_id=name), "subspecialty": "chest"}
    return common_pb2.Question(**(fields | changes))


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Services]:
    found = Services()
    adders = (
        orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server,
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server,
    )
    with serving(found, *adders) as address:
        monkeypatch.setenv("SAFESCALE_SERVER", address)
        monkeypatch.chdir(tmp_path)
        for name, text in {"p.yaml": POLICY, "s.yaml": SPEC, "b.jsonl": QUESTION}.items():
            (tmp_path / name).write_text(text)
        yield found


def cli(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("verdict", "code", "last"),
    [
        (pb.POLICY_VERDICT_PASS, 0, "PASS: the requirement holds."),
        (pb.POLICY_VERDICT_FAIL, 1, "FAIL: 1 of 1 requirements does not hold."),
        (
            pb.POLICY_VERDICT_INSUFFICIENT, 3,
            "INSUFFICIENT: 1 of 1 requirements is not decided, none fails. About 40 questions more would do, with a "
            "power of 80 % if the estimates are true.",
        ),
    ],
)  # fmt: skip
def test_each_verdict_has_its_exit_code_and_its_last_line(services: Services, verdict, code: int, last: str) -> None:
    services.verdict = verdict
    done = cli("gate", "latest", "--policy", "p.yaml")
    assert done.exit_code == code, done.output
    assert done.stdout.splitlines()[-2:] == ["Read this.", last]
    assert services.asked == [POLICY]


def test_the_registered_policy_judges_where_none_is_named(services: Services, tmp_path: Path) -> None:
    done = cli("gate", "latest")
    assert isinstance(done.exception, InvalidInputError)
    assert "its spec registers none; name one: --policy" in str(done.exception)
    registered = services.run.manifest.spec.policy
    registered.name, registered.sha256 = "ward", hashlib.sha256(POLICY.encode()).hexdigest()
    assert "without its text" in str(cli("gate", "latest").exception)
    registered.text = POLICY
    done = cli("gate", "latest", "--junit", "j.xml")
    assert (done.exit_code, services.asked) == (0, [POLICY])
    assert "Policy ward on run run-1" in done.stdout
    assert 'name="safescale gate ward"' in (tmp_path / "j.xml").read_text()


def test_a_run_registers_the_policy_of_its_spec(services: Services, tmp_path: Path) -> None:
    assert cli("run", "s.yaml", "--dry-run").exit_code == 0
    assert not services.planned
    (tmp_path / "s.yaml").write_text(f"{SPEC}policy: p.yaml\n")
    done = cli("run", "s.yaml", "--dry-run")
    assert done.exit_code == 0, done.output
    assert [spec.policy.text for spec in services.specs] == ["", POLICY]
    assert "of the spec: 1 of 1 requirements cannot be decided" in done.stdout
    assert "accuracy ≥ 90 %: too few" in done.stdout
    # Of the questions of the run, and not of the benchmark.
    assert [(each.policy, each.question_count) for each in services.planned] == [(POLICY, 2)]
    (tmp_path / "p.yaml").write_text("requirements: []")
    assert isinstance(cli("run", "s.yaml", "--dry-run").exception, SpecError)


def test_a_dry_run_says_what_another_policy_can_decide(services: Services) -> None:
    done = cli("run", "s.yaml", "--dry-run", "--policy", "p.yaml")
    assert "of --policy: 1 of 1 requirements cannot be decided" in done.stdout
    assert not services.specs[0].HasField("policy")
    assert isinstance(cli("run", "s.yaml", "--policy", "p.yaml").exception, InvalidInputError)


def test_a_plan_is_asked_with_slices_and_what_clusters_are_worth() -> None:
    questions = [
        question("q0", cluster="a", groups={"ward": "A"}), question("q1", cluster="a"), question("q2", cluster="b"),
        question("q3", cluster="b", subspecialty="neuro"),
    ]  # fmt: skip
    request = plan_request(orc.RunSpec(models=["m"], conditions=["c"], greedy=True, samples=3), questions, POLICY)
    assert (request.question_count, request.cluster_count) == (4, 2)
    assert list(request.regimes) == ["greedy", "majority", "samples"]
    assert [(each.slice, each.slice_value, each.question_count, each.cluster_count) for each in request.slices] == [
        ("subspecialty", "chest", 3, 1), ("subspecialty", "neuro", 1, 1), ("ward", "(none)", 3, 1), ("ward", "A", 1, 1),
    ]  # fmt: skip
    alone = plan_request(orc.RunSpec(greedy=True), [question("q0"), question("q1")], POLICY)
    assert (alone.cluster_count, list(alone.regimes)) == (0, ["greedy"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["5 %", "72", "183", "368", "3,688"]),
        (["--max", "0.05"], ["Fewer than 72 questions", "2.5 %", "515"]),
        (["--max", "0.05", "--rate", "0.01", "--questions", "200"], ["power with 200", "173", "85.8 %"]),
        (["--min", "0.9"], ["Fewer than 36 questions", "with every question right", "95 %", "255"]),
        (["--max", "0"], ["No number of questions"]),
        (["--max", "0.05", "--rate", "0.05"], ["no number would do"]),
        (
            ["--margin", "0.02", "--discordance", "0.06", "--confidence", "0.9"],
            ["About 927 questions", "less than 2 points"],
        ),
        (["--policy", "p.yaml", "--questions", "20"], ["1 of 1 requirements cannot be decided", "it takes 36"]),
        (["--policy", "p.yaml", "--questions", "36"], ["all 1 requirements can be decided", "at least 36 of 36"]),
    ],
)
def test_a_plan_says_how_many_questions(services: Services, arguments: list[str], expected: list[str]) -> None:
    done = cli("plan", *arguments)
    assert done.exit_code == 0, done.output
    for part in expected:
        assert part in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--max", "5"], "--max is 5; expected a share from 0 to 1"),
        (["--max", "0.1", "--min", "0.9"], "--max and --min are given together; expected one of them"),
        (["--margin", "0.1", "--max", "0.1", "--discordance", "0.1"], "--margin and --max are given together"),
        (["--rate", "0.01"], "--rate says nothing by itself; expected it beside --max or --min"),
        (["--policy", "p.yaml", "--rate", "0.01"], "--rate says nothing by itself"),
        (["--questions", "200"], "--questions says nothing by itself"),
        (["--max", "0.1", "--discordance", "0.1"], "--discordance says nothing by itself; expected it beside --margin"),
        (["--max", "0.1", "--confidence", "95"], "--confidence is 95"),
        (["--max", "0.1", "--power", "1"], "--power is 1"),
        (["--max", "0.1", "--questions", "0"], "--questions is 0"),
        (["--margin", "0.02"], "--margin needs --discordance"),
        (["--margin", "0", "--discordance", "0.1"], "--margin is 0"),
        (["--policy", "p.yaml"], "--policy needs --questions"),
    ],
)
def test_plans_that_cannot_be_are_refused(services: Services, arguments: list[str], expected: str) -> None:
    done = cli("plan", *arguments)
    assert isinstance(done.exception, InvalidInputError)
    assert expected in str(done.exception)
