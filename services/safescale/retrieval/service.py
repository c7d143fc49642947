"""The retrieval service: corpora, search and contexts."""

from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from safescale.retrieval.chunking import ChunkParams
from safescale.retrieval.clients import ModelTokenizers
from safescale.retrieval.contexts import BuilderPorts, ContextBuilder, ContextStore
from safescale.retrieval.corpora import Corpora
from safescale.retrieval.embed.port import Embedder
from safescale.retrieval.index.memory import MemoryIndex
from safescale.retrieval.index.port import ChunkIndex
from safescale.retrieval.ingest import IngestLimits
from safescale.retrieval.servicer import RetrievalServicer
from safescale.retrieval.worker import ContextWorker
from safescale.rpc.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from safescale.runtime.bus.port import Bus
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.telemetry import Telemetry


@dataclass(frozen=True)
class RetrievalConfig:
    """What the service works with; `inference` is asked for at each call, since addresses come late."""

    bus: Bus
    documents: DocumentStore
    telemetry: Telemetry
    embedder: Embedder
    inference: Callable[[], grpc.aio.Channel]
    index: ChunkIndex = field(default_factory=MemoryIndex)
    chunks: ChunkParams = field(default_factory=ChunkParams)
    limits: IngestLimits = field(default_factory=IngestLimits)


class RetrievalService:
    """Hosts corpora and builds contexts, for callers and for runs."""

    def __init__(self, config: RetrievalConfig) -> None:
        corpora = Corpora(config.documents, config.embedder, config.index, config.chunks)
        store = ContextStore(config.documents)
        models = ModelTokenizers(config.inference)
        builder = ContextBuilder(BuilderPorts(corpora, config.embedder, models, store, config.telemetry))
        self._config = config
        self._servicer = RetrievalServicer(corpora, builder, store, config.embedder, config.limits)
        self._worker = ContextWorker(config.bus, builder)

    @property
    def name(self) -> str:
        """Full gRPC service name."""
        return str(retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"].full_name)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the gRPC handlers to a server."""
        retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Start the worker. Models and indexes are read when first needed."""
        await self._worker.start()

    async def stop(self) -> None:
        """Finish what is in flight, close the connections of index and embedder."""
        await self._worker.stop()
        await self._config.index.close()
        await self._config.embedder.close()
