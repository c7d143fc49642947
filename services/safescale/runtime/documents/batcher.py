"""Group commit: while one exchange is under way, what is submitted meanwhile gathers and goes as the next exchange."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from safescale.core.errors import StorageError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """Most items, and most weight, of one exchange. One item always goes, however heavy."""

    count: int
    weight: float


class _Submission(Generic[Result]):
    """Items of one caller, which may be spread over several exchanges."""

    __slots__ = ("future", "left", "results")

    def __init__(self, count: int) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.results: list[Result | None] = [None] * count
        self.left = count

    def settle(self, index: int, result: Result) -> None:
        self.results[index] = result
        self.left -= 1
        if self.left == 0 and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Batcher(Generic[Item, Result]):
    """Carries items in exchanges, one at a time, in the order in which they were submitted.

    Nothing waits for company: an item that finds the batcher idle goes at once, with those submitted in that moment.
    `exchange` returns a result for each item, in order; what it raises is raised to all whose items it carried.
    """

    def __init__(
        self,
        exchange: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        bounds: BatchBounds,
        weight: Callable[[Item], float] = lambda _: 0.0,
    ) -> None:
        self._exchange = exchange
        self._bounds = bounds
        self._weight = weight
        self._waiting: deque[tuple[Item, _Submission[Result], int]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Carry items; their results in order."""
        if not items:
            return []
        submission: _Submission[Result] = _Submission(len(items))
        self._waiting.extend((item, submission, index) for index, item in enumerate(items))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await submission.future
        return submission.results  # type: ignore[return-value]  # each was set before the future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._next()
                if batch:
                    await self._carry(batch)
        finally:
            self._task = None

    def _next(self) -> list[tuple[Item, _Submission[Result], int]]:
        batch: list[tuple[Item, _Submission[Result], int]] = []
        weight = 0.0
        while self._waiting and len(batch) < self._bounds.count:
            entry = self._waiting[0]
            if entry[1].future.done():
                # Its caller was cancelled, or has failed with another of its items.
                self._waiting.popleft()
                continue
            weight += self._weight(entry[0])
            if batch and weight > self._bounds.weight:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _carry(self, batch: list[tuple[Item, _Submission[Result], int]]) -> None:
        try:
            results = await self._exchange([item for item, _, _ in batch])
        except asyncio.CancelledError:
            for _, submission, _ in batch:
                submission.fail(StorageError("the store was closed while it was used"))
            raise
        except Exception as error:  # it is the callers' error, whatever it is
            for _, submission, _ in batch:
                submission.fail(error)
            return
        for (_, submission, index), result in zip(batch, results, strict=True):
            submission.settle(index, result)

    async def close(self) -> None:
        """End the exchange that is under way; callers that wait get a StorageError."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _, submission, _ in self._waiting:
            submission.fail(StorageError("the store was closed while it was used"))
        self._waiting.clear()
