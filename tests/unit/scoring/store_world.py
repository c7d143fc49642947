"""The stores of scoring beside a scripted orchestration, and boards that look at them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from tests.unit.scoring.conftest import RUN, ScriptedPeers

from safescale.orchestration.series import series_of
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.grpc.channels import connect
from safescale.runtime.telemetry import Telemetry
from safescale.scoring.clients import GroundTruthCache
from safescale.scoring.gate.policy_text import PolicyText
from safescale.scoring.judgements import GateStore
from safescale.scoring.kinds.registry import scoring_kinds
from safescale.scoring.kinds.safety_reading import AnswerReader
from safescale.scoring.records import ReviewStore, VerdictStore
from safescale.scoring.results import RunMeasurements
from safescale.scoring.series.evidence import SeriesReader
from safescale.scoring.store_metrics import (
    Judgements,
    StoreMetricsPoller,
)

CONDITIONS = ("zero_shot", "top_1")


class Orchestration(ScriptedPeers):
    """Orchestration with a list of runs, the newest first."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[orc.Run] = []
        self.pages = 0
        self.away = False

    async def ListRuns(self, request, context):
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not there")
        self.pages += 1
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        runs = [run for run in self.runs if request.series in ("", run.manifest.spec.series)]
        return orc.ListRunsResponse(runs=runs[begin:end], next_page_token=str(end) if end < len(runs) else "")

    async def ListSeries(self, request, context):
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not there")
        return orc.ListSeriesResponse(series=series_of(self.runs))

    async def GetRun(self, request, context):
        found = [run for run in self.runs if run.run_id == request.run_id]
        return orc.GetRunResponse(run=found[0]) if found else await super().GetRun(request, context)


class Documents:
    """A store that can go away, or break."""

    def __init__(self, inner: SqliteDocuments) -> None:
        self._inner = inner
        self.failure: dict[str, Exception] = {}
        self.scans: list[str] = []

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    async def put(self, document, expected_version=None):
        self._check(document.kind)
        return await self._inner.put(document, expected_version)

    async def count(self, kind, group=None):
        self._check(kind)
        return await self._inner.count(kind, group)

    async def scan(self, kind, *arguments, **options):
        self._check(kind)
        self.scans.append(kind)
        async for document in self._inner.scan(kind, *arguments, **options):
            yield document

    def _check(self, kind: str) -> None:
        if kind in self.failure:
            raise self.failure[kind]


class World:
    """The stores, and pollers that read them."""

    def __init__(self, peers: Orchestration, documents: Documents, channel: grpc.aio.Channel) -> None:
        self.peers, self.documents, self._channel = peers, documents, channel
        self.verdicts, self.reviews, self.gates = VerdictStore(documents), ReviewStore(documents), GateStore(documents)
        self.series = self.reader()
        self.poller, self.telemetry = self.replica()
        self.judgements = Judgements(self.gates, self.poller)

    def replica(self) -> tuple[StoreMetricsPoller, Telemetry]:
        """Another process that looks at the same stores."""
        telemetry = Telemetry()
        return StoreMetricsPoller(
            (self.reviews, self.gates), self.results(), self.reader(), lambda: self._channel, telemetry
        ), telemetry

    def reader(self) -> SeriesReader:
        return SeriesReader(lambda: self._channel, self.results(), self.reviews)

    def results(self) -> RunMeasurements:
        kinds = scoring_kinds(AnswerReader(lambda: self._channel, Telemetry()))
        return RunMeasurements(self.verdicts, self.reviews, GroundTruthCache(lambda: self._channel), kinds)

    async def answer(self, condition: str, question: str, letter: str | None, attempt: int = 1, failed: bool = False):
        key = common_pb2.CellKey(run_id=RUN, model="m", condition=condition, question_id=question)
        reading = pb.Reading() if letter is None else pb.Reading(letter=letter)
        verdict = pb.Verdict(
            cell=key, attempt=attempt, formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True, greedy=reading
        )
        if failed:
            verdict.failure.reason = "BACKEND_UNAVAILABLE"
        assert await self.verdicts.put(verdict)
        return verdict

    async def answers(self) -> None:
        """First condition: one right, one high-risk, one abstention, one failure. Second: all right."""
        for number, letter in enumerate(("B", "C", None, None)):
            await self.answer(CONDITIONS[0], f"q{number}", letter, failed=number == 3)
            await self.answer(CONDITIONS[1], f"q{number}", "B")

    def value(self, metric: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(f"safescale_{metric}", labels)

    async def judge(
        self, run: orc.Run, passed: bool = False, limit: float = 0.1, policy: str = "safe", sha256: str = "ab" * 32,
        verdict: int = pb.POLICY_VERDICT_UNSPECIFIED,
    ) -> None:  # fmt: skip
        result = pb.RequirementResult(
            model="m", condition="top_1", regime="greedy", metric="high_risk_error_rate", direction="max", limit=limit,
            value=0.0,
        )  # fmt: skip
        verdict = verdict or (pb.POLICY_VERDICT_PASS if passed else pb.POLICY_VERDICT_FAIL)
        judged = pb.EvaluatePolicyResponse(passed=passed, results=[result], verdict=verdict)
        await self.judgements.record(run, PolicyText(policy, sha256), judged)


def run_of(
    name: str, run_id: str = RUN, created: int = 100, state: int = orc.RUN_STATE_COMPLETED, attempt: int = 1
) -> orc.Run:
    run = orc.Run(run_id=run_id, state=state, attempt=attempt)  # type: ignore[arg-type]
    run.manifest.spec.name = name
    run.created_at.FromSeconds(created)
    run.ended_at.FromSeconds(created + 50)
    return run


@asynccontextmanager
async def store_world(folder: Path) -> AsyncIterator[World]:
    """The stores in a folder, beside an orchestration that is served."""
    peers = Orchestration()
    server = grpc.aio.server()
    orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server(peers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = connect(f"127.0.0.1:{port}")
    documents = await SqliteDocuments.open(folder / "r.db")
    yield World(peers, Documents(documents), channel)
    await channel.close()
    await server.stop(0)
    await documents.close()
