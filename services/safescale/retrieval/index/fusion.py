"""Reciprocal rank fusion of rankings, with ties that fall the same way every time."""

from collections.abc import Sequence

from safescale.retrieval.index.port import FUSION_CONSTANT, Ranked


def fuse(lexical: Sequence[str], dense: Sequence[str]) -> list[Ranked]:
    """Fuse two rankings of chunk ids (best first, each id at most once in each), best first.

    score = Σ 1 / (60 + rank) over the rankings that hold the chunk; equal scores are ordered by chunk id.
    """
    lexical_ranks = {chunk: rank for rank, chunk in enumerate(lexical, start=1)}
    dense_ranks = {chunk: rank for rank, chunk in enumerate(dense, start=1)}
    fused = []
    for chunk in lexical_ranks.keys() | dense_ranks.keys():
        ranks = lexical_ranks.get(chunk, 0), dense_ranks.get(chunk, 0)
        score = sum(1.0 / (FUSION_CONSTANT + rank) for rank in sorted(ranks) if rank)
        fused.append(Ranked(chunk, score, *ranks))
    return sorted(fused, key=lambda hit: (-hit.score, hit.chunk_id))
