"""The chunk index port: chunks of corpora, ranked by words and by vectors, the two rankings fused."""

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from safescale.retrieval.embed.port import Vectors

FUSION_CONSTANT = 60
"""k of reciprocal rank fusion: score = Σ 1 / (k + rank) (Cormack, Clarke and Büttcher 2009)."""

FUSED_DEPTH = 100
"""Hits of each ranking whose ranks are fused. What stands deeper in both rankings comes after them all."""

MAX_RANKED = 10_000
"""Most chunks that one answer ranks: the most hits that Elasticsearch gives at once."""

DENSE_DECIMALS = 6
"""Inner products are compared to six decimals: below that, equal texts can differ by their place in memory."""


def depth_for(k: int) -> int:
    """Hits of each ranking that the best k chunks need: never fewer than are fused, so that all k agree."""
    return min(max(k, FUSED_DEPTH), MAX_RANKED)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: an exact slice of its article, with its length by the chunking tokenizer."""

    chunk_id: str
    document_id: str
    title: str
    text: str
    token_count: int


@dataclass(frozen=True, slots=True)
class CorpusKey:
    """What an index knows of a corpus.

    `corpus_id` identifies documents, chunking and embedder, `content_id` the documents and the chunking alone.
    """

    corpus_id: str
    content_id: str
    embedder_revision: str
    dimension: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks of a corpus with their vectors: (n, dimension) float32 of unit length."""

    chunks: Sequence[Chunk]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chunk's place: score (above 0) and rank in each ranking from 1, 0 where that ranking gave it no place."""

    chunk_id: str
    score: float
    lexical_rank: int
    dense_rank: int


class ChunkIndex(Protocol):
    """Keeps and ranks chunks. Equal scores are ordered by chunk id, so that a question has one answer everywhere.

    The ranks of the first `FUSED_DEPTH` hits of each ranking are fused. Chunks that stand deeper in both follow them,
    ordered by the better of their ranks. So a chunk's place depends on no more hits than the place is deep: whatever is
    asked for, a shorter answer is the beginning of a longer one, and the best ten need two rankings of one hundred.
    A corpus is ranked by itself: which others are there changes no score.

    Raises StorageUnavailableError while its storage cannot be reached, StorageError when it fails.
    """

    async def add(self, corpus: CorpusKey, batches: AsyncIterable[Batch]) -> None:
        """Index all chunks of a corpus (at least one). It is found when all of them are there, and not before.

        An id identifies one content: a corpus that is there is left alone, its batches unread; the remains of an add
        that was cut off are reused.
        """

    async def has(self, corpus_id: str) -> bool:
        """Return whether the corpus is indexed, by whatever process."""

    async def search(self, corpus_id: str, query: str, vector: Vectors, k: int) -> list[Ranked]:
        """Return the best k chunks (1 to `MAX_RANKED`) for a query and its vector (dimension,), best first.

        There are fewer where the corpus has fewer.

        Raises:
            NotFoundError: the corpus is not indexed.

        """

    async def read(self, corpus_id: str, chunk_ids: Sequence[str]) -> list[Chunk]:
        """Read chunks of an indexed corpus by id, in the order of the ids.

        Raises:
            NotFoundError: the corpus is not indexed, or has no such chunk.

        """

    async def close(self) -> None:
        """Release what the index holds."""
