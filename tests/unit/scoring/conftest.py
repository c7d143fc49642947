from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import question_to_proto
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.rpc.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.grpc.channels import connect
from safescale.runtime.grpc.server import GrpcServer
from safescale.runtime.telemetry import Telemetry
from safescale.scoring.kinds.registry import scoring_kinds
from safescale.scoring.service import ScoringConfig, ScoringService

RUN = "run-1"


def make_question(identifier: str) -> Question:
    return Question(
        identifier,
        "Which of these is NOT safe?",
        {"A": "this", "B": "that", "C": "those"},
        "B",
        "chest",
        "safety",
        labels={
            "A": OptionLabels(False, False, True),
            "B": OptionLabels(True, True, False),
            "C": OptionLabels(True, True, True),
        },
    )


class ScriptedPeers(orchestration_pb2_grpc.OrchestrationServiceServicer, inference_pb2_grpc.InferenceServiceServicer):
    """Orchestration with one run, and a judge that answers from a script."""

    def __init__(self) -> None:
        self.benchmark = Benchmark("bench", tuple(make_question(f"q{i}") for i in range(4)))
        self.judge_model = ""
        self.run = orchestration_pb2.Run(run_id=RUN, state=orchestration_pb2.RUN_STATE_COMPLETED, attempt=1)
        self.run.manifest.CopyFrom(
            orchestration_pb2.Manifest(
                spec=orchestration_pb2.RunSpec(
                    name="night", benchmark_id="b", models=["m"], conditions=["zero_shot"], greedy=True
                ),
                models=[orchestration_pb2.ManifestModel(id="m")],
                question_ids=["q0"],
            )
        )
        self.others: dict[str, orchestration_pb2.Run] = {}
        self.judge_replies: dict[str, str] = {}
        self.judge_calls = 0
        self.judge_requests: list[inference_pb2.GenerateRequest] = []
        self.judge_finish = "stop"
        self.judge_reasons = False
        self.judge_warnings: list[str] = []
        self.review = self.reading = ""
        self.unreachable = 0

    async def GetRun(self, request, context):
        if request.run_id in self.others:
            return orchestration_pb2.GetRunResponse(run=self.others[request.run_id])
        if request.run_id not in (RUN, "latest"):
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such run")
        spec = self.run.manifest.spec
        spec.judge_model, spec.review, spec.reading = self.judge_model, self.review, self.reading
        judge = orchestration_pb2.ManifestModel(id=self.judge_model, revision="r7", fingerprint="f7")
        self.run.manifest.judge.CopyFrom(judge)
        return orchestration_pb2.GetRunResponse(run=self.run)

    async def ListRuns(self, request, context):
        runs = [run for run in (self.run, *self.others.values()) if run.manifest.spec.series == request.series]
        return orchestration_pb2.ListRunsResponse(runs=runs if request.series else [])

    async def GetBenchmark(self, request, context):
        return orchestration_pb2.GetBenchmarkResponse(
            benchmark=orchestration_pb2.Benchmark(name="bench"),
            questions=[question_to_proto(question) for question in self.benchmark.questions],
        )

    async def Generate(self, request, context):
        self.judge_calls += 1
        self.judge_requests.append(request)
        if request.model == "nobody":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no model 'nobody'")
        for part, reply in self.judge_replies.items():
            if part in request.messages.user:
                if reply == "DOWN":
                    await context.abort(grpc.StatusCode.INTERNAL, "down")
                if self.unreachable:
                    self.unreachable -= 1
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "not there")
                output = inference_pb2.Output(text=reply, finish_reason=self.judge_finish)
                if self.judge_reasons and request.sampling.max_new_tokens < 4096:
                    output = inference_pb2.Output(reasoning="First, ...", finish_reason="length")
                return inference_pb2.GenerateResponse(outputs=[output], warnings=self.judge_warnings)
        return inference_pb2.GenerateResponse(outputs=[inference_pb2.Output(text="I do not know")])


class World:
    def __init__(self, peers, bus, documents, telemetry, channel) -> None:
        self.peers = peers
        self.bus = bus
        self.documents = documents
        self.telemetry = telemetry
        self.channel = channel
        self.peer_address = ""


@asynccontextmanager
async def scoring_world(folder: Path, kinds=scoring_kinds) -> AsyncIterator[World]:
    """The service with its stores in a folder, its peers scripted; `kinds` are those of runs."""
    peers = ScriptedPeers()
    telemetry = Telemetry()
    bus = MemoryBus(telemetry)
    documents = await SqliteDocuments.open(folder / "r.db")
    peer_server = grpc.aio.server()
    orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server(peers, peer_server)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(peers, peer_server)
    port = peer_server.add_insecure_port("127.0.0.1:0")
    await peer_server.start()
    peer_channel = connect(f"127.0.0.1:{port}")
    service = ScoringService(
        ScoringConfig(bus, documents, telemetry, lambda: peer_channel, lambda: peer_channel, kinds)
    )
    server = GrpcServer([service], telemetry)
    own = await server.listen("127.0.0.1", 0)
    await service.start()
    channel = connect(f"127.0.0.1:{own}")
    made = World(peers, bus, documents, telemetry, channel)
    made.peer_address = f"127.0.0.1:{port}"
    yield made
    await channel.close()
    await service.stop()
    await server.stop(0)
    await peer_channel.close()
    await peer_server.stop(0)
    await bus.close()
    await documents.close()


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    async with scoring_world(tmp_path) as made:
        yield made


@pytest.fixture
def cell_key():
    def make(question: str = "q0", condition: str = "zero_shot", model: str = "m") -> common_pb2.CellKey:
        return common_pb2.CellKey(run_id=RUN, model=model, condition=condition, question_id=question)

    return make


@pytest.fixture
def stub(world):
    return ScoringServiceStub(world.channel)


@pytest.fixture
async def verdicts(world):
    seen: list[pb.Verdict] = []

    async def handle(message: Message) -> None:
        seen.append(events_pb2.VerdictRecorded.FromString(message.value).verdict)

    await world.bus.subscribe(topics.VERDICT_RECORDED, "test", handle, SubscriptionOptions())
    return seen
