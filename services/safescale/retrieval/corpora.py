"""Corpora: ingested once by content, kept as articles with the spans of their chunks, ranked by the chunk index.

A corpus record is written last: it marks a corpus as complete. What a crash left behind is reused by the
next ingest of the same documents, whose vectors, chunks and articles are there already.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass

from safescale.core.errors import FailedPreconditionError, NotFoundError, StorageError
from safescale.core.inputs.corpus import CorpusDocument, corpus_hash
from safescale.retrieval.batches import batched
from safescale.retrieval.chunking import ChunkParams, Span, article, chunk_id, cut
from safescale.retrieval.embed.cache import VectorCache
from safescale.retrieval.embed.port import Embedder
from safescale.retrieval.index.port import Batch, Chunk, ChunkIndex, CorpusKey, Ranked
from safescale.runtime.documents.port import DocumentStore, NewDocument
from safescale.runtime.log import get_logger

CORPUS = "corpus"
ARTICLE = "corpus_article"
WRITE_ARTICLES = 200
WRITE_CHARACTERS = 8 * 1024 * 1024
"""Articles, and characters of them, written in one transaction."""

INDEX_BATCH = 256
"""Chunks whose vectors are asked for at once."""

Chunked = list[tuple[CorpusDocument, list[Span]]]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A stored corpus. `corpus_id` identifies its documents, its chunking and the embedder of its vectors.

    `content_id` identifies documents and chunking alone; records of before it was kept have none.
    """

    corpus_id: str
    name: str
    document_count: int
    chunk_count: int
    embedder: str
    embedder_revision: str
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked chunk; ranks from 1, 0 where that ranking gave it no place."""

    chunk: Chunk
    score: float
    lexical_rank: int
    dense_rank: int


class Corpora:
    """Ingests and searches corpora."""

    def __init__(
        self, documents: DocumentStore, embedder: Embedder, index: ChunkIndex, params: ChunkParams | None = None
    ) -> None:
        self._documents = documents
        self._embedder = embedder
        self._index = index
        self._params = params or ChunkParams()
        self._vectors = VectorCache(documents, embedder)
        self._searchable: set[str] = set()
        self._ingesting = asyncio.Lock()
        self._rebuilding = asyncio.Lock()
        self._log = get_logger("retrieval")

    async def ingest(self, name: str, documents: Sequence[CorpusDocument]) -> tuple[Corpus, bool]:
        """Store, chunk, embed and index documents (at least one, ids unique); False when they were there already.

        Raises:
            BackendError: the embedder cannot be had.
            DependencyUnavailableError: a store or the embedder's server cannot be reached now.
            StorageError: a store failed.

        """
        await self._embedder.load()
        ordered = sorted(documents, key=lambda document: document.id)
        content_id, corpus_id = self._identify(ordered)
        async with self._ingesting:
            known = await self._find(corpus_id)
            if known is not None:
                return known, False
            chunked = await asyncio.to_thread(self._cut, ordered)
            corpus = Corpus(
                corpus_id,
                name,
                len(ordered),
                sum(len(spans) for _, spans in chunked),
                f"{self._embedder.name}@{self._embedder.revision[:12]}",
                self._embedder.revision,
                content_id,
            )
            await self._index.add(self._key(corpus), self._batches(chunked))
            await self._write(corpus_id, chunked)
            created = await self._documents.put_if_absent(NewDocument(CORPUS, corpus_id, asdict(corpus)))
        self._log.info("corpus ingested", corpus_id=corpus_id, documents=len(ordered), chunks=corpus.chunk_count)
        return corpus, created

    def _identify(self, documents: Sequence[CorpusDocument]) -> tuple[str, str]:
        """Return ids of the documents with their chunking, without and with the embedder."""
        content: dict[str, str | int] = {
            "documents": corpus_hash(documents),
            "chunk_tokens": self._params.size,
            "overlap_tokens": self._params.overlap,
        }
        return _hash(content), _hash({**content, "embedder_revision": self._embedder.revision})

    def _cut(self, documents: Sequence[CorpusDocument]) -> Chunked:
        tokenizer = self._embedder.tokenizer
        return [(document, cut(article(document), tokenizer, self._params)) for document in documents]

    async def _write(self, corpus_id: str, chunked: Chunked) -> None:
        parts = batched(chunked, WRITE_ARTICLES, WRITE_CHARACTERS, lambda pair: len(pair[0].text))
        for part in parts:
            await self._documents.put_many_if_absent([_article(corpus_id, *pair) for pair in part])

    async def _batches(self, chunked: Chunked) -> AsyncIterator[Batch]:
        for document_batch in batched(chunked, INDEX_BATCH, INDEX_BATCH, lambda pair: len(pair[1])):
            chunks = _chunks(document_batch)
            for begin in range(0, len(chunks), INDEX_BATCH):
                yield await self._embedded(chunks[begin : begin + INDEX_BATCH])

    async def _embedded(self, chunks: Sequence[Chunk]) -> Batch:
        return Batch(chunks, await self._vectors.passages([chunk.text for chunk in chunks]))

    def _key(self, corpus: Corpus) -> CorpusKey:
        content_id = corpus.content_id or corpus.corpus_id
        dimension = self._embedder.dimension
        return CorpusKey(corpus.corpus_id, content_id, corpus.embedder_revision, dimension, corpus.chunk_count)

    async def _find(self, corpus_id: str) -> Corpus | None:
        document = await self._documents.get(CORPUS, corpus_id)
        return None if document is None else Corpus(**document.body)

    async def get(self, corpus_id: str) -> Corpus:
        """Read a corpus.

        Raises:
            NotFoundError: there is none of that id.

        """
        corpus = await self._find(corpus_id)
        if corpus is None:
            raise NotFoundError(f"no corpus {corpus_id!r} is stored; ingest it first")
        return corpus

    async def all(self) -> list[Corpus]:
        """Return all corpora, ordered by id."""
        return [Corpus(**document.body) async for document in self._documents.scan(CORPUS)]

    async def search(self, corpus_id: str, query: str, k: int) -> list[Hit]:
        """Return the best k chunks of a corpus for a query, best first; fewer where the corpus has fewer.

        Raises:
            NotFoundError: there is no such corpus.
            FailedPreconditionError: its vectors are of another embedder.
            BackendError: the embedder cannot be had.
            DependencyUnavailableError: a store or the embedder's server cannot be reached now.

        """
        ranked = await self.rank(corpus_id, query, k)
        chunks = await self.read(corpus_id, [place.chunk_id for place in ranked])
        return [
            Hit(chunk, place.score, place.lexical_rank, place.dense_rank)
            for chunk, place in zip(chunks, ranked, strict=True)
        ]

    async def rank(self, corpus_id: str, query: str, k: int) -> list[Ranked]:
        """Return the ranks of the best k chunks, without their texts.

        Raises: as `search`.
        """
        await self._make_searchable(corpus_id)
        vector = await self._vectors.query(query)
        try:
            return await self._index.search(corpus_id, query, vector, k)
        except NotFoundError:
            # It was there: somebody has deleted the index since. It is rebuilt from the articles.
            await self._restore(corpus_id)
            return await self._index.search(corpus_id, query, vector, k)

    async def read(self, corpus_id: str, chunk_ids: Sequence[str]) -> list[Chunk]:
        """Read chunks that were ranked, in the order of the ids.

        Raises:
            NotFoundError: the corpus is not indexed, or has no such chunk.

        """
        if not chunk_ids:
            return []
        try:
            return await self._index.read(corpus_id, chunk_ids)
        except NotFoundError:
            # As in `rank`: it went between the two.
            await self._restore(corpus_id)
            return await self._index.read(corpus_id, chunk_ids)

    async def _restore(self, corpus_id: str) -> None:
        self._searchable.discard(corpus_id)
        await self._make_searchable(corpus_id)

    async def _make_searchable(self, corpus_id: str) -> None:
        if corpus_id in self._searchable:
            return
        async with self._rebuilding:
            if corpus_id in self._searchable:
                return
            corpus = await self.get(corpus_id)
            await self._embedder.load()
            if self._embedder.revision != corpus.embedder_revision:
                raise FailedPreconditionError(
                    f"corpus {corpus.corpus_id!r} was embedded by {corpus.embedder}, this service has"
                    f" {self._embedder.name}@{self._embedder.revision[:12]}; ingest the corpus again"
                )
            if not await self._index.has(corpus_id):
                await self._index.add(self._key(corpus), self._stored_batches(corpus))
            self._searchable.add(corpus_id)

    async def _stored_batches(self, corpus: Corpus) -> AsyncIterator[Batch]:
        """Yield the chunks of a stored corpus, from its spans and the vectors kept by content.

        Raises:
            StorageError: articles are missing; nothing of the corpus is found then.

        """
        articles = 0
        chunks: list[Chunk] = []
        async for stored in self._documents.scan(ARTICLE, group=corpus.corpus_id):
            body = stored.body
            spans = [Span(*numbers) for numbers in body["chunks"]]
            chunks.extend(_chunks([(CorpusDocument(body["id"], body["title"], body["text"]), spans)]))
            articles += 1
            while len(chunks) >= INDEX_BATCH:
                yield await self._embedded(chunks[:INDEX_BATCH])
                chunks = chunks[INDEX_BATCH:]
        if articles != corpus.document_count:
            raise StorageError(
                f"corpus {corpus.corpus_id!r} is damaged: {articles:,} of its {corpus.document_count:,}"
                " articles are there"
            )
        if chunks:
            yield await self._embedded(chunks)


def _hash(parts: dict[str, str | int]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _article(corpus_id: str, document: CorpusDocument, spans: Sequence[Span]) -> NewDocument:
    body = {
        "id": document.id,
        "title": document.title,
        "text": document.text,
        "chunks": [[span.start, span.end, span.token_count] for span in spans],
    }
    return NewDocument(ARTICLE, f"{corpus_id}/{document.id}", body, group=corpus_id)


def _chunks(chunked: Iterable[tuple[CorpusDocument, list[Span]]]) -> list[Chunk]:
    found = []
    for document, spans in chunked:
        text = article(document)
        for index, span in enumerate(spans):
            identifier = chunk_id(document.id, index)
            piece = text[span.start : span.end]
            found.append(Chunk(identifier, document.id, document.title, piece, span.token_count))
    return found
