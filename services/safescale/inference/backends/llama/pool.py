"""A pool of embedded instances: opened when needed, each lent to one call at a time."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from safescale.core.errors import BackendTimeoutError, BackendUnavailableError
from safescale.inference.backends.llama.server import LlamaServer

T = TypeVar("T")

CLOSE_SECONDS = 20.0
"""Seconds that calls have to end at close: the longest that a batch of the prompt or one token may take."""

Work = Callable[[LlamaServer, threading.Event], T]
"""What a call does with its instance, in a thread; it ends early where the event is set."""


class InstanceLimiter:
    """Bounds the instances of all models that work at once, in the order in which they asked.

    `alone` waits until none works and holds the others off: opening a model keeps the interpreter to itself, which
    would show in the latencies of calls that run meanwhile.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._permits = asyncio.Semaphore(size)
        self._one_alone = asyncio.Lock()

    async def enter(self) -> None:
        """Wait for a permit."""
        await self._permits.acquire()

    def leave(self) -> None:
        """Return the permit."""
        self._permits.release()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold every permit."""
        async with self._one_alone:
            taken = 0
            try:
                while taken < self._size:
                    await self._permits.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._permits.release()


class InstancePool:
    """`size` instances of one model, opened together at the first call; `limiter` bounds those of all models."""

    def __init__(self, model: str, open_one: Callable[[], LlamaServer], size: int, limiter: InstanceLimiter) -> None:
        self._model = model
        self._open_one = open_one
        self._limiter = limiter
        self._size = size
        self._places = asyncio.Semaphore(size)
        self._idle: list[LlamaServer] = []
        self._all: list[LlamaServer] = []
        self._opening: asyncio.Future[None] | None = None
        self._running: dict[asyncio.Future[Any], threading.Event] = {}
        self._closed = False
        # Threads of our own: calls of minutes must not use up those that others count on.
        self._threads = ThreadPoolExecutor(size, f"llama-{model}")

    async def run(self, work: Work[T], timeout_s: float) -> tuple[T, float]:
        """Do the work on an instance of its own; the result and the seconds waited for the instance.

        Raises:
            BackendTimeoutError: the work took longer than `timeout_s`. Its instance comes back when it ends.

        """
        begin = time.perf_counter()
        server = await self._lease()
        waited = time.perf_counter() - begin
        stop = threading.Event()
        task = asyncio.get_running_loop().run_in_executor(self._threads, work, server, stop)
        self._running[task] = stop
        task.add_done_callback(lambda done: self._give_back(server, done))
        try:
            return await asyncio.wait_for(asyncio.shield(task), timeout_s), waited
        except TimeoutError as error:
            stop.set()
            raise BackendTimeoutError(f"{self._model} did not answer within {timeout_s:g} s") from error
        except asyncio.CancelledError:
            stop.set()
            raise

    async def any(self) -> LlamaServer:
        """Return an open instance for work that needs no slot."""
        await self._opened()
        return self._all[0]

    async def _lease(self) -> LlamaServer:
        await self._places.acquire()
        try:
            await self._opened()
            await self._limiter.enter()
        except BaseException:
            self._places.release()
            raise
        return self._idle.pop()

    async def _opened(self) -> None:
        if self._closed:
            raise BackendUnavailableError(f"{self._model} is being closed")
        if len(self._all) == self._size:
            return
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._open())
        # Opened to the end even where this caller goes away: others wait for the same.
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        async with self._limiter.alone():
            while len(self._all) < self._size:
                server = await asyncio.get_running_loop().run_in_executor(self._threads, self._open_one)
                self._all.append(server)
                self._idle.append(server)

    def _give_back(self, server: LlamaServer, done: asyncio.Future[Any]) -> None:
        self._running.pop(done, None)
        if not done.cancelled():
            done.exception()
        self._release(server)

    def _release(self, server: LlamaServer) -> None:
        self._idle.append(server)
        self._limiter.leave()
        self._places.release()

    async def close(self) -> None:
        """Take no more calls, let those in flight end at their next token, free the instances."""
        self._closed = True
        running = dict(self._running)
        for stop in running.values():
            stop.set()
        if running:
            await asyncio.wait(running, timeout=CLOSE_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._idle.clear()
        self._all.clear()
