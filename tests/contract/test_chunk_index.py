"""One suite over every adapter of the chunk index port."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.errors import NotFoundError
from safescale.retrieval.index.memory import MemoryIndex
from safescale.retrieval.index.port import ChunkIndex, IndexedChunk

TEXTS = {
    "a#0": "A pleural effusion blunts the costophrenic angle.",
    "a#1": "Large effusions shift the mediastinum away.",
    "b#0": "A tension pneumothorax shifts the mediastinum away from the air.",
    "b#1": "The visceral pleural line is the sign of a pneumothorax on an upright film.",
    "c#0": "T2/FLAIR mismatch marks an astrocytoma with an IDH mutation.",
    "d#0": "A pleural effusion blunts the costophrenic angle.",
}


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


VECTORS = {
    "a#0": unit(1, 0, 0), "a#1": unit(1, 0.5, 0), "b#0": unit(0, 1, 0),
    "b#1": unit(0.2, 1, 0), "c#0": unit(0, 0, 1), "d#0": unit(1, 0, 0),
}  # fmt: skip


WORDS = st.sampled_from(["lung", "chest", "line", "sign", "of", "3.5", "µm", "肺炎"])


async def fill(index: ChunkIndex, ids=tuple(TEXTS), corpus_id="c1") -> ChunkIndex:
    chunks = [IndexedChunk(chunk, TEXTS[chunk]) for chunk in ids]
    await index.add(corpus_id, chunks, np.stack([VECTORS[chunk] for chunk in ids]))
    return index


@pytest.fixture(params=[MemoryIndex])
def index(request) -> ChunkIndex:
    return request.param()


async def ids(index: ChunkIndex, query: str, vector: np.ndarray, k: int, corpus_id="c1") -> list[str]:
    return [hit.chunk_id for hit in await index.search(corpus_id, query, vector, k)]


async def test_words_and_vectors_both_rank(index: ChunkIndex) -> None:
    await fill(index)
    best, *_ = await index.search("c1", "tension pneumothorax", VECTORS["b#0"], 3)
    assert (best.chunk_id, best.lexical_rank, best.dense_rank) == ("b#0", 1, 1)
    assert best.score == pytest.approx(2 / 61)
    lexical, *_ = await index.search("c1", "IDH astrocytoma", VECTORS["c#0"], 1)
    assert lexical.chunk_id == "c#0"


async def test_without_a_known_word_the_vectors_alone_rank(index: ChunkIndex) -> None:
    await fill(index)
    hits = await index.search("c1", "zzz ???", unit(0, 0, 1), 6)
    assert hits[0].chunk_id == "c#0"
    assert {hit.lexical_rank for hit in hits} == {0}
    assert len(hits) == 6


async def test_words_are_found_in_any_case_and_width(index: ChunkIndex) -> None:
    await fill(index)
    for query in ("idh", "IDH", "ＩＤＨ"):
        hits = await index.search("c1", query, unit(1, 0, 0), 6)
        assert [hit.chunk_id for hit in hits if hit.lexical_rank] == ["c#0"]


async def test_equal_chunks_are_ordered_by_id_whatever_the_order_they_came_in(index: ChunkIndex) -> None:
    await fill(index)
    await fill(index, tuple(reversed(TEXTS)), "c2")
    for corpus_id in ("c1", "c2"):
        assert await ids(index, "costophrenic angle", unit(1, 0, 0), 2, corpus_id) == ["a#0", "d#0"]
    assert await ids(index, "mediastinum", unit(0.3, 1, 0.1), 6, "c1") == await ids(
        index, "mediastinum", unit(0.3, 1, 0.1), 6, "c2"
    )


async def test_a_longer_answer_begins_with_the_shorter_one(index: ChunkIndex) -> None:
    await fill(index)
    whole = await ids(index, "pleural mediastinum film", unit(1, 1, 1), 6)
    assert len(whole) == len(set(whole)) == 6
    for k in range(1, 6):
        assert await ids(index, "pleural mediastinum film", unit(1, 1, 1), k) == whole[:k]


async def test_fewer_chunks_than_asked_all_come(index: ChunkIndex) -> None:
    await fill(index, ("a#0", "c#0"))
    assert len(await ids(index, "effusion", unit(1, 0, 0), 10)) == 2


async def test_corpora_are_apart_and_an_absent_one_is_not_found(index: ChunkIndex) -> None:
    await fill(index, ("a#0",), "c1")
    await fill(index, ("b#0",), "c2")
    assert await ids(index, "pneumothorax", unit(1, 0, 0), 5, "c1") == ["a#0"]
    assert await index.has("c2")
    assert not await index.has("c3")
    with pytest.raises(NotFoundError, match="c3"):
        await index.search("c3", "x", unit(1, 0, 0), 1)


async def test_adding_again_replaces(index: ChunkIndex) -> None:
    await fill(index)
    await fill(index, ("c#0",))
    assert await ids(index, "effusion", unit(1, 0, 0), 10) == ["c#0"]


async def test_texts_without_words_can_be_searched(index: ChunkIndex) -> None:
    await index.add("c1", [IndexedChunk("a#0", "…"), IndexedChunk("b#0", "🙂")], np.stack([unit(1, 0), unit(0, 1)]))
    assert await ids(index, "word", unit(0, 1), 2) == ["b#0", "a#0"]


@given(
    texts=st.lists(st.lists(WORDS, max_size=6), min_size=1, max_size=12),
    query=st.lists(WORDS, max_size=4),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
async def test_any_answer_is_a_prefix_of_the_whole_ranking(texts: list[list[str]], query: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(texts) + 1, 4)).astype(np.float32).round(1) + np.float32(0.05)
    index = MemoryIndex()
    chunks = [IndexedChunk(f"d#{i}", " ".join(words)) for i, words in enumerate(texts)]
    await index.add("c", chunks, vectors[1:])
    whole = await index.search("c", " ".join(query), vectors[0], 100)
    assert {hit.chunk_id for hit in whole} == {chunk.chunk_id for chunk in chunks}
    for k in (1, 5, 10):
        assert await index.search("c", " ".join(query), vectors[0], k) == whole[:k]


SCRIPT = """
import asyncio, numpy as np
from safescale.retrieval.index.memory import MemoryIndex
from safescale.retrieval.index.port import IndexedChunk
async def main():
    index = MemoryIndex()
    words = "lung chest pleura effusion line sign film angle heart rib".split()
    chunks = [IndexedChunk(f"d#{i}", " ".join(words[(i * j) % 10] for j in range(1, 7))) for i in range(40)]
    await index.add("c", chunks, np.ones((40, 2), np.float32) / np.float32(2**0.5))
    hits = await index.search("c", "effusion line rib heart", np.array([1, 0], np.float32), 40)
    print([(hit.chunk_id, hit.score) for hit in hits])
asyncio.run(main())
"""


def test_another_process_ranks_the_same_and_nothing_is_printed() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.count(b"\n") == 1
    assert runs[0].stderr == b""
