"""How much the generation cache may hold, and which answers go when it holds more: the oldest."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import orjson

from safescale.core.errors import SafescaleError
from safescale.runtime.documents.port import Body, Document, DocumentStore, NewDocument, Size
from safescale.runtime.log import get_logger

KIND = "generation"

LOOK_S = 6 * 3600.0
"""Seconds after which the store is asked again what it holds: other processes store there too."""

LEFT = 0.9
"""Part of the bound that is left, so that the next answers do not start a new trim."""

GRAIN_S = 60.0
"""Seconds that count as one age, so that the ages of any number of answers fit into memory."""

BATCH = 200
"""Answers removed at once."""


@dataclass(frozen=True, slots=True)
class Trim:
    """What is to go: of one model or (empty) all; what is older than so many seconds; the oldest over a bound in bytes.

    With a model alone, all its answers.
    """

    model: str = ""
    older_than_s: float = 0.0
    max_bytes: int | None = None


@dataclass(slots=True)
class Trimmed:
    """Answers that were removed, and the bytes that they took."""

    count: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Cut:
    """Which answers are the oldest: those before an age in grains, and of that age so many bytes."""

    grain: float
    rest: int

    def takes(self, grain: int, size: int) -> bool:
        """Whether an answer is among them."""
        if grain < self.grain:
            return True
        if grain > self.grain or self.rest <= 0:
            return False
        self.rest -= size
        return True


class CacheKeeper:
    """Keeps the stored answers within `max_bytes` (0: no bound), in the background of what stores them."""

    def __init__(self, documents: DocumentStore, max_bytes: int = 0, clock: Callable[[], float] = time.time) -> None:
        self.max_bytes = max_bytes
        self._documents = documents
        self._clock = clock
        self._bytes = math.inf
        self._looked_at = -math.inf
        self._keeping: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self._log = get_logger("inference")

    def document(self, key: str, body: Body, model: str) -> NewDocument:
        """Return an answer as it is stored: with its time, under its model."""
        return NewDocument(KIND, key, {**body, "stored_at": self._clock()}, model)

    def stored(self, size: int) -> None:
        """Note that so many bytes were stored; what is too much goes soon."""
        if not self.max_bytes:
            return
        self._bytes += size
        due = self._bytes > self.max_bytes or self._clock() - self._looked_at > LOOK_S
        if due and (self._keeping is None or self._keeping.done()):
            self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        try:
            self._looked_at = self._clock()
            self._bytes = sum(size.bytes for size in (await self.sizes()).values())
            if self._bytes > self.max_bytes:
                await self.trim(Trim(max_bytes=int(self.max_bytes * LEFT)))
        except SafescaleError as error:
            self._log.warning("generation cache not looked at", reason=error.reason)

    async def sizes(self) -> dict[str, Size]:
        """Return what is stored, by model; under an empty name what version 0.1.0 stored, which named none."""
        return await self._documents.sizes(KIND)

    async def trim(self, wanted: Trim) -> Trimmed:
        """Remove answers. What is stored while this runs stays.

        Raises:
            DependencyUnavailableError: the store cannot be reached.
            StorageError: it fails.

        """
        async with self._one:
            begin = self._clock()
            everything = wanted.max_bytes is None and not wanted.older_than_s
            cut = _Cut(math.inf if everything else -math.inf, 0)
            if wanted.max_bytes is not None:
                cut = await self._oldest(wanted.model, wanted.max_bytes, begin)
            too_old = begin - wanted.older_than_s if wanted.older_than_s else -math.inf
            removed = Trimmed()
            batch: list[tuple[Document, int]] = []
            async for document, grain, size in self._before(wanted.model, begin):
                if cut.takes(grain, size) or _stored_at(document) < too_old:
                    batch.append((replace(document, body={}), size))
                if len(batch) == BATCH:
                    await self._remove(batch, removed)
            await self._remove(batch, removed)
        self._bytes = max(0, self._bytes - removed.bytes)
        self._log.info("generation cache trimmed", count=removed.count)
        return removed

    async def _oldest(self, model: str, max_bytes: int, begin: float) -> _Cut:
        ages: Counter[int] = Counter()
        async for _, grain, size in self._before(model, begin):
            ages[grain] += size
        excess = ages.total() - max_bytes
        for grain in sorted(ages):
            if ages[grain] > excess:
                return _Cut(grain, excess)
            excess -= ages[grain]
        return _Cut(math.inf, 0)

    async def _before(self, model: str, begin: float) -> AsyncIterator[tuple[Document, int, int]]:
        """Answers that were stored before a time, with their age in grains and their bytes."""
        async for document in self._documents.scan(KIND, model or None):
            stored_at = _stored_at(document)
            if stored_at < begin:
                yield document, int(stored_at // GRAIN_S), len(orjson.dumps(document.body))

    async def _remove(self, batch: list[tuple[Document, int]], removed: Trimmed) -> None:
        count = await self._documents.delete([document for document, _ in batch])
        removed.count += count
        # Where another was quicker with some, which is rare, the bytes are the mean.
        removed.bytes += round(sum(size for _, size in batch) * count / len(batch)) if batch else 0
        batch.clear()

    async def close(self) -> None:
        """End what runs in the background."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)


def _stored_at(document: Document) -> float:
    """When an answer was stored, in seconds since the epoch; 0 where version 0.1.0 did it, which kept no time."""
    stored_at = document.body.get("stored_at")
    return float(stored_at) if isinstance(stored_at, int | float) else 0.0
