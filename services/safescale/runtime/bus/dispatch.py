"""Run handlers on the event loop: a bounded number at once, messages of one key in sequence."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

from safescale.runtime.bus.delivery import AbandonedError
from safescale.runtime.bus.partition_tracker import PartitionAssignment, PartitionTracker, Work
from safescale.runtime.log import get_logger


class Dispatcher:
    """Handles the messages that a member took. All methods belong to the event loop's thread."""

    def __init__(
        self, tracker: PartitionTracker, max_in_flight: int, deliver: Callable[[Work], Awaitable[None]]
    ) -> None:
        self._tracker = tracker
        self._max_in_flight = max_in_flight
        self._deliver = deliver
        self._ready: deque[Work] = deque()
        self._behind: dict[str, deque[Work]] = {}
        self._tasks: dict[asyncio.Future[None], PartitionAssignment] = {}
        self._closed = False

    def accept(self, works: Sequence[Work]) -> None:
        """Queue messages in order and start those that can run now."""
        for work in works:
            behind = self._behind.get(work.message.key)
            if behind is None:
                # The key's queue exists from its first message until none of them waits or runs.
                self._behind[work.message.key] = deque()
                self._ready.append(work)
            else:
                behind.append(work)
        self._start()

    def cancel(self, assignments: Collection[PartitionAssignment]) -> None:
        """Stop the handlers of partitions that were given away."""
        for task, assignment in list(self._tasks.items()):
            if assignment in assignments:
                task.cancel()

    async def drain(self, seconds: float) -> None:
        """Start no more handlers, wait for running ones, and cancel those still running after the given seconds."""
        self._closed = True
        if self._tasks:
            _done, late = await asyncio.wait(list(self._tasks), timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _start(self) -> None:
        while self._ready and len(self._tasks) < self._max_in_flight and not self._closed:
            work = self._ready.popleft()
            if not self._tracker.start(work):
                self._release(work.message.key)
                continue
            task = asyncio.ensure_future(self._deliver(work))
            self._tasks[task] = work.assignment
            # Not a finally in the coroutine: a task that is cancelled before its first step never enters it.
            task.add_done_callback(partial(self._ended, work))

    def _ended(self, work: Work, task: asyncio.Future[None]) -> None:
        error = None if task.cancelled() else task.exception()
        self._tasks.pop(task, None)
        self._tracker.end(work, finished=not task.cancelled() and error is None)
        if error is not None and not isinstance(error, AbandonedError):
            get_logger("bus").error("delivery failed", topic=work.message.topic, exception_type=type(error).__name__)
        self._release(work.message.key)
        self._start()

    def _release(self, key: str) -> None:
        behind = self._behind[key]
        if behind:
            self._ready.append(behind.popleft())
        else:
            del self._behind[key]
