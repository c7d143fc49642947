"""The batcher: what gathers, what is bounded, what fails and what does not."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import StorageError
from safescale.runtime.documents.batcher import BatchBounds, Batcher


class Echo:
    """An exchange that returns its items, records its batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.running += 1
        assert self.running == 1
        self.batches.append(list(items))
        await self.gate.wait()
        self.running -= 1
        if -1 in items:
            raise StorageError("no")
        return [item * 10 for item in items]


async def test_what_is_asked_during_an_exchange_goes_as_the_next() -> None:
    echo = Echo()
    echo.gate.clear()
    batcher: Batcher[int, int] = Batcher(echo, BatchBounds(100, 1.0))
    first = asyncio.create_task(batcher.submit([1]))
    await asyncio.sleep(0.01)
    later = [asyncio.create_task(batcher.submit([i])) for i in range(2, 20)]
    await asyncio.sleep(0.01)
    echo.gate.set()
    assert await first == [10]
    assert await asyncio.gather(*later) == [[i * 10] for i in range(2, 20)]
    assert echo.batches == [[1], list(range(2, 20))]


async def test_callers_of_one_moment_share_the_first_exchange() -> None:
    echo = Echo()
    batcher: Batcher[int, int] = Batcher(echo, BatchBounds(100, 1.0))
    await asyncio.gather(*(batcher.submit([i]) for i in range(5)))
    assert echo.batches == [[0, 1, 2, 3, 4]]


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=8), st.integers(1, 5), st.integers(1, 40))
def test_every_item_is_carried_once_in_order_within_bounds(asks: list[list[int]], count: int, weight: int) -> None:
    async def scenario() -> None:
        echo = Echo()
        batcher: Batcher[int, int] = Batcher(echo, BatchBounds(count, weight), float)
        answers = await asyncio.gather(*(batcher.submit(items) for items in asks))
        assert answers == [[item * 10 for item in items] for items in asks]
        assert [item for batch in echo.batches for item in batch] == [item for items in asks for item in items]
        assert all(len(batch) <= count for batch in echo.batches)
        assert all(sum(batch) <= weight or len(batch) == 1 for batch in echo.batches)

    asyncio.run(scenario())


async def test_a_failed_exchange_fails_those_it_carried_alone() -> None:
    batcher: Batcher[int, int] = Batcher(Echo(), BatchBounds(2, 1.0))
    answers = await asyncio.gather(
        batcher.submit([1, 2]), batcher.submit([-1, 3, 4, 5]), batcher.submit([6]), return_exceptions=True
    )
    assert answers[0] == [10, 20]
    assert isinstance(answers[1], StorageError)
    assert answers[2] == [60]


async def test_a_caller_that_is_cancelled_takes_nobody_with_it() -> None:
    echo = Echo()
    echo.gate.clear()
    batcher: Batcher[int, int] = Batcher(echo, BatchBounds(100, 1.0))
    carried = asyncio.create_task(batcher.submit([1]))
    company = asyncio.create_task(batcher.submit([2]))
    await asyncio.sleep(0.01)
    queued = asyncio.create_task(batcher.submit([3]))
    other = asyncio.create_task(batcher.submit([4]))
    await asyncio.sleep(0.01)
    carried.cancel()
    queued.cancel()
    await asyncio.sleep(0.01)
    echo.gate.set()
    assert await company == [20]
    assert await other == [40]
    assert echo.batches == [[1, 2], [4]]


async def test_closing_tells_those_who_wait() -> None:
    echo = Echo()
    echo.gate.clear()
    batcher: Batcher[int, int] = Batcher(echo, BatchBounds(1, 1.0))
    waiting = [asyncio.create_task(batcher.submit([i])) for i in range(3)]
    await asyncio.sleep(0.01)
    await batcher.close()
    for task in waiting:
        with pytest.raises(StorageError, match="closed"):
            await task
