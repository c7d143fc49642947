import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from typer.testing import CliRunner

from safescale.cli.measure.research import app
from safescale.core.errors import InvalidInputError, NotFoundError
from safescale.core.safety.research import ResearchSubject, research_id
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.rpc.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from safescale.runtime.errors import to_status

STEM = common_pb2.QuestionStem(
    question_id="q1", question_text="Which test shows it?", options={"A": "CT [18F]", "B": "Scan"}
)
IDENTIFIER = research_id(
    ResearchSubject("q1", STEM.question_text, dict(STEM.options), "corpus-1", "small", "revision-1")
)
RESEARCH = pb.Research(
    research_id=IDENTIFIER,
    step=pb.RESEARCH_STEP_DONE,
    question=STEM,
    corpus_id="corpus-1",
    agent_model="small",
    concepts=["embolism", "dose"],
    modules=[
        pb.ResearchModule(
            letter="A",
            objective="what CT shows",
            queries=["first words", "second words"],
            passages=[
                pb.Passage(chunk_id="chunk-7", title="About CT", text="Secret.", citation=1, query="second words")
            ],
            supporting="CT shows it [1].",
            contradicting="No contradicting evidence was found.",
            thin=True,
        ),
        pb.ResearchModule(letter="B", objective="what a scan shows"),
    ],
    report="Introduction\nA [1] report.",
    context_id="context-1",
    calls=[
        pb.AgentCall(step=pb.RESEARCH_STEP_SEARCH, kind="search", elapsed_s=0.25),
        pb.AgentCall(
            step=pb.RESEARCH_STEP_SECTIONS, kind="generate", elapsed_s=1.5, tokens=1234, fallback="taken from [1]"
        ),
    ],
    tokens=1234,
    elapsed_s=1.75,
)


@dataclass
class Services(
    orchestration_pb2_grpc.OrchestrationServiceServicer,
    inference_pb2_grpc.InferenceServiceServicer,
    retrieval_pb2_grpc.RetrievalServiceServicer,
):
    agent_model: str = "small"
    researches: dict[str, pb.Research] = field(default_factory=lambda: {IDENTIFIER: RESEARCH})
    asked: list[pb.ResearchRequest] = field(default_factory=list)
    polled: threading.Event = field(default_factory=threading.Event)
    researching: bool = False
    polls: int = 0

    def GetResearch(self, request, context):
        if request.research_id not in self.researches:
            status = to_status(NotFoundError(f"no research {request.research_id!r}"))
            context.abort_with_status(rpc_status.to_status(status))
        if self.researching:
            # The second poll tells that the answer to the first was shown.
            self.polls += 1
            if self.polls > 1:
                self.polled.set()
        return pb.GetResearchResponse(research=self.researches[request.research_id])

    def GetRun(self, request, context):
        spec = pb.RunSpec(benchmark_id="benchmark-1", corpus_id="corpus-1", agent_model=self.agent_model)
        manifest = pb.Manifest(spec=spec, agent_revision="revision-1")
        return pb.GetRunResponse(run=pb.Run(run_id="run-1", manifest=manifest))

    def GetBenchmark(self, request, context):
        return pb.GetBenchmarkResponse(questions=[common_pb2.Question(stem=STEM, correct_answer="A")])

    def GetModel(self, request, context):
        return inference_pb2.GetModelResponse(model=inference_pb2.Model(id=request.model, revision="revision-1"))

    def IngestCorpus(self, request_iterator, context):
        count = sum(1 for part in request_iterator if part.HasField("document"))
        return retrieval_pb2.IngestCorpusResponse(
            corpus=retrieval_pb2.Corpus(corpus_id="corpus-1", document_count=count), created=True
        )

    def Research(self, request, context):
        self.asked.append(request)
        self.researching = True
        self.polled.wait(20)
        return pb.ResearchResponse(research=RESEARCH)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    services = Services()
    server = grpc.server(ThreadPoolExecutor(8))
    orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server(services, server)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(services, server)
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(services, server)
    state = health.HealthServicer()
    state.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("SAFESCALE_SERVER", f"127.0.0.1:{port}")
    monkeypatch.setenv("COLUMNS", "160")
    yield services
    server.stop(None)


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("arguments", [[IDENTIFIER], ["--run", "latest", "--question", "q1"]])
def test_show_prints_everything_but_the_passages_texts(services: Services, arguments: list[str]) -> None:
    shown = invoke("show", *arguments)
    for part in (
        f"Research {IDENTIFIER}: done · 2 calls · 1,234 tokens · 1.8 s",
        "Concepts: embolism, dose",
        "A. CT [18F] — evidence thin",
        "plan: what CT shows",
        "query 1: first words",
        "passage [1] About CT (chunk chunk-7, query 2)",
        "supporting: CT shows it [1].",
        "B. Scan\n",
        "taken from [1]",
        "1 where the model's text could not be used as it was",
        "Introduction\nA [1] report.",
    ):
        assert part in shown
    assert "Secret" not in shown


def test_a_research_that_failed_says_why(services: Services) -> None:
    failed = pb.Research(research_id="x", step=pb.RESEARCH_STEP_FAILED, question=STEM)
    failed.failure.CopyFrom(common_pb2.Failure(code="UNAVAILABLE", reason="BACKEND_UNAVAILABLE", message="gone"))
    services.researches["x"] = failed
    assert "Failed: BACKEND_UNAVAILABLE: gone" in invoke("show", "x")


@pytest.mark.parametrize(
    "arguments", [[], ["x", "--run", "y", "--question", "z"], ["--run", "y"], ["--question", "z"], ["x", "--run", "y"]]
)
def test_show_needs_an_id_or_run_and_question(arguments: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="RESEARCH_ID"):
        invoke("show", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "no research 'none'"),
        (["--run", "latest", "--question", "q9"], "has no question 'q9'"),
    ],
)
def test_what_does_not_exist_is_named(services: Services, arguments: list[str], message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        invoke("show", *arguments)


def test_a_question_that_the_run_has_not_researched_yet(services: Services) -> None:
    services.researches.clear()
    with pytest.raises(NotFoundError, match="of question 'q1' by that run so far"):
        invoke("show", "--run", "latest", "--question", "q1")


def test_a_run_without_agent_has_no_research(services: Services) -> None:
    services.agent_model = ""
    with pytest.raises(InvalidInputError, match="names no agent model"):
        invoke("show", "--run", "latest", "--question", "q1")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    question = {
        "question_id": "q1",
        "question_text": STEM.question_text,
        "options": dict(STEM.options),
        "correct_answer": "A",
    }
    benchmark = tmp_path / "bench.jsonl"
    benchmark.write_text(json.dumps(question))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"id": "1", "title": "About CT", "text": "It shows it."}))
    return benchmark, corpus


def test_run_researches_one_question_and_shows_how_it_stands(services: Services, files: tuple[Path, Path]) -> None:
    options = ["--benchmark", str(files[0]), "--corpus", str(files[1]), "--model", "small", "--fresh"]
    shown = invoke("run", "--question-id", "q1", *options)
    assert services.polled.is_set()
    asked = services.asked[0]
    assert asked == pb.ResearchRequest(question=STEM, corpus_id="corpus-1", agent_model="small", fresh=True)
    assert shown.startswith("done · 2 calls")
    assert shown.rstrip().endswith("A [1] report.")


def test_run_names_a_question_that_the_benchmark_does_not_have(services: Services, files: tuple[Path, Path]) -> None:
    options = ["--benchmark", str(files[0]), "--corpus", str(files[1]), "--model", "small"]
    with pytest.raises(NotFoundError, match="has no question 'q9'"):
        invoke("run", "--question-id", "q9", *options)
    assert services.asked == []
