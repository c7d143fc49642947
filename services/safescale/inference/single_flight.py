"""Equal work that is requested at the same time is done once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class SingleFlight:
    """Shares the outcome of running work by key. A caller that is cancelled does not end what others wait for."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """Return the outcome of the work, and whether this caller joined it rather than began it."""
        task = self._tasks.get(key)
        joined = task is not None
        if task is None:
            task = asyncio.ensure_future(_awaited(work))
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._land(key, done))
        return cast(T, await asyncio.shield(task)), joined

    def _land(self, key: str, done: asyncio.Task[Any]) -> None:
        self._tasks.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def close(self) -> None:
        """Cancel what runs."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
