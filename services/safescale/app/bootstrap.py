"""Builds adapters and services by the settings.

Builders import what they build, since an image has the packages of its service alone.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import grpc

from safescale.app.metric_labels import DOMAIN_LABELS
from safescale.runtime.bus.port import Bus
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.files.data_folder import DataDir
from safescale.runtime.service import Service
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

if TYPE_CHECKING:
    from safescale.retrieval.embed.port import Embedder
    from safescale.retrieval.index.port import ChunkIndex

ServiceName = Literal["inference", "retrieval", "orchestration", "scoring"]


@dataclass(frozen=True)
class Parts:
    """What services are built from. `channel` returns the channel to a service, once its address is known."""

    settings: Settings
    bus: Bus
    documents: DocumentStore
    telemetry: Telemetry
    channel: Callable[[ServiceName], grpc.aio.Channel]
    resume_on_start: bool

    def to(self, service: ServiceName) -> Callable[[], grpc.aio.Channel]:
        """Return a function that gives the channel to a service."""
        return lambda: self.channel(service)


def open_telemetry(settings: Settings, service: str, stack: AsyncExitStack) -> Telemetry:
    """Return the metrics of a process and, where a collector is set, its spans, which `stack` sends at its end."""
    if not settings.otlp_endpoint:
        return Telemetry(labels=DOMAIN_LABELS)
    from safescale.runtime.tracing_otlp import OtlpExport

    export = OtlpExport(settings.otlp_endpoint, settings.trace_ratio, service)
    stack.push_async_callback(export.close)
    return Telemetry(tracer=export.tracer, labels=DOMAIN_LABELS)


def open_bus(settings: Settings, telemetry: Telemetry) -> Bus:
    """Return the bus: Kafka where the settings name it, else the one in memory. Nothing is connected yet.

    Raises:
        InvalidInputError: a file that the settings name cannot be read.

    """
    bus = _adapter(settings, telemetry)
    if telemetry.tracer is None:
        return bus
    from safescale.runtime.bus.traced import TracedBus

    return TracedBus(bus, telemetry)


def _adapter(settings: Settings, telemetry: Telemetry) -> Bus:
    if settings.kafka:
        from safescale.runtime.bus.kafka import KafkaBus
        from safescale.runtime.bus.kafka_client import connection_of
        from safescale.runtime.bus.kafka_consumer import Tuning

        tuning = Tuning(drain_s=settings.drain_timeout_s)
        return KafkaBus(connection_of(settings), telemetry, settings.instance, tuning)
    from safescale.runtime.bus.memory import MemoryBus

    return MemoryBus(telemetry, drain_s=settings.drain_timeout_s)


async def open_documents(settings: Settings, data: DataDir | None, telemetry: Telemetry) -> DocumentStore:
    """Open Elasticsearch where the settings name it, else the SQLite file of the data folder.

    Raises:
        StorageError: the file cannot be opened.
        InvalidInputError: a file that the settings name cannot be read.

    """
    if data is None:
        from safescale.runtime.documents.elastic import ElasticDocuments
        from safescale.runtime.elastic import ElasticConnection

        return ElasticDocuments(ElasticConnection(settings, telemetry), settings.elasticsearch_prefix)
    from safescale.runtime.documents.sqlite import SqliteDocuments

    return await SqliteDocuments.open(data.records)


def _inference(parts: Parts) -> Service:
    from safescale.inference.catalog import load_catalog
    from safescale.inference.service import InferenceConfig, InferenceService

    settings = parts.settings
    return InferenceService(
        InferenceConfig(
            bus=parts.bus,
            documents=parts.documents,
            telemetry=parts.telemetry,
            catalog=load_catalog(settings.models_file),
            retrieval=parts.to("retrieval"),
            cache_dir=settings.data_dir / "models",
            instances=settings.instances,
            call_timeout_s=settings.call_timeout_s,
            cell_timeout_s=settings.cell_timeout_s,
            cache_max_bytes=settings.cache_max_bytes,
        )
    )


def _retrieval(parts: Parts) -> Service:
    from safescale.retrieval.service import RetrievalConfig, RetrievalService

    embedder, index = _embedder(parts.settings), _index(parts)
    return RetrievalService(
        RetrievalConfig(parts.bus, parts.documents, parts.telemetry, embedder, parts.to("inference"), index)
    )


def _embedder(settings: Settings) -> "Embedder":
    if settings.embeddings:
        from safescale.retrieval.embed.openai import OpenAIEmbedder

        return OpenAIEmbedder(settings)
    from safescale.retrieval.embed.embedded import MiniLmEmbedder

    return MiniLmEmbedder(workers=os.cpu_count() or 1)


def _index(parts: Parts) -> "ChunkIndex":
    settings = parts.settings
    if settings.elasticsearch:
        from safescale.retrieval.index.elastic import ElasticIndex
        from safescale.runtime.elastic import ElasticConnection

        connection = ElasticConnection(settings, parts.telemetry)
        return ElasticIndex(connection, settings.elasticsearch_prefix, settings.elasticsearch_replicas)
    from safescale.retrieval.index.memory import MemoryIndex

    return MemoryIndex()


def _scoring(parts: Parts) -> Service:
    from safescale.scoring.service import ScoringConfig, ScoringService

    config = ScoringConfig(
        parts.bus, parts.documents, parts.telemetry, parts.to("inference"), parts.to("orchestration")
    )
    return ScoringService(config)


def _orchestration(parts: Parts) -> Service:
    from safescale.orchestration.service import OrchestrationConfig, OrchestrationService

    return OrchestrationService(
        OrchestrationConfig(
            parts.bus,
            parts.documents,
            parts.telemetry,
            parts.to("inference"),
            parts.to("retrieval"),
            parts.to("scoring"),
            resume_on_start=parts.resume_on_start,
            # The bus in memory keeps a message until it is taken.
            messages_kept_s=parts.settings.kafka_retention_hours * 3600 if parts.settings.kafka else None,
        )
    )


BUILDERS: Mapping[ServiceName, Callable[[Parts], Service]] = {
    "inference": _inference,
    "retrieval": _retrieval,
    "orchestration": _orchestration,
    "scoring": _scoring,
}
"""How each service is built."""
