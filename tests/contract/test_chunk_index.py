"""One suite over every adapter of the chunk index port."""

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from elasticsearch import AsyncElasticsearch
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.errors import NotFoundError
from safescale.retrieval.index.elastic import ElasticIndex
from safescale.retrieval.index.memory import MemoryIndex
from safescale.retrieval.index.port import FUSED_DEPTH, Batch, Chunk, ChunkIndex, CorpusKey
from safescale.runtime.elastic import ElasticConnection
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

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


def chunk_of(chunk_id: str, text: str) -> Chunk:
    return Chunk(chunk_id, chunk_id.split("#", maxsplit=1)[0], f"Title of {chunk_id[0]}", text, len(text.split()))


async def in_batches(chunks: Sequence[Chunk], vectors: np.ndarray, size: int = 4) -> AsyncIterator[Batch]:
    for begin in range(0, len(chunks), size):
        yield Batch(chunks[begin : begin + size], vectors[begin : begin + size])


async def add(index: ChunkIndex, corpus_id: str, chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
    key = CorpusKey(corpus_id, f"content-{corpus_id}", "revision", vectors.shape[1], len(chunks))
    await index.add(key, in_batches(chunks, vectors))


async def fill(index: ChunkIndex, ids=tuple(TEXTS), corpus_id="c1") -> ChunkIndex:
    chunks = [chunk_of(chunk, TEXTS[chunk]) for chunk in ids]
    await add(index, corpus_id, chunks, np.stack([VECTORS[chunk] for chunk in ids]))
    return index


class Shared:
    """Opens indexes of replicas that share one store (or are alone, in memory)."""

    def __init__(self, url: str = "") -> None:
        self.url, self.prefix = url, f"t{uuid.uuid4().hex[:12]}"
        self._open: list[ChunkIndex] = []

    def open(self) -> ChunkIndex:
        if not self.url:
            return MemoryIndex()
        connection = ElasticConnection(Settings(elasticsearch=self.url), Telemetry())
        self._open.append(ElasticIndex(connection, self.prefix))
        return self._open[-1]

    async def close(self) -> None:
        for index in self._open:
            await index.close()
        if self.url:
            async with AsyncElasticsearch(self.url) as client:
                for name in await client.indices.get(index=f"{self.prefix}-*"):
                    await client.indices.delete(index=name)


@pytest.fixture(params=["memory", pytest.param("elastic", marks=pytest.mark.grid)])
async def shared(request) -> AsyncIterator[Shared]:
    opened = Shared(request.getfixturevalue("elasticsearch_url") if request.param == "elastic" else "")
    yield opened
    await opened.close()


@pytest.fixture
def index(shared: Shared) -> ChunkIndex:
    return shared.open()


async def ids(index: ChunkIndex, query: str, vector: np.ndarray, k: int, corpus_id="c1") -> list[str]:
    return [hit.chunk_id for hit in await index.search(corpus_id, query, vector, k)]


async def test_words_and_vectors_both_rank(index: ChunkIndex) -> None:
    await fill(index)
    best, *_ = await index.search("c1", "tension pneumothorax", VECTORS["b#0"], 3)
    assert (best.chunk_id, best.lexical_rank, best.dense_rank) == ("b#0", 1, 1)
    assert best.score == pytest.approx(2 / 61)
    lexical, *_ = await index.search("c1", "IDH astrocytoma", VECTORS["c#0"], 1)
    assert lexical.chunk_id == "c#0"


@pytest.mark.parametrize("query", ["zzz ???", "… — ?"])
async def test_without_a_known_word_the_vectors_alone_rank(index: ChunkIndex, query: str) -> None:
    await fill(index)
    hits = await index.search("c1", query, unit(0, 0, 1), 6)
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


async def test_among_more_equals_than_are_ranked_the_first_ids_are_taken(index: ChunkIndex) -> None:
    names = [f"d{i:03}#0" for i in range(3 * FUSED_DEPTH)]
    shuffled = np.random.default_rng(3).permutation(names)
    chunks = [chunk_of(str(name), "The same words.") for name in shuffled]
    await add(index, "c1", chunks, np.tile(unit(0.3, 0.4, 0.5), (len(names), 1)))
    hits = await index.search("c1", "same", unit(0.1, 0.9, 0.2), 5)
    assert [(hit.chunk_id, hit.lexical_rank, hit.dense_rank) for hit in hits] == [
        (name, place, place) for place, name in enumerate(names[:5], start=1)
    ]
    assert await ids(index, "same", unit(0.1, 0.9, 0.2), len(names)) == names


async def test_a_longer_answer_begins_with_the_shorter_one(index: ChunkIndex) -> None:
    await fill(index)
    whole = await ids(index, "pleural mediastinum film", unit(1, 1, 1), 6)
    assert len(whole) == len(set(whole)) == 6
    for k in range(1, 6):
        assert await ids(index, "pleural mediastinum film", unit(1, 1, 1), k) == whole[:k]


async def test_the_answer_for_the_whole_corpus_begins_with_every_shorter_one(index: ChunkIndex) -> None:
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(401, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vocabulary = ["lung", "chest", "pleura", "effusion", "line", "sign", "film", "angle", "heart", "rib"]
    chunks = [chunk_of(f"d{i}#0", " ".join(rng.choice(vocabulary, 6))) for i in range(400)]
    await add(index, "c1", chunks, vectors[1:])
    whole = await index.search("c1", "effusion rib heart line", vectors[0], 10_000)
    assert {hit.chunk_id for hit in whole} == {chunk.chunk_id for chunk in chunks}
    for k in (1, 5, 10, FUSED_DEPTH, FUSED_DEPTH + 1, 250, 399):
        assert await index.search("c1", "effusion rib heart line", vectors[0], k) == whole[:k]


async def test_another_corpus_changes_no_score(index: ChunkIndex) -> None:
    await fill(index, ("a#0", "b#1", "c#0"), "c1")
    before = await index.search("c1", "pleural film sign effusion", unit(1, 1, 1), 3)
    # There "pleural" is everywhere and "sign" is rare; in the first corpus it is the other way round.
    chunks = [chunk_of(f"x#{i}", "pleural effusion film " * 3) for i in range(20)]
    await add(index, "c2", chunks, np.tile(unit(1, 0, 0), (20, 1)))
    assert await index.search("c1", "pleural film sign effusion", unit(1, 1, 1), 3) == before


async def test_fewer_chunks_than_asked_all_come(index: ChunkIndex) -> None:
    await fill(index, ("a#0", "c#0"))
    assert len(await ids(index, "effusion", unit(1, 0, 0), 10)) == 2


async def test_corpora_are_apart_and_an_absent_one_is_not_found(index: ChunkIndex) -> None:
    await fill(index, ("a#0",), "c1")
    await fill(index, ("b#0",), "c2")
    assert await ids(index, "pneumothorax", unit(1, 0, 0), 5, "c1") == ["a#0"]
    assert await index.has("c2")
    for absent in ("c3", "c*", "_all", "C1", "c1,c2", "../c1", ""):
        assert not await index.has(absent)
        with pytest.raises(NotFoundError, match="is not indexed"):
            await index.search(absent, "x", unit(1, 0, 0), 1)
        with pytest.raises(NotFoundError, match="is not indexed"):
            await index.read(absent, ["a#0"])


async def test_chunks_are_read_as_they_were_in_the_order_asked(index: ChunkIndex) -> None:
    odd = Chunk("ö/ü " + "x" * 500 + "#0", "ö/ü " + "x" * 500, "", 'quo"tes\n\u2028 and 🙂 <b>', 7)
    chunks = [odd, *(chunk_of(f"d{i}#0", f"Text {i}.") for i in range(300))]
    await add(index, "c1", chunks, np.tile(unit(1, 0), (len(chunks), 1)))
    wanted = [chunks[250], odd, *chunks[1:240], chunks[250]]
    assert await index.read("c1", [chunk.chunk_id for chunk in wanted]) == wanted
    assert await index.read("c1", []) == []
    with pytest.raises(NotFoundError, match="no chunk 'nope#0'"):
        await index.read("c1", ["d1#0", "nope#0"])


async def test_a_corpus_that_is_there_is_left_alone(index: ChunkIndex) -> None:
    await fill(index)
    before = await index.search("c1", "effusion", unit(1, 0, 0), 10)

    async def unread() -> AsyncIterator[Batch]:
        raise AssertionError("the batches were read")
        yield

    await index.add(CorpusKey("c1", "content-c1", "revision", 3, len(TEXTS)), unread())
    assert await index.search("c1", "effusion", unit(1, 0, 0), 10) == before


async def test_an_add_that_was_cut_off_is_not_found_and_is_taken_up(shared: Shared) -> None:
    chunks = [chunk_of(chunk, TEXTS[chunk]) for chunk in TEXTS]
    vectors = np.stack(list(VECTORS.values()))
    key = CorpusKey("c1", "content", "revision", 3, len(chunks))

    async def killed() -> AsyncIterator[Batch]:
        yield Batch(chunks[:3], vectors[:3])
        raise RuntimeError("killed")

    first, second = shared.open(), shared.open()
    with pytest.raises(RuntimeError, match="killed"):
        await first.add(key, killed())
    assert not await first.has("c1")
    with pytest.raises(NotFoundError):
        await first.search("c1", "effusion", unit(1, 0, 0), 10)
    await second.add(key, in_batches(chunks, vectors))
    assert await ids(second, "effusion", unit(1, 0, 0), 10) == await ids(
        await fill(second, corpus_id="c2"), "effusion", unit(1, 0, 0), 10, "c2"
    )


async def test_texts_without_words_can_be_searched(index: ChunkIndex) -> None:
    await add(index, "c1", [chunk_of("a#0", "…"), chunk_of("b#0", "🙂")], np.stack([unit(1, 0), unit(0, 1)]))
    assert await ids(index, "word", unit(0, 1), 2) == ["b#0", "a#0"]


async def test_a_query_of_very_many_words_is_answered(index: ChunkIndex) -> None:
    await fill(index)
    query = " ".join(["costophrenic", *(f"word{i}" for i in range(20_000))])
    assert (await ids(index, query, unit(0, 0, 1), 6))[0] in ("a#0", "c#0")


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
    chunks = [chunk_of(f"d#{i}", " ".join(words)) for i, words in enumerate(texts)]
    await add(index, "c", chunks, vectors[1:])
    whole = await index.search("c", " ".join(query), vectors[0], 100)
    assert {hit.chunk_id for hit in whole} == {chunk.chunk_id for chunk in chunks}
    for k in (1, 5, 10):
        assert await index.search("c", " ".join(query), vectors[0], k) == whole[:k]


SCRIPT = """
import asyncio, numpy as np
from safescale.retrieval.index.memory import MemoryIndex
from safescale.retrieval.index.port import Batch, Chunk, CorpusKey
async def main():
    index = MemoryIndex()
    words = "lung chest pleura effusion line sign film angle heart rib".split()
    chunks = [Chunk(f"d{i}#0", f"d{i}", "", " ".join(words[(i * j) % 10] for j in range(1, 7)), 6) for i in range(40)]
    async def batches():
        yield Batch(chunks, np.ones((40, 2), np.float32) / np.float32(2**0.5))
    await index.add(CorpusKey("c", "c", "r", 2, 40), batches())
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
