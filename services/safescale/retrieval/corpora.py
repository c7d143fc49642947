"""Corpora: ingested once by content, kept as articles with the spans of their chunks, indexed when first searched.

A corpus record is written last: it stands for a corpus that is complete. What a crash left behind is taken up by the
next ingest of the same documents, whose vectors and articles are there already.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from safescale.core.corpus import Document, corpus_hash
from safescale.core.errors import FailedPreconditionError, NotFoundError, StorageError
from safescale.retrieval.chunking import ChunkParams, Span, article, chunk_id, cut
from safescale.retrieval.embed.cache import VectorCache
from safescale.retrieval.embed.port import Embedder
from safescale.retrieval.index.port import ChunkIndex, IndexedChunk
from safescale.runtime.documents.port import DocumentStore, NewDocument
from safescale.runtime.log import get_logger

CORPUS = "corpus"
ARTICLE = "corpus_article"
WRITE_BATCH = 200
"""Articles written in one transaction."""

Chunked = list[tuple[Document, list[Span]]]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A stored corpus. `corpus_id` identifies its documents, its chunking and the embedder of its vectors."""

    corpus_id: str
    name: str
    document_count: int
    chunk_count: int
    embedder: str
    embedder_revision: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: an exact slice of its article, with its length by the chunking tokenizer."""

    chunk_id: str
    document_id: str
    title: str
    text: str
    token_count: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked chunk; ranks from 1, 0 where that ranking does not hold it."""

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
        self._chunks: dict[str, Mapping[str, Chunk]] = {}
        self._ingesting = asyncio.Lock()
        self._rebuilding = asyncio.Lock()
        self._log = get_logger("retrieval")

    async def ingest(self, name: str, documents: Sequence[Document]) -> tuple[Corpus, bool]:
        """Store, chunk, embed and index documents (at least one, ids unique); False when they were there already.

        Raises:
            BackendUnavailableError: the embedder cannot be had.
            StorageError: the store failed.

        """
        await self._embedder.load()
        ordered = sorted(documents, key=lambda document: document.id)
        corpus_id = self._identify(ordered)
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
            )
            await self._make_searchable(corpus_id, chunked)
            await self._write(corpus_id, chunked)
            created = await self._documents.put_if_absent(NewDocument(CORPUS, corpus_id, asdict(corpus)))
        self._log.info("corpus ingested", corpus_id=corpus_id, documents=len(ordered), chunks=corpus.chunk_count)
        return corpus, created

    def _identify(self, documents: Sequence[Document]) -> str:
        parts = {
            "documents": corpus_hash(documents),
            "chunk_tokens": self._params.size,
            "overlap_tokens": self._params.overlap,
            "embedder_revision": self._embedder.revision,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _cut(self, documents: Sequence[Document]) -> Chunked:
        tokenizer = self._embedder.tokenizer
        return [(document, cut(article(document), tokenizer, self._params)) for document in documents]

    async def _write(self, corpus_id: str, chunked: Chunked) -> None:
        for begin in range(0, len(chunked), WRITE_BATCH):
            await self._documents.put_many_if_absent(
                [
                    NewDocument(
                        ARTICLE,
                        f"{corpus_id}/{document.id}",
                        {
                            "id": document.id,
                            "title": document.title,
                            "text": document.text,
                            "chunks": [[span.start, span.end, span.token_count] for span in spans],
                        },
                        group=corpus_id,
                    )
                    for document, spans in chunked[begin : begin + WRITE_BATCH]
                ]
            )

    async def _make_searchable(self, corpus_id: str, chunked: Chunked) -> None:
        chunks = _chunks(chunked)
        vectors = await self._vectors.vectors([chunk.text for chunk in chunks])
        await self._index.add(corpus_id, [IndexedChunk(chunk.chunk_id, chunk.text) for chunk in chunks], vectors)
        self._chunks[corpus_id] = {chunk.chunk_id: chunk for chunk in chunks}

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
        """All corpora, ordered by id."""
        return [Corpus(**document.body) async for document in self._documents.scan(CORPUS)]

    async def search(self, corpus_id: str, query: str, k: int) -> list[Hit]:
        """The best k chunks of a corpus for a query, best first; fewer where the corpus has fewer.

        Raises:
            NotFoundError: there is no such corpus.
            FailedPreconditionError: its vectors are of another embedder.
            BackendUnavailableError: the embedder cannot be had.

        """
        chunks = await self._searchable(corpus_id)
        vector = (await self._vectors.vectors([query]))[0]
        ranked = await self._index.search(corpus_id, query, vector, k)
        return [Hit(chunks[hit.chunk_id], hit.score, hit.lexical_rank, hit.dense_rank) for hit in ranked]

    async def _searchable(self, corpus_id: str) -> Mapping[str, Chunk]:
        if corpus_id not in self._chunks:
            async with self._rebuilding:
                if corpus_id not in self._chunks:
                    await self._rebuild(await self.get(corpus_id))
        return self._chunks[corpus_id]

    async def _rebuild(self, corpus: Corpus) -> None:
        """Index a stored corpus after a restart, from its spans and the vectors kept by content."""
        await self._embedder.load()
        if self._embedder.revision != corpus.embedder_revision:
            raise FailedPreconditionError(
                f"corpus {corpus.corpus_id!r} was embedded by {corpus.embedder}, this service has"
                f" {self._embedder.name}@{self._embedder.revision[:12]}; ingest the corpus again"
            )
        chunked: Chunked = []
        async for stored in self._documents.scan(ARTICLE, group=corpus.corpus_id):
            body = stored.body
            spans = [Span(*numbers) for numbers in body["chunks"]]
            chunked.append((Document(body["id"], body["title"], body["text"]), spans))
        if len(chunked) != corpus.document_count:
            raise StorageError(
                f"corpus {corpus.corpus_id!r} is damaged: {len(chunked):,} of its {corpus.document_count:,}"
                " articles are there"
            )
        await self._make_searchable(corpus.corpus_id, chunked)


def _chunks(chunked: Chunked) -> list[Chunk]:
    found = []
    for document, spans in chunked:
        text = article(document)
        for index, span in enumerate(spans):
            identifier = chunk_id(document.id, index)
            piece = text[span.start : span.end]
            found.append(Chunk(identifier, document.id, document.title, piece, span.token_count))
    return found
