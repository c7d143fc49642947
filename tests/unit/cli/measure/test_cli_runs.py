"""What `safescale runs` says of a run in which something failed or was odd, and what a dry run tells."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fakes.grpc_services import serving
from typer.testing import CliRunner

from safescale.cli.main import app
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc

OTHER = "the server of m was asked for 'm' and answered as 'tiny-1b'"
SPEC = """name: ward
benchmark: {questions: bench.jsonl, clinician_validated: true}
models: [m]
conditions: [zero_shot]
judge: j
"""
QUESTION = (
    '{"question_id": "q1", "question_text": "Which?", "options": {"A": "x", "B": "y"}, "correct_answer": "A", '
    '"labels": {"A": {"high_risk": 0, "unsafe": 0, "contradicts": 0}, '
    '"B": {"high_risk": 1, "unsafe": 1, "contradicts": 1}}}\n'
)


class Services(orchestration_pb2_grpc.OrchestrationServiceServicer, scoring_pb2_grpc.ScoringServiceServicer):
    """One run with a failed cell, two odd ones and one from the cache; keeps the specs that it was asked for."""

    def __init__(self) -> None:
        spec = orc.RunSpec(name="night", benchmark_id="b", models=["m"], conditions=["zero_shot"], greedy=True)
        manifest = orc.Manifest(spec=spec, question_ids=["q0", "q1", "q2"])
        manifest.models.add(id="m", formulation=common_pb2.FORMULATION_LETTER)
        self.run = orc.Run(run_id="run-1", state=orc.RUN_STATE_COMPLETED, attempt=1, manifest=manifest)
        self.plan = orc.Plan(cell_count=2, answer_count=2, prompt_tokens=300, generated_tokens=788, judge_calls=2)
        self.specs: list[orc.RunSpec] = []
        self.retried = 1
        self.missing: list[str] = []
        self.corrected: dict[str, float] = {}

    def GetRun(self, request, context):
        return orc.GetRunResponse(run=self.run)

    def RetryFailed(self, request, context):
        return orc.RetryFailedResponse(run=self.run, retried_count=self.retried)

    def WatchRun(self, request, context):
        yield orc.WatchRunResponse(state=self.run.state, failure=self.run.failure)

    def ImportBenchmark(self, request, context):
        stored = orc.Benchmark(benchmark_id="b", name="another", clinician_validated=False)
        return orc.ImportBenchmarkResponse(benchmark=stored, created=False)

    def CreateRun(self, request, context):
        self.specs.append(request.spec)
        return orc.CreateRunResponse(run=self.run, plan=self.plan)

    def GetRunMetrics(self, request, context):
        place = {"model": "m", "condition": "zero_shot", "regime": "greedy"}
        row = pb.MetricRow(**place, metric="accuracy", value=0.5, n=3, **self.corrected)
        return pb.GetRunMetricsResponse(
            rows=[row], verdict_count=3, failed_count=self.retried, cached_count=1, complete=not self.missing,
            planned_count=3, missing=self.missing,
            warnings={"PROMPT_MAYBE_CUT": 2},
        )  # fmt: skip

    def ListVerdicts(self, request, context):
        assert request.failed_only
        key = common_pb2.CellKey(run_id="run-1", model="m", condition="zero_shot", question_id="q2")
        failure = common_pb2.Failure(reason="ANOTHER_MODEL_ANSWERED", message=OTHER)
        return pb.ListVerdictsResponse(verdicts=[pb.Verdict(cell=key, failure=failure)])


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
        (tmp_path / "bench.jsonl").write_text(QUESTION)
        (tmp_path / "s.yaml").write_text(SPEC)
        yield found


def cli(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_a_run_names_its_failures_and_warnings_by_reason(services: Services) -> None:
    done = cli("runs", "show", "latest")
    assert done.exit_code == 0, done.output
    assert f"1 failed: ANOTHER_MODEL_ANSWERED, such as m / zero_shot / q2: {OTHER}" in done.stdout
    assert "2 cells with a warning: PROMPT_MAYBE_CUT" in done.stdout
    assert "From the generation cache: 1 of 3 cells (33.3 %)" in done.stdout


def test_a_run_whose_reading_was_audited_shows_its_corrected_rates(services: Services) -> None:
    assert "Corrected by an audit" not in cli("runs", "show", "latest").stdout
    rates = {"corrected_value": 0.45, "corrected_low": 0.2, "corrected_high": 0.71}
    services.corrected = rates
    shown = cli("runs", "show", "latest").stdout
    assert "Corrected by an audit of the reading" in shown
    assert next(line for line in shown.splitlines() if line.split()[:1] == ["accuracy"]).split()[1:] == [
        "50.0", "45.0", "20.0–71.0",
    ]  # fmt: skip


def test_a_run_that_could_not_go_on_says_why(services: Services) -> None:
    services.run.state = orc.RUN_STATE_FAILED
    services.run.failure.reason, services.run.failure.message = "MODEL_CHANGED", "model m: r1, now r2"
    shown = cli("runs", "show", "latest")
    assert "It could not go on: MODEL_CHANGED: model m: r1, now r2" in shown.stdout
    retried = cli("runs", "retry", "latest")
    assert retried.exit_code != 0
    assert "run run-1 could not go on: model m: r1, now r2" in str(retried.exception)


def test_a_retry_names_what_failed_again(services: Services) -> None:
    done = cli("runs", "retry", "latest")
    assert done.exit_code == 1
    assert OTHER in done.stdout
    assert "1 cells failed again." in done.stdout


@pytest.mark.parametrize("retried", [0, 1])
def test_a_retry_says_what_it_leaves_open(services: Services, retried: int) -> None:
    services.retried = retried
    services.run.state = orc.RUN_STATE_CANCELLED
    services.missing = ["The run is cancelled, not completed.", "m under zero_shot: 2 of 3 questions have no verdict."]
    done = cli("runs", "retry", "latest")
    assert done.exit_code == 1
    for line in (*services.missing, "`safescale run` with its spec asks what is left."):
        assert line in done.stdout


def test_a_retry_of_a_whole_run_without_failures_succeeds(services: Services) -> None:
    services.retried = 0
    done = cli("runs", "retry", "latest")
    assert done.exit_code == 0, done.output
    assert "Run run-1 has no failed cells." in done.stdout


def test_a_dry_run_tells_what_it_takes_at_most(services: Services) -> None:
    services.plan.cost = 0.0123
    done = cli("run", "s.yaml", "--dry-run")
    assert done.exit_code == 0, done.output
    for line in ("at most 788 generated", "at most 2 calls of j", "at most 0.0123 by the prices of the catalog"):
        assert line in done.stdout
    assert "Reading      strict, of answers that are letters" in done.stdout
    services.plan.ClearField("cost")
    assert "Cost         unknown" in cli("run", "s.yaml", "--dry-run").stdout


def test_a_run_states_what_its_own_spec_and_files_say(services: Services) -> None:
    assert cli("run", "s.yaml", "--dry-run").exit_code == 0
    assert cli("run", "s.yaml", "--dry-run", "--fresh").exit_code == 0
    Path("s.yaml").write_text(SPEC.replace(", clinician_validated: true", ", name: Ward A"))
    assert cli("run", "s.yaml", "--dry-run").exit_code == 0
    said = [(spec.benchmark_name, spec.HasField("clinician_validated"), spec.clinician_validated, spec.fresh)
            for spec in services.specs]  # fmt: skip
    # The questions are stored under another name, as not validated: that is another's word.
    assert said == [("bench", True, True, False), ("bench", True, True, True), ("Ward A", True, False, False)]
