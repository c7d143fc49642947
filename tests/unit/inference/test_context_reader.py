import asyncio

import grpc
import pytest

from safescale.core.errors import BackendUnavailableError, GarbageAnswerError, NotFoundError, ServiceUnavailableError
from safescale.inference.contexts import ContextReader
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.retrieval.v1 import retrieval_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2_grpc
from safescale.runtime.grpc.server import GrpcServer
from safescale.runtime.telemetry import Telemetry


class Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Stored contexts; fails as often as it is told."""

    name = "safescale.retrieval.v1.RetrievalService"

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.reads: list[str] = []
        self.failures = 0
        self.code: grpc.StatusCode | None = None

    def register(self, server: grpc.aio.Server) -> None:
        retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(self, server)

    async def GetContext(self, request, context):
        self.reads.append(request.context_id)
        await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            if self.code is not None:
                await context.abort(self.code, "away")
            raise BackendUnavailableError("not yet")
        if request.context_id not in self.texts:
            raise NotFoundError(f"no context {request.context_id}")
        return pb.GetContextResponse(context=pb.Context(text=self.texts[request.context_id]))


@pytest.fixture
async def retrieval():
    service = Retrieval()
    server = GrpcServer([service], Telemetry())
    service.port = await server.listen("127.0.0.1", 0)
    yield service
    await server.stop(0)


@pytest.fixture
async def reader(retrieval):
    # Without the repeats of `connect`.
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{retrieval.port}")
    yield ContextReader(lambda: channel, capacity_bytes=100)
    await channel.close()


def stored(identifier: str) -> common_pb2.ContextRef:
    return common_pb2.ContextRef(context_id=identifier)


async def test_inline_text_and_none_ask_nobody(reader, retrieval) -> None:
    assert await reader.text(common_pb2.ContextRef()) is None
    assert await reader.text(common_pb2.ContextRef(inline_text="short")) == "short"
    assert retrieval.reads == []


async def test_a_text_is_read_once_for_many(reader, retrieval) -> None:
    retrieval.texts["a"] = "x" * 40
    texts = await asyncio.gather(*(reader.text(stored("a")) for _ in range(5)))
    assert texts == ["x" * 40] * 5
    await reader.text(stored("a"))
    assert retrieval.reads == ["a"]


async def test_the_least_used_text_goes_when_the_bytes_are_full(reader, retrieval) -> None:
    retrieval.texts = {"a": "é" * 20, "b": "b" * 40, "c": "c" * 40}
    for name in ("a", "b", "a", "c", "a", "b"):
        await reader.text(stored(name))
    assert retrieval.reads == ["a", "b", "c", "b"]


async def test_a_text_over_the_bound_is_read_and_not_kept(reader, retrieval) -> None:
    retrieval.texts["big"] = "x" * 500
    for _ in range(2):
        assert await reader.text(stored("big")) == "x" * 500
    assert retrieval.reads == ["big", "big"]


async def test_a_failed_read_is_not_kept(reader, retrieval) -> None:
    retrieval.texts["a"] = "there"
    retrieval.failures = 1
    with pytest.raises(BackendUnavailableError, match="not yet"):
        await reader.text(stored("a"))
    assert await reader.text(stored("a")) == "there"


async def test_a_missing_or_empty_context_is_an_error(reader, retrieval) -> None:
    with pytest.raises(NotFoundError):
        await reader.text(stored("absent"))
    assert retrieval.reads == ["absent"]
    retrieval.texts["empty"] = ""
    with pytest.raises(GarbageAnswerError):
        await reader.text(stored("empty"))


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE])
async def test_a_retrieval_that_stops_is_a_dependency_that_is_away(reader, retrieval, code) -> None:
    retrieval.failures, retrieval.code = 1, code
    with pytest.raises(ServiceUnavailableError):
        await reader.text(stored("a"))


async def test_a_retrieval_that_does_not_answer_is_away(reader, retrieval, monkeypatch) -> None:
    monkeypatch.setattr("safescale.inference.contexts.READ_TIMEOUT_S", 0.001)
    with pytest.raises(ServiceUnavailableError, match="did not answer"):
        await reader.text(stored("a"))


async def test_a_retrieval_that_is_not_there_is_away() -> None:
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    with pytest.raises(ServiceUnavailableError):
        await ContextReader(lambda: channel).text(stored("a"))
    await channel.close()


async def test_texts_count_as_what_they_take_in_memory(reader, retrieval) -> None:
    # Each of its characters takes four bytes, since one of them does.
    retrieval.texts["wide"] = "x" * 60 + "\U0001fac1"
    for _ in range(2):
        await reader.text(stored("wide"))
    assert retrieval.reads == ["wide", "wide"]
