"""Batches of answers from whatever the caller has: a list, a generator that takes its time, or an async generator."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence

from safescale.client import wire
from safescale.client.types import Answer
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

Answers = Iterable[Answer] | AsyncIterable[Answer]


class Batches:
    """Gives batches as messages, one after the other. A slow source keeps nothing else of the event loop waiting."""

    def __init__(self, answers: Answers, size: int) -> None:
        self._size = size
        self._number = 0
        self._ended = False
        self._pending: asyncio.Task[pb.ScoreAnswersRequest | None] | None = None
        self._many: AsyncIterator[Answer] | None = None
        self._one: Iterator[Answer] | None = None
        # A list gives at once; anything else may wait for a file or a network, and is read in a thread.
        self._quick = isinstance(answers, Sequence)
        if isinstance(answers, AsyncIterable):
            self._many = aiter(answers)
        else:
            self._one = iter(answers)

    def next(self) -> "asyncio.Task[pb.ScoreAnswersRequest | None]":
        """Return the next batch or None: the same task until `taken`, so that none is lost with a connection."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._read())
        return self._pending

    def taken(self) -> None:
        """Note that the batch of the last task is in good hands."""
        self._pending = None

    async def _read(self) -> pb.ScoreAnswersRequest | None:
        chunk = [] if self._ended else await self._chunk()
        self._ended = len(chunk) < self._size
        if not chunk:
            return None
        self._number += 1
        return wire.batch(str(self._number), chunk)

    async def _chunk(self) -> list[Answer]:
        if self._many is not None:
            found: list[Answer] = []
            async for answer in self._many:
                found.append(answer)
                if len(found) == self._size:
                    break
            return found
        return self._taken_now() if self._quick else await asyncio.to_thread(self._taken_now)

    def _taken_now(self) -> list[Answer]:
        return [answer for _, answer in zip(range(self._size), self._one or (), strict=False)]

    async def close(self) -> None:
        """Stop reading; a thread that is in the middle of the source ends with its next answer."""
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.gather(self._pending, return_exceptions=True)
        close = getattr(self._many, "aclose", None)
        if close is not None:
            await close()
