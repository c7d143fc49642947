import asyncio

import numpy as np

from safescale.retrieval.embed.cache import BATCH, VectorCache


async def test_a_text_is_embedded_once(documents, make_embedder) -> None:
    first = make_embedder()
    made = await VectorCache(documents, first).vectors(["lung", "chest", "lung"])
    again = make_embedder()
    read = await VectorCache(documents, again).vectors(["chest", "lung"])
    assert sorted(first.asked) == ["chest", "lung"]
    assert again.asked == []
    assert made.dtype == read.dtype == np.float32
    np.testing.assert_array_equal(made, read[[1, 0, 1]])


async def test_another_revision_embeds_anew(documents, make_embedder) -> None:
    await VectorCache(documents, make_embedder("r1")).vectors(["lung"])
    other = make_embedder("r2")
    await VectorCache(documents, other).vectors(["lung"])
    assert other.asked == ["lung"]


async def test_the_same_query_at_the_same_moment_is_embedded_once(documents, make_embedder) -> None:
    embedder = make_embedder()
    cache = VectorCache(documents, embedder)
    await asyncio.gather(*(cache.vectors(["lung"]) for _ in range(10)))
    assert embedder.asked == ["lung"]


async def test_what_was_embedded_before_a_crash_is_kept(documents, make_embedder) -> None:
    class Crashing(make_embedder):
        async def embed(self, texts):
            if "text 40" in texts:
                raise RuntimeError("killed")
            return await super().embed(texts)

    texts = [f"text {i}" for i in range(50)]
    crashed = await asyncio.gather(VectorCache(documents, Crashing()).vectors(texts), return_exceptions=True)
    assert isinstance(crashed[0], RuntimeError)
    after = make_embedder()
    assert (await VectorCache(documents, after).vectors(texts)).shape == (50, after.dimension)
    assert after.asked == texts[BATCH:]


async def test_no_texts_give_no_rows(documents, make_embedder) -> None:
    embedder = make_embedder()
    assert (await VectorCache(documents, embedder).vectors([])).shape == (0, embedder.dimension)
