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
    fused = [
        _place(chunk, lexical_ranks.get(chunk, 0), dense_ranks.get(chunk, 0))
        for chunk in lexical_ranks.keys() | dense_ranks.keys()
    ]
    fused.sort(key=lambda hit: (-hit.score, hit.chunk_id))
    return fused


def _place(chunk_id: str, lexical: int, dense: int) -> Ranked:
    better, worse = (lexical, dense) if 0 < lexical <= dense or not dense else (dense, lexical)
    score = 1.0 / (FUSION_CONSTANT + better)
    if better <= FUSED_DEPTH:
        # A rank beyond the depth is none.
        if 0 < worse <= FUSED_DEPTH:
            score += 1.0 / (FUSION_CONSTANT + worse)
        return Ranked(chunk_id, score, lexical * (lexical <= FUSED_DEPTH), dense * (dense <= FUSED_DEPTH))
    # Of a deeper chunk the better rank alone counts.
    return Ranked(chunk_id, score, lexical * (lexical == better), dense * (dense == better))
