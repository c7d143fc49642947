"""Scripted inference and retrieval servers that the agent talks to over gRPC in this process."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from safescale.core.errors import NotFoundError
from safescale.orchestration.agent.research import ResearchRunner
from safescale.orchestration.agent.text import terms
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.grpc.channels import connect
from safescale.runtime.grpc.server import CallInterceptor
from safescale.runtime.telemetry import Telemetry

QUESTION = common_pb2.QuestionStem(
    question_id="q1",
    question_text="Which imaging test for suspected pulmonary embolism in pregnancy has the lowest breast dose?",
    options={"A": "CT angiography", "B": "Perfusion scintigraphy", "C": "Gadolinium"},
)
ARTICLES = {
    "c1": (
        "Perfusion scintigraphy",
        "Perfusion scintigraphy in pregnancy gives a low dose to the breast. It is quick.",
    ),
    "c2": ("CT angiography", "CT angiography shows a pulmonary embolism directly. It is not free of breast dose."),
    "c3": ("More on CT", "CT angiography is at hand at night when a pulmonary embolism is suspected."),
    "c4": (
        "More on scans",
        "Perfusion scintigraphy is not used in pregnancy when a radiograph of the breast is abnormal.",
    ),
    "c5": ("Liver", "The liver has two lobes."),
}


def step_of(prompt: str) -> str:
    """Which call a prompt belongs to."""
    for mark, name in (
        ("key diagnostic concepts of this", "concepts"),
        ("what to look up", "plan"),
        ("other search query", "refine"),
        ("From these passages", "section"),
        ("Write a conclusion", "conclusion"),
    ):
        if mark in prompt:
            return name
    raise AssertionError(prompt)


def good_text(prompt: str) -> str:
    """What an able model writes."""
    number = prompt.partition("Passages:\n[")[2].partition("]")[0]
    return {
        "concepts": "pulmonary embolism, pregnancy, breast dose",
        "plan": (
            "A: sensitivity and dose of CT angiography\nB: dose of scintigraphy for the breast\n"
            "C: safety of gadolinium in pregnancy"
        ),
        "refine": "gadolinium contrast safety in pregnancy",
        "section": f"Supporting: The breast dose in pregnancy of a pulmonary test [{number}].\nContradicting: none",
        "conclusion": "The evidence supports perfusion scintigraphy in pregnancy and speaks against gadolinium [1].",
    }[step_of(prompt)]


@dataclass
class Inference(inference_pb2_grpc.InferenceServiceServicer):
    """Answers what it is told to; keeps what it was asked."""

    write: Callable[[str], str] = good_text
    reasoning: bool = False
    revision: str = "r1"
    outputs: int = 1
    finish_reason: str = "stop"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[inference_pb2.GenerateRequest] = field(default_factory=list)

    def steps(self) -> list[str]:
        return [step_of(request.messages.user) for request in self.asked]

    async def GetModel(self, request, context):
        if request.model != "agent":
            raise NotFoundError(f"no model {request.model!r}")
        model = inference_pb2.Model(
            id="agent", revision=self.revision, reasoning=self.reasoning, fingerprint="server 1"
        )
        return inference_pb2.GetModelResponse(model=model)

    async def Generate(self, request, context):
        await self.gate.wait()
        self.asked.append(request)
        text = self.write(request.messages.user)
        return inference_pb2.GenerateResponse(
            outputs=[inference_pb2.Output(text=text, finish_reason=self.finish_reason, generated_tokens=5)]
            * self.outputs,
            usage=common_pb2.Usage(prompt_tokens=100, generated_tokens=5),
            elapsed_s=0.25,
        )


@dataclass
class Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Ranks the articles by shared terms; `before` may raise."""

    before: Callable[[], None] = lambda: None
    empty: bool = False
    queries: list[str] = field(default_factory=list)
    contexts: dict[str, retrieval_pb2.PutContextRequest] = field(default_factory=dict)

    async def Search(self, request, context):
        self.before()
        self.queries.append(request.query)
        wanted = set(terms(request.query))
        order = sorted(ARTICLES, key=lambda key: -len(wanted & set(terms(" ".join(ARTICLES[key])))))
        hits = [
            retrieval_pb2.Hit(chunk_id=key, title=ARTICLES[key][0], text="\n".join(ARTICLES[key]))
            for key in order[: 0 if self.empty else request.k]
        ]
        return retrieval_pb2.SearchResponse(hits=hits)

    async def PutContext(self, request, context):
        identifier = hashlib.sha256(request.text.encode()).hexdigest()
        self.contexts[identifier] = request
        stored = retrieval_pb2.Context(context_id=identifier, token_count=321)
        return retrieval_pb2.PutContextResponse(context=stored)


@dataclass
class World:
    """The servers, the records and a way to a new researcher, as after a restart of the process."""

    inference: Inference
    retrieval: Retrieval
    documents: SqliteDocuments
    telemetry: Telemetry
    channel: grpc.aio.Channel

    def researcher(self) -> ResearchRunner:
        return ResearchRunner(self.documents, lambda: self.channel, lambda: self.channel, self.telemetry)

    def metric(self, step: str, outcome: str) -> float:
        labels = {"step": step, "outcome": outcome}
        return self.telemetry.registry.get_sample_value("safescale_agent_step_seconds_count", labels) or 0.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    inference, retrieval = Inference(), Retrieval()
    inference.gate.set()
    server = grpc.aio.server(interceptors=[CallInterceptor(Telemetry())])
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(inference, server)
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(retrieval, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    documents = await SqliteDocuments.open(tmp_path / "records.sqlite")
    async with connect(f"127.0.0.1:{port}") as channel:
        yield World(inference, retrieval, documents, Telemetry(), channel)
    await server.stop(None)
    await documents.close()


@pytest.fixture
def request_() -> pb.ResearchRequest:
    return pb.ResearchRequest(question=QUESTION, corpus_id="corpus", agent_model="agent")
