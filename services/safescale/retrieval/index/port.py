"""The chunk index port: lexical and dense ranking of a corpus's chunks, fused by reciprocal rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from safescale.retrieval.embed.port import Vectors

FUSION_CONSTANT = 60
"""k of reciprocal rank fusion: score = Σ 1 / (k + rank) (Cormack, Clarke and Büttcher 2009)."""

RANK_DEPTH = 10_000
"""Hits of each ranking that are fused, whatever number is asked for: so a longer answer begins with the shorter one."""


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """What is indexed of a chunk."""

    chunk_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chunk's place: fused score (above 0), rank in each ranking from 1, 0 where it is not in it."""

    chunk_id: str
    score: float
    lexical_rank: int
    dense_rank: int


class ChunkIndex(Protocol):
    """Ranks chunks. Equal scores are ordered by chunk id, so that the same question has the same answer everywhere."""

    async def add(self, corpus_id: str, chunks: Sequence[IndexedChunk], vectors: Vectors) -> None:
        """Index all chunks of a corpus (at least one); vectors are (n, dimension) float32 of unit length."""

    async def has(self, corpus_id: str) -> bool:
        """Whether the corpus is indexed."""

    async def search(self, corpus_id: str, query: str, vector: Vectors, k: int) -> list[Ranked]:
        """The best k chunks (k >= 1), best first, for a query and its vector (dimension,); fewer where there are fewer.

        For k < m the answer for k is the beginning of the answer for m.

        Raises:
            NotFoundError: the corpus is not indexed.

        """
