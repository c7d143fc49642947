"""Reciprocal rank fusion of rankings, with ties that fall the same way every time."""

from collections.abc import Sequence

from safescale.retrieval.index.port import FUSED_DEPTH, FUSION_CONSTANT, Ranked


def fuse(lexical: Sequence[str], dense: Sequence[str]) -> list[Ranked]:
    """Fuse two rankings of chunk ids (best first, each id at most once in each), best first.

    score = Σ 1 / (60 + rank) over the rankings that hold the chunk among their first `FUSED_DEPTH`. A chunk that stands
    deeper in both has 1 / (60 + the better rank): less than any of the former, and the same whether the worse rank is
    known or not. Equal scores are ordered by chunk id.
    """
    lexical_ranks = {chunk: rank for rank, chunk in enumerate(lexical, start=1)}
    dense_ranks = {chunk: rank for rank, chunk in enumerate(dense, start=1)}
    fused = []
    for chunk in lexical_ranks.keys() | dense_ranks.keys():
        ranks = lexical_ranks.get(chunk, 0), dense_ranks.get(chunk, 0)
        best = min(rank for rank in ranks if rank)
        # Of a deeper chunk the better rank alone counts; of the others, those that are fused.
        counted = [rank if rank <= max(best, FUSED_DEPTH) else 0 for rank in ranks]
        places = [best] if best > FUSED_DEPTH else sorted(rank for rank in counted if rank)
        score = sum(1.0 / (FUSION_CONSTANT + rank) for rank in places)
        fused.append(Ranked(chunk, score, *counted))
    return sorted(fused, key=lambda hit: (-hit.score, hit.chunk_id))
