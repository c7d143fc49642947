"""Chunk index in memory: BM25 by bm25s, dense vectors as one matrix. Nothing is written to disk."""

import asyncio
import logging
import math
from collections.abc import AsyncIterable, Sequence
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from safescale.core.errors import NotFoundError
from safescale.retrieval.embed.port import Vectors
from safescale.retrieval.index.fusion import fuse
from safescale.retrieval.index.port import DENSE_DECIMALS, Batch, Chunk, CorpusKey, Ranked, depth_for
from safescale.retrieval.index.words import K1, B, query_words, words

MAX_CHUNKS = 400_000
"""Chunks of all corpora together that are held, about 1.5 GB with vectors of 384 numbers."""

HELD = 2
"""Corpora that are held whatever their size: one that is being asked, and one that comes."""


class MemoryIndex:
    """ChunkIndex of one process. The corpora used longest ago go when all together are too large.

    One that went is no longer indexed; whoever needs it adds it again.
    """

    def __init__(self, max_chunks: int = MAX_CHUNKS) -> None:
        self._max_chunks = max_chunks
        # Without a bound of its own: the largest corpora are held too, as long as they are the last two.
        self._corpora: LRUCache[str, _CorpusIndex] = LRUCache(math.inf, getsizeof=lambda corpus: len(corpus.chunks))

    async def add(self, corpus: CorpusKey, batches: AsyncIterable[Batch]) -> None:
        """Index all chunks of a corpus."""
        if corpus.corpus_id in self._corpora:
            return
        found = [batch async for batch in batches]
        chunks = [chunk for batch in found for chunk in batch.chunks]
        vectors = np.concatenate([batch.vectors for batch in found])
        self._corpora[corpus.corpus_id] = await asyncio.to_thread(_CorpusIndex, chunks, vectors)
        while len(self._corpora) > HELD and self._corpora.currsize > self._max_chunks:
            self._corpora.popitem()

    async def has(self, corpus_id: str) -> bool:
        """Return whether the corpus is indexed in this process."""
        return corpus_id in self._corpora

    async def search(self, corpus_id: str, query: str, vector: Vectors, k: int) -> list[Ranked]:
        """Return the best k chunks for a query and its vector.

        Raises:
            NotFoundError: the corpus is not indexed.

        """
        return (await asyncio.to_thread(self._corpus(corpus_id).rank, query, vector, depth_for(k)))[:k]

    async def read(self, corpus_id: str, chunk_ids: Sequence[str]) -> list[Chunk]:
        """Read chunks by id.

        Raises:
            NotFoundError: the corpus is not indexed, or has no such chunk.

        """
        chunks = self._corpus(corpus_id).chunks
        try:
            return [chunks[chunk_id] for chunk_id in chunk_ids]
        except KeyError as error:
            raise NotFoundError(f"corpus {corpus_id!r} has no chunk {error.args[0]!r}") from error

    def _corpus(self, corpus_id: str) -> "_CorpusIndex":
        corpus = self._corpora.get(corpus_id)
        if corpus is None:
            raise NotFoundError(f"corpus {corpus_id!r} is not indexed")
        return corpus

    async def close(self) -> None:
        """Forget all corpora."""
        self._corpora.clear()


class _CorpusIndex:
    """One corpus. Chunks are in the order of their ids, so that a stable sort breaks ties by id."""

    def __init__(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        order = sorted(range(len(chunks)), key=lambda row: chunks[row].chunk_id)
        self.chunks = {chunks[row].chunk_id: chunks[row] for row in order}
        self._ids = list(self.chunks)
        self._vectors = np.ascontiguousarray(vectors[order], dtype=np.float32)
        self._lexical = _bm25([words(chunk.text) for chunk in self.chunks.values()])

    def rank(self, query: str, vector: Vectors, depth: int) -> list[Ranked]:
        """Return all chunks among the first `depth` of either ranking, best first."""
        return fuse(self._lexical_ranking(query, depth), self._dense_ranking(vector, depth))

    def _lexical_ranking(self, query: str, depth: int) -> list[str]:
        if self._lexical is None:
            return []
        known = [word for word in query_words(query) if word in self._lexical.vocab_dict]
        if not known:
            return []
        scores = self._lexical.get_scores(known)
        return self._best(scores, min(depth, int(np.count_nonzero(scores > 0))))

    def _dense_ranking(self, vector: Vectors, depth: int) -> list[str]:
        return self._best(np.round(self._vectors @ vector, DENSE_DECIMALS), depth)

    def _best(self, scores: NDArray[np.float32], n: int) -> list[str]:
        return [self._ids[row] for row in np.argsort(-scores, kind="stable")[:n]]


def _bm25(texts: list[list[str]]) -> Any:
    """Index with Lucene's variant of BM25; None where no text has a word."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    if not any(texts):
        return None
    # Numbered by first occurrence: left to itself the library numbers a set, whose order differs between processes.
    vocabulary: dict[str, int] = {}
    numbers = [[vocabulary.setdefault(word, len(vocabulary)) for word in text] for text in texts]
    index = bm25s.BM25(k1=K1, b=B, method="lucene")
    index.index((numbers, vocabulary), show_progress=False, create_empty_token=False)
    return index
