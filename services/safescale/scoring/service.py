"""The scoring service: reads answers, records verdicts, computes metrics."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from safescale.rpc.scoring.v1 import scoring_pb2, scoring_pb2_grpc
from safescale.runtime.bus.port import Bus
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.telemetry import Telemetry
from safescale.scoring.clients import GroundTruthCache
from safescale.scoring.encoded_batches import encoded_handler
from safescale.scoring.judgements import GateStore
from safescale.scoring.kinds.port import Kinds
from safescale.scoring.kinds.registry import scoring_kinds
from safescale.scoring.kinds.safety_reading import AnswerReader
from safescale.scoring.records import ReviewStore, VerdictStore
from safescale.scoring.results import RunMeasurements
from safescale.scoring.series.evidence import SeriesReader
from safescale.scoring.servicer import ScoringServicer
from safescale.scoring.store_metrics import Judgements, StoreMetricsPoller
from safescale.scoring.worker import ScoringPorts, ScoringWorker


@dataclass(frozen=True)
class ScoringConfig:
    """What the service works with."""

    bus: Bus
    documents: DocumentStore
    telemetry: Telemetry
    inference: Callable[[], grpc.aio.Channel]
    orchestration: Callable[[], grpc.aio.Channel]
    kinds: Callable[[AnswerReader], Kinds] = scoring_kinds


class ScoringService:
    """Scores answers of runs and of callers."""

    def __init__(self, config: ScoringConfig) -> None:
        reader = AnswerReader(config.inference, config.telemetry)
        # Models that no run has and no judge is make no series.
        truths = GroundTruthCache(config.orchestration, lambda names: config.telemetry.know("model", names))
        verdicts = VerdictStore(config.documents)
        reviews = ReviewStore(config.documents)
        kinds = config.kinds(reader)
        results = RunMeasurements(verdicts, reviews, truths, kinds)
        gates = GateStore(config.documents)
        series = SeriesReader(config.orchestration, results, reviews)
        self._poller = StoreMetricsPoller((reviews, gates), results, series, config.orchestration, config.telemetry)
        judgements = Judgements(gates, self._poller)
        self._servicer = ScoringServicer(reader, (verdicts, reviews), truths, results, judgements, series)
        self._worker = ScoringWorker(
            ScoringPorts(config.bus, truths, kinds, results, verdicts, reviews, config.telemetry)
        )

    @property
    def name(self) -> str:
        """Full gRPC service name."""
        return str(scoring_pb2.DESCRIPTOR.services_by_name["ScoringService"].full_name)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the gRPC handlers to a server."""
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(self._servicer, server)
        # After those of the service: of two handlers for a method the later is kept.
        server.add_registered_method_handlers(self.name, {"ScoreAnswers": encoded_handler(self._servicer.ScoreAnswers)})

    async def start(self) -> None:
        """Start the worker."""
        await self._worker.start()
        self._poller.start()

    async def stop(self) -> None:
        """Finish what is in flight."""
        await self._poller.stop()
        await self._worker.stop()
