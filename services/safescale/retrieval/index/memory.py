"""Chunk index in memory: BM25 by bm25s, dense vectors as one matrix. Nothing is written to disk."""

import asyncio
import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safescale.core.errors import NotFoundError
from safescale.retrieval.embed.port import Vectors
from safescale.retrieval.index.fusion import fuse
from safescale.retrieval.index.port import RANK_DEPTH, IndexedChunk, Ranked

WORD = re.compile(r"\w+")
DENSE_DECIMALS = 6
"""Inner products are compared to six decimals: below that, equal texts can differ by their place in the matrix."""


def words(text: str) -> list[str]:
    """Words of a text for BM25: compatibility-normalised, case-folded; no stemming, no stop words."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


class MemoryIndex:
    """ChunkIndex of one process."""

    def __init__(self) -> None:
        self._corpora: dict[str, _CorpusIndex] = {}

    async def add(self, corpus_id: str, chunks: Sequence[IndexedChunk], vectors: Vectors) -> None:
        """Index all chunks of a corpus."""
        self._corpora[corpus_id] = await asyncio.to_thread(_CorpusIndex, chunks, vectors)

    async def has(self, corpus_id: str) -> bool:
        """Whether the corpus is indexed."""
        return corpus_id in self._corpora

    async def search(self, corpus_id: str, query: str, vector: Vectors, k: int) -> list[Ranked]:
        """The best k chunks for a query and its vector.

        Raises:
            NotFoundError: the corpus is not indexed.

        """
        corpus = self._corpora.get(corpus_id)
        if corpus is None:
            raise NotFoundError(f"corpus {corpus_id!r} is not indexed")
        return (await asyncio.to_thread(corpus.rank, query, vector))[:k]


class _CorpusIndex:
    """One corpus. Chunks stand in the order of their ids, so that a stable sort breaks ties by id."""

    def __init__(self, chunks: Sequence[IndexedChunk], vectors: Vectors) -> None:
        order = sorted(range(len(chunks)), key=lambda row: chunks[row].chunk_id)
        self._ids = [chunks[row].chunk_id for row in order]
        self._vectors = np.ascontiguousarray(vectors[order], dtype=np.float32)
        self._lexical = _bm25([words(chunks[row].text) for row in order])

    def rank(self, query: str, vector: Vectors) -> list[Ranked]:
        """All chunks that either ranking holds, best first."""
        return fuse(self._lexical_ranking(query), self._dense_ranking(vector))

    def _lexical_ranking(self, query: str) -> list[str]:
        if self._lexical is None:
            return []
        known = [word for word in words(query) if word in self._lexical.vocab_dict]
        if not known:
            return []
        scores = self._lexical.get_scores(known)
        return self._best(scores, int(np.count_nonzero(scores > 0)))

    def _dense_ranking(self, vector: Vectors) -> list[str]:
        scores = np.round(self._vectors @ vector, DENSE_DECIMALS)
        return self._best(scores, len(scores))

    def _best(self, scores: NDArray[np.float32], n: int) -> list[str]:
        rows = np.argsort(-scores, kind="stable")[: min(n, RANK_DEPTH)]
        return [self._ids[row] for row in rows]


def _bm25(texts: list[list[str]]) -> Any:
    """Index with Lucene's variant of BM25 (k1 = 1.5, b = 0.75); None where no text has a word."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    if not any(texts):
        return None
    # Numbered by first occurrence: left to itself the library numbers a set, whose order differs between processes.
    vocabulary: dict[str, int] = {}
    numbers = [[vocabulary.setdefault(word, len(vocabulary)) for word in text] for text in texts]
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    index.index((numbers, vocabulary), show_progress=False, create_empty_token=False)
    return index
