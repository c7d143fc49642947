"""The inference service: models of the catalog behind gRPC and a worker for cells."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from safescale.core.errors import InvalidInputError
from safescale.inference.attempts import CallPolicy
from safescale.inference.backends.llama.pool import InstanceLimiter
from safescale.inference.backends.registry import BackendOptions, build
from safescale.inference.cache.bound import CacheKeeper
from safescale.inference.cache.store import GenerationCache
from safescale.inference.catalog import Catalog
from safescale.inference.contexts import ContextReader
from safescale.inference.engine import Engine
from safescale.inference.run_ends import RunEnds
from safescale.inference.servicer import InferenceServicer
from safescale.inference.worker import GenerationWorker, InferencePorts
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.runtime.bus.port import Bus
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.telemetry import Telemetry

DEFAULT_INSTANCES = 2


@dataclass(frozen=True)
class InferenceConfig:
    """What the service works with.

    `instances` of each embedded model, and of all together at work (default: 2, or 1 on one core). `cache_dir` holds
    weights that come in parts. `call_timeout_s` is the time of one exchange with a model, `cell_timeout_s` that of all
    exchanges about one prompt with their retries and waits. `cache_max_bytes` bounds the generation cache; 0 does not.
    """

    bus: Bus
    documents: DocumentStore
    telemetry: Telemetry
    catalog: Catalog
    retrieval: Callable[[], grpc.aio.Channel]
    cache_dir: Path
    instances: int | None = None
    call_timeout_s: float = 600.0
    cell_timeout_s: float = 3600.0
    cache_max_bytes: int = 0


class InferenceService:
    """Asks models for callers and for runs. Models are loaded at their first use."""

    def __init__(self, config: InferenceConfig) -> None:
        instances = config.instances if config.instances is not None else default_instances()
        if instances < 1:
            raise InvalidInputError(f"instances is {instances}; expected at least 1")
        options = BackendOptions(instances, InstanceLimiter(instances), config.cache_dir, config.telemetry)
        backends = {name: build(row, options) for name, row in config.catalog.rows.items()}
        policy = CallPolicy(timeout_s=config.call_timeout_s, deadline_s=config.cell_timeout_s)
        cache = GenerationCache(config.documents, CacheKeeper(config.documents, config.cache_max_bytes))
        config.telemetry.know("model", config.catalog.rows)
        self._engine = Engine(config.catalog, backends, cache, config.telemetry, policy)
        self._contexts = ContextReader(config.retrieval)
        self._ends = RunEnds(config.bus)
        self._worker = GenerationWorker(
            InferencePorts(config.bus, config.documents, config.telemetry, self._engine, self._contexts, self._ends)
        )

        self._servicer = InferenceServicer(self._engine, self._worker.look)

    @property
    def name(self) -> str:
        """Full gRPC service name."""
        return str(inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the gRPC handlers to a server."""
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Learn which runs ended, then start the worker; nothing is loaded."""
        await self._ends.start()
        await self._worker.start()

    async def stop(self) -> None:
        """Finish the cells in flight, release the models."""
        await self._worker.stop()
        await self._ends.stop()
        await self._contexts.close()
        await self._engine.close()


def default_instances() -> int:
    """Return the instances of an embedded model on this machine: one per core, at most two."""
    return min(os.cpu_count() or 1, DEFAULT_INSTANCES)
