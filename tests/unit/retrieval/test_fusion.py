from hypothesis import given
from hypothesis import strategies as st

from safescale.retrieval.index.fusion import fuse

IDS = st.lists(st.sampled_from([f"d{i}#{j}" for i in range(6) for j in range(3)]), unique=True)


def test_scores_are_the_sum_of_reciprocal_ranks() -> None:
    first, second, third = fuse(["a", "b"], ["b", "c"])
    assert (first.chunk_id, first.lexical_rank, first.dense_rank) == ("b", 2, 1)
    assert first.score == 1 / 61 + 1 / 62
    assert (second.chunk_id, second.score, second.dense_rank) == ("a", 1 / 61, 0)
    assert (third.chunk_id, third.score, third.lexical_rank) == ("c", 1 / 62, 0)


def test_ties_are_ordered_by_chunk_id() -> None:
    assert [hit.chunk_id for hit in fuse(["b", "a"], ["a", "b"])] == ["a", "b"]


@given(lexical=IDS, dense=IDS)
def test_every_hit_once_best_first(lexical: list[str], dense: list[str]) -> None:
    fused = fuse(lexical, dense)
    assert {hit.chunk_id for hit in fused} == {*lexical, *dense}
    assert len(fused) == len({*lexical, *dense})
    assert [(-hit.score, hit.chunk_id) for hit in fused] == sorted((-hit.score, hit.chunk_id) for hit in fused)
    assert all(hit.score > 0 for hit in fused)
