"""Texts of stored contexts, read from retrieval (claim check) and kept for the cells that share them."""

import sys
from collections.abc import Callable
from contextlib import suppress

import grpc
from cachetools import LRUCache

from safescale.core.errors import GarbageAnswerError, SafescaleError, ServiceUnavailableError
from safescale.inference.single_flight import SingleFlight
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from safescale.runtime.grpc.channels import rpc_errors

CAPACITY_BYTES = 64 * 1024 * 1024
READ_TIMEOUT_S = 30.0

AWAY = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
"""Codes of a service that is overloaded or stops just now; UNAVAILABLE is mapped already."""


class ContextReader:
    """Reads contexts by id; the newest stay in memory, up to a bound in bytes.

    It repeats nothing: the channel repeats reads that found no server, and a cell whose context cannot be had for now
    comes back with its message.
    """

    def __init__(self, retrieval: Callable[[], grpc.aio.Channel], capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._retrieval = retrieval
        self._texts: LRUCache[str, str] = LRUCache(capacity_bytes, getsizeof=_memory)
        self._flights = SingleFlight()

    async def text(self, reference: common_pb2.ContextRef) -> str | None:
        """Return the text of a context; None for closed-book.

        Raises:
            NotFoundError: retrieval does not have it.
            DependencyUnavailableError: retrieval, or the store behind it, cannot be reached or does not answer.
            SafescaleError: it cannot be read.

        """
        source = reference.WhichOneof("source")
        if source is None:
            return None
        if source == "inline_text":
            return reference.inline_text
        identifier = reference.context_id
        if (known := self._texts.get(identifier)) is not None:
            return known

        async def work() -> str:
            return await self._read(identifier)

        text, joined = await self._flights.run(identifier, work)
        if not joined:
            # The cache refuses a text that is over its whole capacity.
            with suppress(ValueError):
                self._texts[identifier] = text
        return text

    async def _read(self, identifier: str) -> str:
        stub = retrieval_pb2_grpc.RetrievalServiceStub(self._retrieval())
        request = retrieval_pb2.GetContextRequest(context_id=identifier)
        try:
            with rpc_errors():
                response = await stub.GetContext(request, timeout=READ_TIMEOUT_S)
        except SafescaleError as error:
            cause = error.__cause__
            if isinstance(cause, grpc.aio.AioRpcError) and cause.code() in AWAY:
                raise ServiceUnavailableError(f"retrieval did not answer: {error.message}") from error
            raise
        if not response.context.text:
            raise GarbageAnswerError("retrieval gave a context without text")
        return str(response.context.text)

    async def close(self) -> None:
        """End reads that run."""
        await self._flights.close()


def _memory(text: str) -> int:
    """Return the bytes of a text in memory: one character beyond Latin-1 makes every character take two, or four."""
    return sys.getsizeof(text) - sys.getsizeof("")
