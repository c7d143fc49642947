"""What corpora in Elasticsearch promise beyond the suites: shared by replicas, lasting, one embedder in one index."""

import importlib.util
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from elasticsearch import AsyncElasticsearch
from tests.unit.retrieval.conftest import CountingEmbedder

from safescale.core.errors import FailedPreconditionError, StorageUnavailableError
from safescale.core.inputs.corpus import CorpusDocument
from safescale.retrieval.chunking import ChunkParams
from safescale.retrieval.corpora import Corpora
from safescale.retrieval.embed import embedded
from safescale.retrieval.embed.embedded import MiniLmEmbedder
from safescale.retrieval.index.elastic import ElasticIndex
from safescale.retrieval.index.elastic_schema import IndexNames
from safescale.retrieval.index.memory import MemoryIndex
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.elastic import ElasticConnection
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

pytestmark = pytest.mark.grid

EXAMPLES = Path(__file__).parents[2] / "examples"
INSTALLED = importlib.util.find_spec(embedded.PACKAGE) is not None
DOCUMENTS = [CorpusDocument(f"d{i:02}", f"Article {i}", f"The chest of a lung and mm {i}. " * 8) for i in range(30)]
WRITES = "safescale_storage_seconds_count"


class Grid:
    """Replicas of retrieval over one Elasticsearch and one document store."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.names = IndexNames(self.prefix)
        self.client = AsyncElasticsearch(url)
        self.telemetry = Telemetry()
        self._open: list = []

    async def documents(self) -> SqliteDocuments:
        self._open.append(await SqliteDocuments.open(self.folder / "records.db"))
        return self._open[-1]

    def index(self) -> ElasticIndex:
        connection = ElasticConnection(Settings(elasticsearch=self.url), self.telemetry)
        self._open.append(ElasticIndex(connection, self.prefix))
        return self._open[-1]

    async def corpora(self, embedder) -> Corpora:
        return Corpora(await self.documents(), embedder, self.index(), ChunkParams(40, 6))

    async def indices(self) -> list[str]:
        return sorted(await self.client.indices.get(index=f"{self.prefix}-*"))

    async def behind(self, alias: str) -> list[str]:
        found = await self.client.options(ignore_status=404).indices.get_alias(name=alias)
        return sorted(name for name in found.body if name.startswith(self.prefix))

    def calls(self, operation: str) -> float:
        labels = {"operation": operation, "outcome": "ok"}
        return self.telemetry.registry.get_sample_value(WRITES, labels) or 0.0

    async def close(self) -> None:
        for each in self._open:
            await each.close()
        for name in await self.indices():
            await self.client.indices.delete(index=name)
        await self.client.close()


@pytest.fixture
async def grid(elasticsearch_url: str, tmp_path: Path):
    opened = Grid(elasticsearch_url, tmp_path)
    yield opened
    await opened.close()


async def test_a_replica_sees_what_another_ingested_and_writes_nothing(grid: Grid) -> None:
    first, embedder = await grid.corpora(CountingEmbedder()), CountingEmbedder()
    second = await grid.corpora(embedder)
    corpus, created = await first.ingest("c", DOCUMENTS)
    hits = await first.search(corpus.corpus_id, "the lung 7", 10)
    written = grid.calls("index_chunks")
    assert created
    assert written > 0
    assert await second.search(corpus.corpus_id, "the lung 7", 10) == hits
    assert (await second.ingest("c", DOCUMENTS)) == (corpus, False)
    # Texts came from the index: neither articles nor vectors were made again.
    assert embedder.asked == []
    assert grid.calls("index_chunks") == written


async def test_an_ingest_that_died_after_the_index_is_taken_up(grid: Grid) -> None:
    class Dying:
        def __init__(self, documents) -> None:
            self._documents = documents

        def __getattr__(self, name):
            return getattr(self._documents, name)

        async def put_if_absent(self, document):
            raise StorageUnavailableError("gone")

    dying = Corpora(Dying(await grid.documents()), CountingEmbedder(), grid.index(), ChunkParams(40, 6))
    with pytest.raises(StorageUnavailableError):
        await dying.ingest("c", DOCUMENTS)
    written = grid.calls("index_chunks")
    embedder = CountingEmbedder()
    corpora = await grid.corpora(embedder)
    corpus, created = await corpora.ingest("c", DOCUMENTS)
    assert created
    assert embedder.asked == []
    assert grid.calls("index_chunks") == written
    assert len(await corpora.search(corpus.corpus_id, "lung", 1000)) == corpus.chunk_count


async def test_another_embedder_makes_an_index_and_the_alias_is_switched_when_it_is_complete(grid: Grid) -> None:
    class Failing(CountingEmbedder):
        async def embed(self, texts):
            if len(self.asked) >= 64:
                raise RuntimeError("killed")
            return await super().embed(texts)

    before = await grid.corpora(CountingEmbedder("revision-1"))
    old, _ = await before.ingest("c", DOCUMENTS)
    alias = grid.names.current(old.content_id)
    assert await grid.behind(alias) == [grid.names.index(old.corpus_id)]
    with pytest.raises(RuntimeError, match="killed"):
        await (await grid.corpora(Failing("revision-2"))).ingest("c", DOCUMENTS)
    assert await grid.behind(alias) == [grid.names.index(old.corpus_id)]
    after = await grid.corpora(CountingEmbedder("revision-2"))
    new, created = await after.ingest("c", DOCUMENTS)
    assert created
    assert (new.content_id, new.corpus_id != old.corpus_id) == (old.content_id, True)
    assert await grid.behind(alias) == [grid.names.index(new.corpus_id)]
    assert len(await grid.indices()) == 2
    # Vectors of two embedders never meet: each corpus is searched by its own.
    assert await before.search(old.corpus_id, "lung", 3)
    with pytest.raises(FailedPreconditionError, match="ingest the corpus again"):
        await after.search(old.corpus_id, "lung", 3)


async def test_an_index_that_was_deleted_comes_back_from_the_articles(grid: Grid) -> None:
    corpora = await grid.corpora(CountingEmbedder())
    corpus, _ = await corpora.ingest("c", DOCUMENTS)
    hits = await corpora.search(corpus.corpus_id, "the lung 7", 20)
    await grid.client.indices.delete(index=grid.names.index(corpus.corpus_id))
    assert await corpora.search(corpus.corpus_id, "the lung 7", 20) == hits


async def test_the_mapping_takes_no_field_that_it_does_not_know(grid: Grid) -> None:
    corpora = await grid.corpora(CountingEmbedder())
    corpus, _ = await corpora.ingest("c", DOCUMENTS)
    index = grid.names.index(corpus.corpus_id)
    answer = await grid.client.options(ignore_status=400).index(index=index, document={"another": 1})
    assert answer.body["error"]["type"] == "strict_dynamic_mapping_exception"
    meta = (await grid.client.indices.get_mapping(index=index))[index]["mappings"]["_meta"]
    assert (meta["embedder_revision"], meta["chunk_count"]) == ("revision-1", corpus.chunk_count)


@pytest.mark.models
@pytest.mark.timeout(900)  # 286 chunks are embedded
@pytest.mark.skipif(not INSTALLED, reason="the model package is not installed")
async def test_both_indexes_agree_on_the_example_corpus(grid: Grid, record_property) -> None:
    def rows(name: str) -> list[dict]:
        return [json.loads(line) for line in (EXAMPLES / name).read_text().splitlines()]

    articles = [CorpusDocument(row["id"], row["title"], row["text"]) for row in rows("corpus/radiology-mini.jsonl")]
    questions = [row["question_text"] for row in rows("benchmark/radiology-mini.jsonl")]
    documents, embedder = await grid.documents(), MiniLmEmbedder(workers=2)
    answers = []
    for index in (MemoryIndex(), grid.index()):
        corpora = Corpora(documents, embedder, index)
        corpus, _ = await corpora.ingest("radiology-mini", articles)
        answers.append([[p.chunk_id for p in await corpora.rank(corpus.corpus_id, q, 10)] for q in questions])
    overlaps = [len(set(ours) & set(theirs)) / 10 for ours, theirs in zip(*answers, strict=True)]
    firsts = [ours[0] == theirs[0] for ours, theirs in zip(*answers, strict=True)]
    figures = {
        "overlap@10": float(np.mean(overlaps)),
        "least overlap@10": min(overlaps),
        "same first": float(np.mean(firsts)),
        "same ten in order": float(np.mean([ours == theirs for ours, theirs in zip(*answers, strict=True)])),
    }
    for name, figure in figures.items():
        record_property(name, figure)
    print({name: round(figure, 4) for name, figure in figures.items()}, f"of {len(questions)} questions")
    assert figures["overlap@10"] >= 0.97
    assert figures["same first"] >= 0.95
