import asyncio
from dataclasses import replace

import pytest

from safescale.core.errors import InvalidInputError, StorageUnavailableError
from safescale.inference.backends.port import Generation, Output
from safescale.inference.cache.bound import GRAIN_S, CacheKeeper, Trim
from safescale.inference.cache.store import GenerationCache
from safescale.inference.servicer import InferenceServicer
from safescale.rpc.inference.v1 import inference_pb2 as pb
from safescale.runtime.documents.port import NewDocument

LONG = Generation((Output("x" * 1000, "", "stop", 1),), 7, 0.25, None)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """A cache with a bound, answers of it by name, and a clock; what is stored is a grain older than what follows."""

    def __init__(self, documents, max_bytes: int = 0) -> None:
        self.clock = Clock()
        self.documents = documents
        self.keeper = CacheKeeper(documents, max_bytes, self.clock)
        self.cache = GenerationCache(documents, self.keeper)

    async def put(self, *keys: str, model: str = "m", fresh: bool = False) -> None:
        for key in keys:
            await self.cache.put_generations({key: LONG}, replace=fresh, model=model)
            self.clock.now += GRAIN_S

    async def keys(self) -> list[str]:
        return [document.key async for document in self.documents.scan("generation")]

    async def settled(self) -> list[str]:
        async with asyncio.timeout(5):
            while self.keeper._keeping is not None and not self.keeper._keeping.done():
                await asyncio.sleep(0.002)
        return await self.keys()


@pytest.fixture
def shelf(documents) -> Shelf:
    return Shelf(documents)


@pytest.fixture
def one(documents):
    async def size() -> int:
        shelf = Shelf(documents)
        await shelf.put("size")
        (found,) = (await shelf.keeper.sizes()).values()
        await shelf.keeper.trim(Trim("m"))
        return found.bytes

    return size


async def test_the_oldest_answers_go_when_there_are_too_many(documents, one) -> None:
    shelf = Shelf(documents, max_bytes=10 * await one())
    for number in range(30):
        # Keys say nothing of the age.
        await shelf.put(f"{(number * 7) % 30:02d}")
        kept = await shelf.settled()
        assert len(kept) <= 10
        assert f"{(number * 7) % 30:02d}" in kept
    newest = [f"{(number * 7) % 30:02d}" for number in range(30)][-len(kept) :]
    assert sorted(kept) == sorted(newest)
    assert len(kept) >= 8


async def test_without_a_bound_nothing_goes_and_nobody_looks(documents, monkeypatch) -> None:
    shelf = Shelf(documents, max_bytes=0)
    monkeypatch.setattr(documents, "sizes", None)
    await shelf.put(*"abc")
    assert await shelf.settled() == ["a", "b", "c"]


async def test_what_is_there_at_the_start_counts(documents, one) -> None:
    size = await one()
    await Shelf(documents).put(*"abcdefgh")
    shelf = Shelf(documents, max_bytes=4 * size)
    shelf.clock.now += 10_000
    await shelf.put("new")
    kept = await shelf.settled()
    assert kept == ["f", "g", "h", "new"][-len(kept) :]


async def test_what_version_0_1_0_stored_is_the_oldest(shelf, one) -> None:
    size = await one()
    await shelf.put("a")
    await shelf.documents.put_if_absent(NewDocument("generation", "z", {"outputs": [], "text": "x" * 900}))
    assert set(await shelf.keeper.sizes()) == {"", "m"}
    await shelf.keeper.trim(Trim(max_bytes=size + 10))
    assert await shelf.keys() == ["a"]


async def test_an_answer_that_was_asked_anew_is_young_again(shelf, one) -> None:
    size = await one()
    await shelf.put("a", "b", "c")
    await shelf.put("a", fresh=True)
    removed = await shelf.keeper.trim(Trim(max_bytes=2 * size + 20))
    assert (removed.count, await shelf.keys()) == (1, ["a", "c"])


async def test_answers_of_one_age_go_as_far_as_needed(shelf, one) -> None:
    size = await one()
    await shelf.cache.put_generations({str(i): LONG for i in range(9)}, replace=False, model="m")
    shelf.clock.now += 1
    removed = await shelf.keeper.trim(Trim(max_bytes=4 * size))
    assert (removed.count, len(await shelf.keys())) == (5, 4)
    assert removed.bytes == pytest.approx(5 * size, rel=0.01)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (Trim("m"), ["n1", "n2"]),
        (Trim(older_than_s=2.5 * GRAIN_S), ["m2", "n2"]),
        (Trim("m", older_than_s=2.5 * GRAIN_S), ["m2", "n1", "n2"]),
        (Trim("n", max_bytes=0), ["m1", "m2"]),
        (Trim(max_bytes=0), []),
        (Trim("absent"), ["m1", "m2", "n1", "n2"]),
        (Trim(older_than_s=10 * GRAIN_S), ["m1", "m2", "n1", "n2"]),
        (Trim(max_bytes=10**9), ["m1", "m2", "n1", "n2"]),
        (Trim("m", older_than_s=3.5 * GRAIN_S, max_bytes=0), ["n1", "n2"]),
    ],
)
async def test_what_is_asked_for_goes(shelf, wanted, left) -> None:
    await shelf.put("m1")
    await shelf.put("n1", model="n")
    await shelf.put("m2")
    await shelf.put("n2", model="n")
    removed = await shelf.keeper.trim(wanted)
    assert (await shelf.keys(), removed.count) == (left, 4 - len(left))


async def test_what_is_stored_meanwhile_stays(shelf, monkeypatch) -> None:
    await shelf.put("a", "b")
    delete = shelf.documents.delete

    async def beside(documents):
        # Asked anew after it was read, and a new one.
        await shelf.put("a", "c", fresh=True)
        return await delete(documents)

    monkeypatch.setattr(shelf.documents, "delete", beside)
    removed = await shelf.keeper.trim(Trim(max_bytes=0))
    assert (await shelf.keys(), removed.count) == (["a", "c"], 1)


async def test_a_store_that_is_away_ends_no_asking(documents, monkeypatch) -> None:
    shelf = Shelf(documents, max_bytes=1)

    async def away(kind):
        raise StorageUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(documents, "sizes", away)
        await shelf.put("a")
        assert await shelf.settled() == ["a"]
    await shelf.put("b")
    assert "a" not in await shelf.settled()


async def test_the_service_shows_and_trims(bench) -> None:
    servicer = InferenceServicer(bench.engine)
    cache = GenerationCache(bench.documents)
    await cache.put_generations({"a": LONG, "b": LONG}, replace=False, model="m")
    await cache.put_generations({"c": LONG}, replace=False, model="gone-from-the-catalog")
    told = await servicer.GetCache(pb.GetCacheRequest(), None)
    assert [(one.model, one.entry_count) for one in told.models] == [("gone-from-the-catalog", 1), ("m", 2)]
    assert told.models[1].bytes > 2000
    done = await servicer.TrimCache(pb.TrimCacheRequest(model="m"), None)
    assert (done.removed_count, done.bytes) == (2, told.models[0].bytes)
    assert done.removed_bytes == pytest.approx(told.models[1].bytes, rel=0.01)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (pb.TrimCacheRequest(), "nothing says what is to go"),
        (pb.TrimCacheRequest(older_than_s=-1), "older_than_s is -1"),
        (pb.TrimCacheRequest(older_than_s=float("nan")), "older_than_s is nan"),
    ],
)
async def test_a_request_that_says_nothing_removes_nothing(bench, request_, words) -> None:
    with pytest.raises(InvalidInputError, match=words):
        await InferenceServicer(bench.engine).TrimCache(request_, None)


async def test_answers_are_stored_under_their_model(bench) -> None:
    from tests.unit.inference.test_engine import DRAWN, GREEDY, QUESTION

    await bench.engine.texts(QUESTION, [GREEDY, DRAWN])
    await bench.engine.scores(replace(QUESTION), ["a", "b"])
    _ = [event async for event in bench.engine.stream(replace(QUESTION, fresh=True), GREEDY)]
    assert {model: size.count for model, size in (await bench.engine.keeper.sizes()).items()} == {"m": 3}
