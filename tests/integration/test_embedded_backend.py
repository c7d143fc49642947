"""The inference service on the real embedded model: gRPC, bus, records, cache, restart."""

import asyncio
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from safescale.core.errors import InvalidInputError, NotFoundError, PromptTooLongError
from safescale.inference.catalog import load_catalog
from safescale.inference.service import InferenceConfig, InferenceService
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.inference.v1 import inference_pb2 as pb
from safescale.rpc.inference.v1 import inference_pb2_grpc
from safescale.rpc.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.grpc.channels import connect, rpc_errors
from safescale.runtime.grpc.server import GrpcServer
from safescale.runtime.telemetry import Telemetry

pytestmark = pytest.mark.models

MODEL = "smollm2-135m-instruct"
QUESTION = "Which sign on an upright chest radiograph suggests a pneumoperitoneum?"
OPTIONS = {"A": "Kerley B lines", "B": "Hampton hump", "C": "Free air under the diaphragm", "D": "Silhouette sign"}
PASSAGE = "On an upright chest radiograph, pneumoperitoneum is shown by free air under the diaphragm."


class Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Has one context."""

    name = "safescale.retrieval.v1.RetrievalService"

    def register(self, server: grpc.aio.Server) -> None:
        retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(self, server)

    async def GetContext(self, request, context):
        if request.context_id != "stored":
            raise NotFoundError(f"no context {request.context_id}")
        return retrieval_pb2.GetContextResponse(context=retrieval_pb2.Context(text=PASSAGE))


class Process:
    """A process that hosts the service; what it published."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.completed: dict[str, events_pb2.GenerationCompleted] = {}

    async def __aenter__(self) -> "Process":
        self.telemetry = Telemetry()
        self.bus = MemoryBus(self.telemetry)
        self.documents = await SqliteDocuments.open(self.folder / "documents.db")
        config = InferenceConfig(
            self.bus,
            self.documents,
            self.telemetry,
            load_catalog(None),
            retrieval=lambda: self.channel,
            cache_dir=self.folder / "cache",
        )
        self.service = InferenceService(config)
        self.server = GrpcServer([self.service, Retrieval()], self.telemetry)
        self.channel = connect(f"127.0.0.1:{await self.server.listen('127.0.0.1', 0)}")
        begin = time.perf_counter()
        await self.service.start()
        self.start_s = time.perf_counter() - begin
        await self.server.serving()
        self.stub = inference_pb2_grpc.InferenceServiceStub(self.channel)

        async def take(message: Message) -> None:
            event = events_pb2.GenerationCompleted.FromString(message.value)
            self.completed[message.key] = event

        await self.bus.subscribe(topics.GENERATION_COMPLETED, "test", take, SubscriptionOptions())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop(1)
        await self.service.stop()
        await self.bus.close()
        await self.channel.close()
        await self.documents.close()

    async def ask(self, **requests: events_pb2.GenerationRequested) -> dict[str, events_pb2.GenerationCompleted]:
        self.completed.clear()
        for name, request in requests.items():
            request.cell.question_id = name
            message = Message(topics.generation_requested(MODEL), name, request.SerializeToString())
            await self.bus.publish(message)
        async with asyncio.timeout(60):
            while len(self.completed) < len(requests):
                await asyncio.sleep(0.01)
        return {event.cell.question_id: event for event in self.completed.values()}


@pytest.fixture
async def process(tmp_path):
    async with Process(tmp_path) as running:
        model = (await running.stub.GetModel(pb.GetModelRequest(model=MODEL))).model
        if not model.available:
            pytest.skip(model.unavailable_reason)
        yield running


def cell(run_id: str = "r", formulation: int = common_pb2.FORMULATION_CLOZE, **context: str):
    return events_pb2.GenerationRequested(
        cell=common_pb2.CellKey(run_id=run_id, model=MODEL, condition="evidence_clean"),
        question=common_pb2.QuestionStem(question_id="q", question_text=QUESTION, options=OPTIONS),
        context=common_pb2.ContextRef(**context),
        formulation=formulation,
        greedy=True,
        sample_count=5,
        temperature=0.7,
        max_new_tokens=4,
        seed=7,
        attempt=1,
    )


async def test_evidence_moves_the_answer_and_the_claim_check_gives_the_same(process) -> None:
    done = await process.ask(bare=cell(), inline=cell(inline_text=PASSAGE), stored=cell(context_id="stored"))
    bare, inline, stored = done["bare"], done["inline"], done["stored"]
    assert inline.greedy.letter == "C"
    assert inline.option_scores["C"] > bare.option_scores["C"] + 1
    assert dict(stored.option_scores) == dict(inline.option_scores)
    assert [sample.letter for sample in stored.samples] == [sample.letter for sample in inline.samples]
    assert inline.usage.prompt_tokens > bare.usage.prompt_tokens > 0
    assert 0 < inline.timings.time_to_first_token_s < inline.timings.greedy_s


async def test_a_failed_cell_leaves_the_others_alone(process) -> None:
    long = cell(inline_text="word " * 9000)
    done = await process.ask(absent=cell(context_id="absent"), long=long, good=cell())
    assert done["absent"].failure.reason == "NOT_FOUND"
    assert done["long"].failure.reason == "PROMPT_TOO_LONG"
    assert "8,192" in done["long"].failure.message
    assert done["good"].greedy.letter in OPTIONS


async def test_after_a_restart_nothing_is_asked_twice(process, tmp_path) -> None:
    letter = common_pb2.FORMULATION_LETTER
    first = await process.ask(cloze=cell(), letter=cell(formulation=letter))
    assert first["letter"].greedy.finish_reason
    assert len(first["letter"].samples) == 5
    async with Process(tmp_path) as again:
        redelivered = await again.ask(cloze=cell(), letter=cell(formulation=letter))
        other_run = await again.ask(cloze=cell("r2"), letter=cell("r2", letter))
    assert redelivered == first
    for name, event in other_run.items():
        assert event.cached
        assert [s.SerializeToString() for s in event.samples] == [s.SerializeToString() for s in first[name].samples]
        assert event.timings.greedy_s == first[name].timings.greedy_s


async def test_the_face_of_the_service(process) -> None:
    assert process.start_s < 3
    models = {model.id: model for model in (await process.stub.ListModels(pb.ListModelsRequest())).models}
    assert models[MODEL].window_tokens == 8192
    assert models[MODEL].auto_formulation == common_pb2.FORMULATION_CLOZE
    assert models["gemma-3-270m"].available or models["gemma-3-270m"].unavailable_reason
    health = health_pb2_grpc.HealthStub(process.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=process.service.name))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    request = pb.GenerateRequest(
        model=MODEL, messages=pb.Messages(user="Say hello."), sampling=pb.Sampling(max_new_tokens=5)
    )
    plain = await process.stub.Generate(request)
    stream = [event async for event in process.stub.GenerateStream(pb.GenerateStreamRequest(request=request))]
    assert stream[-1].result.outputs[0] == plain.outputs[0]
    assert stream[-1].result.cached
    request.sampling.max_new_tokens = 0
    with pytest.raises(InvalidInputError, match="max_new_tokens is 0"), rpc_errors():
        await process.stub.Generate(request)
    request.sampling.max_new_tokens = 1
    request.messages.user = "word " * 9000
    with pytest.raises(PromptTooLongError) as caught, rpc_errors():
        await process.stub.Generate(request)
    assert caught.value.details["window_tokens"] == "8192"
