from hypothesis import given
from hypothesis import strategies as st

from safescale.retrieval.index.fusion import fuse
from safescale.retrieval.index.port import FUSED_DEPTH, depth_for

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


def names(count: int, begin: int = 0) -> list[str]:
    return [f"d{i:04}" for i in range(begin, begin + count)]


def test_what_stands_deep_in_both_rankings_follows_by_its_better_rank() -> None:
    lexical, dense = names(FUSED_DEPTH, 1000), names(FUSED_DEPTH, 2000)
    fused = fuse([*lexical, "x", "y", "z"], [*dense, "z", "w", "x", "y", lexical[0]])
    assert {hit.chunk_id for hit in fused[: 2 * FUSED_DEPTH]} == {*lexical, *dense}
    # A rank beyond the depth adds nothing to a chunk that has a fused one.
    first = next(hit for hit in fused if hit.chunk_id == lexical[0])
    assert (first.score, first.lexical_rank, first.dense_rank) == (1 / 61, 1, 0)
    rest = [(hit.chunk_id, hit.lexical_rank, hit.dense_rank) for hit in fused[2 * FUSED_DEPTH :]]
    assert rest == [("x", 101, 0), ("z", 0, 101), ("w", 0, 102), ("y", 102, 0)]


@given(
    lexical=st.permutations(names(260)),
    dense=st.permutations(names(260)),
    matched=st.integers(0, 260),
    depths=st.lists(st.integers(1, 260), min_size=2, max_size=4),
)
def test_a_shorter_answer_from_fewer_hits_begins_the_longer_one(
    lexical: list[str], dense: list[str], matched: int, depths: list[int]
) -> None:
    lexical = lexical[:matched]
    whole = fuse(lexical, dense)
    assert [hit.score for hit in whole] == sorted((hit.score for hit in whole), reverse=True)
    for k in depths:
        depth = depth_for(k)
        assert fuse(lexical[:depth], dense[:depth])[:k] == whole[:k]
