import asyncio

import numpy as np

from safescale.retrieval.embed.cache import BATCH, VectorCache


async def test_a_text_is_embedded_once(documents, make_embedder) -> None:
    first = make_embedder()
    made = await VectorCache(documents, first).passages(["lung", "chest", "lung"])
    again = make_embedder()
    read = await VectorCache(documents, again).passages(["chest", "lung"])
    assert sorted(first.asked) == ["chest", "lung"]
    assert again.asked == []
    assert made.dtype == read.dtype == np.float32
    np.testing.assert_array_equal(made, read[[1, 0, 1]])


async def test_another_revision_embeds_anew(documents, make_embedder) -> None:
    await VectorCache(documents, make_embedder("r1")).passages(["lung"])
    other = make_embedder("r2")
    await VectorCache(documents, other).passages(["lung"])
    assert other.asked == ["lung"]


async def test_the_same_query_at_the_same_moment_is_embedded_once(documents, make_embedder) -> None:
    embedder = make_embedder()
    cache = VectorCache(documents, embedder)
    vectors = await asyncio.gather(*(cache.query("lung") for _ in range(10)))
    assert embedder.asked == ["lung"]
    assert len({vector.tobytes() for vector in vectors}) == 1


async def test_queries_and_passages_are_kept_apart(documents, make_embedder) -> None:
    class Prefixing(make_embedder):
        async def embed_queries(self, texts):
            return await self.embed([f"query: {text}" for text in texts])

    embedder = Prefixing()
    cache = VectorCache(documents, embedder)
    passage, query = (await cache.passages(["lung"]))[0], await cache.query("lung")
    assert embedder.asked == ["lung", "query: lung"]
    assert not np.array_equal(passage, query)
    np.testing.assert_array_equal(await VectorCache(documents, make_embedder()).query("lung"), query)


async def test_batches_are_embedded_at_once_as_the_embedder_allows(documents, make_embedder) -> None:
    class Gathering(make_embedder):
        parallel = 3

        def __init__(self) -> None:
            super().__init__()
            self.together = asyncio.Barrier(3)

        async def embed(self, texts):
            await self.together.wait()
            return await super().embed(texts)

    texts = [f"text {i}" for i in range(3 * BATCH)]
    embedder = Gathering()
    made = await asyncio.wait_for(VectorCache(documents, embedder).passages(texts), 30)
    assert sorted(embedder.asked) == sorted(texts)
    np.testing.assert_array_equal(made, await make_embedder().embed(texts))


async def test_what_was_embedded_before_a_crash_is_kept(documents, make_embedder) -> None:
    class Crashing(make_embedder):
        async def embed(self, texts):
            if "text 40" in texts:
                raise RuntimeError("killed")
            return await super().embed(texts)

    texts = [f"text {i}" for i in range(50)]
    crashed = await asyncio.gather(VectorCache(documents, Crashing()).passages(texts), return_exceptions=True)
    assert isinstance(crashed[0], RuntimeError)
    after = make_embedder()
    assert (await VectorCache(documents, after).passages(texts)).shape == (50, after.dimension)
    assert after.asked == texts[BATCH:]


async def test_of_two_processes_the_vector_stored_first_counts(documents, make_embedder) -> None:
    class Noisy(make_embedder):
        async def embed(self, texts):
            # Meanwhile another process embeds the same text, with the noise of another batch.
            await VectorCache(documents, make_embedder()).query("lung")
            return await super().embed(texts) + np.float32(1e-3)

    vector = await VectorCache(documents, Noisy()).query("lung")
    np.testing.assert_array_equal(vector, await VectorCache(documents, make_embedder()).query("lung"))


async def test_no_texts_give_no_rows(documents, make_embedder) -> None:
    embedder = make_embedder()
    assert (await VectorCache(documents, embedder).passages([])).shape == (0, embedder.dimension)
