"""BuildContext through gRPC against the raw Elasticsearch calls that it makes.

    SAFESCALE_ELASTICSEARCH=http://localhost:9200 python bench/bench_retrieval.py [--chunks 5000] [--questions 60]

A corpus of made-up words and random vectors is ingested. For each question, never asked before, BuildContext is called
once to record its requests to Elasticsearch; then it is called again, and the recorded requests are made again one
after the other by the same client, in turns that alternate; the least time of each side counts. What a turn has written
is deleted before the next, so that all do the same work. The embedder answers at once: its
time is no part of either side. Indices get a random prefix and are deleted afterwards.
"""

import argparse
import asyncio
import hashlib
import json
import random
import secrets
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import orjson
from elasticsearch import AsyncElasticsearch

from safescale.admin.indices import Indices
from safescale.core.inputs.corpus import CorpusDocument
from safescale.retrieval.corpora import Corpora
from safescale.retrieval.embed.embedded import WordPieceTokenizer, read_packaged_tokenizer
from safescale.retrieval.embed.port import Vectors
from safescale.retrieval.index.elastic import ElasticIndex
from safescale.retrieval.service import RetrievalConfig, RetrievalService
from safescale.rpc.retrieval.v1 import retrieval_pb2 as pb
from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.documents.elastic import ElasticDocuments
from safescale.runtime.elastic import ElasticConnection
from safescale.runtime.grpc.channels import connect
from safescale.runtime.grpc.server import GrpcServer
from safescale.runtime.settings import load_settings
from safescale.runtime.telemetry import Telemetry

DIMENSION = 1024
WARM_UP = 10
TURNS = 3
"""Of each question, of which the least time counts: a neighbour on the machine only ever adds."""

CONDITIONS = ("top_1", "top_5", "top_10", "padded_top_1")


class InstantEmbedder:
    """Embedder whose vectors are random numbers seeded by the text."""

    name = "instant"
    revision = "0" * 64
    dimension = DIMENSION
    max_tokens = 512
    texts_cut = 0
    parallel = 1

    def __init__(self) -> None:
        self.tokenizer: WordPieceTokenizer = read_packaged_tokenizer()

    async def load(self) -> None:
        """Ready at once."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts."""
        seeds = (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts)
        rows = np.stack([np.random.default_rng(seed).normal(size=DIMENSION) for seed in seeds]).astype(np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries."""
        return await self.embed(texts)

    async def close(self) -> None:
        """Hold nothing."""


@dataclass
class Recorder:
    """Remembers the requests of clients, and makes them again."""

    on: bool = False
    requests: list[tuple[Any, str, str, Any, Mapping[str, Any]]] = field(default_factory=list)

    def watch(self, connection: ElasticConnection) -> None:
        """Remember what a connection asks from now on, while `on`."""
        transport = connection._client.transport
        perform = transport.perform_request

        async def recorded(method: str, target: str, **options: Any) -> Any:
            if self.on:
                kept = {
                    name: options[name] for name in ("headers", "request_timeout", "client_meta") if name in options
                }
                self.requests.append((perform, method, target, options.get("body"), kept))
            return await perform(method, target, **options)

        transport.perform_request = recorded  # type: ignore[method-assign]

    async def again(self) -> list[float]:
        """Make the remembered requests one after the other; seconds of each."""
        seconds = []
        for perform, method, target, body, options in self.requests:
            begin = time.perf_counter()
            answer = await perform(method, target, body=body, **options)
            seconds.append(time.perf_counter() - begin)
            if answer.meta.status >= 400:
                raise RuntimeError(f"{method} {target} answered {answer.meta.status}: {answer.body}")
            if "_bulk" in target and any(item["create"]["status"] != 201 for item in answer.body["items"]):
                raise RuntimeError("a document was there already: the turns do not do the same work")
        return seconds

    def written(self) -> list[tuple[str, str]]:
        """Alias and id of each document that the requests write."""
        found = []
        for _, _, target, body, _ in self.requests:
            if "_bulk" in target:
                lines = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in body)
                heads = [json.loads(line).get("create") for line in lines.splitlines()]
                found += [
                    (head["_index"], head["_id"]) for head in heads if isinstance(head, dict) and "_index" in head
                ]
        return found


def corpus_documents(chunks: int, words: Sequence[str], weights: Sequence[float]) -> list[CorpusDocument]:
    """Articles of about five chunks, words by Zipf's law."""
    rng = random.Random(1)
    articles = []
    for number in range(max(1, chunks // 5)):
        text = " ".join(rng.choices(words, weights, k=185))
        articles.append(CorpusDocument(f"article-{number:06}", f"Article {number}", text))
    return articles


@dataclass
class Bench:
    """The running service with what is around it."""

    stub: Any
    admin: AsyncElasticsearch
    recorder: Recorder
    corpus_id: str
    ours_cpu: float = 0.0
    raw_cpu: float = 0.0

    async def build(self, query: str, condition: str) -> float:
        """Seconds of one BuildContext."""
        request = pb.BuildContextRequest(corpus_id=self.corpus_id, query=query, condition=condition)
        begin = time.perf_counter()
        response = await self.stub.BuildContext(request)
        seconds = time.perf_counter() - begin
        if not response.context.context_id:
            raise RuntimeError("no context was built")
        return seconds

    async def forget(self) -> None:
        """Delete what the recorded requests write."""
        for alias, identifier in self.recorder.written():
            await self.admin.options(ignore_status=404).delete(index=alias, id=identifier)

    async def question(self, query: str, condition: str) -> tuple[float, list[float]]:
        """Seconds of BuildContext, and of each of its requests made alone: the best of some alternating turns."""
        self.recorder.requests.clear()
        self.recorder.on = True
        await self.build(query, condition)
        self.recorder.on = False
        ours, raw = [], []
        for _ in range(TURNS):
            await self.forget()
            before = time.process_time()
            ours.append(await self.build(query, condition))
            self.ours_cpu += time.process_time() - before
            await self.forget()
            before = time.process_time()
            raw.append(await self.recorder.again())
            self.raw_cpu += time.process_time() - before
        await self.forget()
        return min(ours), min(raw, key=sum)


async def measure(bench: Bench, queries: Sequence[str]) -> None:
    """Print medians of both sides and their ratio, and what each request takes."""
    rows = []
    for number, query in enumerate(queries):
        condition = CONDITIONS[number % len(CONDITIONS)]
        rows.append(await bench.question(query, condition))
    rows = rows[WARM_UP:]
    ours = statistics.median(ours for ours, _ in rows)
    raw = statistics.median(sum(each) for _, each in rows)
    ratio = statistics.median(ours / sum(each) for ours, each in rows)
    print(f"{len(rows)} contexts, {len(rows[0][1])} requests each; medians")
    for place, (_, method, target, _, _) in enumerate(bench.recorder.requests):
        took = statistics.median(each[place] for _, each in rows)
        print(f"  {1000 * took:8.2f} ms  {method} {target.split('?')[0]}")
    print(f"raw requests  {1000 * raw:8.2f} ms")
    each = 1000 / (TURNS * (len(rows) + WARM_UP))
    print(f"CPU of this process: raw {bench.raw_cpu * each:.2f} ms, BuildContext {bench.ours_cpu * each:.2f} ms")
    print(f"BuildContext  {1000 * ours:8.2f} ms  ratio of medians {ours / raw:.2f}, median of ratios {ratio:.2f}")


async def run(chunks: int, questions: int) -> None:
    """Ingest, measure, delete."""
    settings, prefix = load_settings(), f"bench-{secrets.token_hex(4)}"
    telemetry, recorder = Telemetry(), Recorder()
    rng = random.Random(2)
    words = [f"{rng.choice('bdfklmnprst')}{rng.getrandbits(40):x}"[:9] for _ in range(20_000)]
    weights = [1 / place for place in range(1, len(words) + 1)]
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(AsyncElasticsearch(settings.elasticsearch))
        stack.push_async_callback(remove, admin, prefix)
        for_documents, for_index = (ElasticConnection(settings, telemetry) for _ in range(2))
        indices = Indices(for_documents, prefix)
        for step in await indices.plan():
            await indices.apply(step)
        documents = ElasticDocuments(for_documents, prefix)
        stack.push_async_callback(documents.close)
        embedder, index = InstantEmbedder(), ElasticIndex(for_index, prefix)
        begin = time.perf_counter()
        corpus, _ = await Corpora(documents, embedder, index).ingest("bench", corpus_documents(chunks, words, weights))
        took = time.perf_counter() - begin
        print(f"{corpus.chunk_count:,} chunks of {DIMENSION} dimensions ingested in {took:.1f} s")
        bus = MemoryBus(telemetry)
        stack.push_async_callback(bus.close)
        channels: list[grpc.aio.Channel] = []
        service = RetrievalService(RetrievalConfig(bus, documents, telemetry, embedder, lambda: channels[0], index))
        server = GrpcServer([service], telemetry)
        port = await server.listen("127.0.0.1", 0)
        channels.append(connect(f"127.0.0.1:{port}"))
        await service.start()
        stack.push_async_callback(service.stop)
        stack.push_async_callback(server.stop, 0)
        stack.push_async_callback(channels[0].close)
        for connection in (for_documents, for_index):
            recorder.watch(connection)
        bench = Bench(RetrievalServiceStub(channels[0]), admin, recorder, corpus.corpus_id)
        await measure(bench, [" ".join(rng.choices(words, weights, k=40)) for _ in range(questions + WARM_UP)])


async def remove(client: AsyncElasticsearch, prefix: str) -> None:
    """Delete what the bench has made."""
    for name in list((await client.indices.get(index=f"{prefix}-*")).body):
        await client.indices.delete(index=name)
    await client.indices.delete_index_template(name=f"{prefix}-*")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=5000)
    parser.add_argument("--questions", type=int, default=60)
    options = parser.parse_args()
    if not load_settings().elasticsearch:
        sys.exit("SAFESCALE_ELASTICSEARCH is not set; expected the URL of an Elasticsearch")
    asyncio.run(run(options.chunks, options.questions))


if __name__ == "__main__":
    main()
