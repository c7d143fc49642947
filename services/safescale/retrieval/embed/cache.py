"""Vectors kept in the document store by content: a text is embedded once by each embedder revision."""

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from weakref import WeakValueDictionary

import numpy as np

from safescale.retrieval.embed.port import Embedder, Vectors
from safescale.runtime.documents.port import DocumentStore, NewDocument

VECTOR = "vector"
BATCH = 32
"""Texts embedded between two writes: what a crash can cost."""


class VectorCache:
    """Embeds texts that the store does not know yet. Passages and queries are apart, whatever the embedder makes of it.

    Raises StorageUnavailableError and StorageError as the store does.
    """

    def __init__(self, documents: DocumentStore, embedder: Embedder) -> None:
        self._documents = documents
        self._embedder = embedder
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages in their order, (n, dimension) float32.

        Raises:
            BackendError: the embedder could not be asked.
            DependencyUnavailableError: its server cannot be reached now.

        """
        await self._embedder.load()
        keys = [self._key(text) for text in texts]
        found = await self._read(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        left = [list(missing)[begin : begin + BATCH] for begin in range(0, len(missing), BATCH)]
        parallel = self._embedder.parallel
        for begin in range(0, len(left), parallel):
            rounds = [self._make(batch, [missing[key] for key in batch]) for batch in left[begin : begin + parallel]]
            for made in await asyncio.gather(*rounds):
                found.update(made)
        rows = np.empty((len(keys), self._embedder.dimension), dtype=np.float32)
        for row, key in enumerate(keys):
            rows[row] = found[key]
        return rows

    async def query(self, text: str) -> Vectors:
        """Vector of a query, (dimension,) float32.

        Raises:
            BackendError: the embedder could not be asked.
            DependencyUnavailableError: its server cannot be reached now.

        """
        await self._embedder.load()
        key = self._key(text, "query\n")
        found = await self._read([key])
        if key in found:
            return found[key]
        # Conditions of one question ask for the same query at the same moment: one embeds it, the others read it.
        lock = self._asking.setdefault(key, asyncio.Lock())
        waited = lock.locked()
        async with lock:
            if waited:
                found = await self._read([key])
            if key not in found:
                found = await self._keep([key], await self._embedder.embed_queries([text]))
        return found[key]

    def _key(self, text: str, kind: str = "") -> str:
        return hashlib.sha256(f"{kind}{self._embedder.revision}\n{text}".encode()).hexdigest()

    async def _read(self, keys: Sequence[str]) -> dict[str, Vectors]:
        stored = await self._documents.get_many(VECTOR, list(dict.fromkeys(keys)))
        return {key: _decode(document.body["float32"]) for key, document in stored.items()}

    async def _make(self, keys: Sequence[str], texts: Sequence[str]) -> dict[str, Vectors]:
        return await self._keep(keys, await self._embedder.embed(texts))

    async def _keep(self, keys: Sequence[str], vectors: Vectors) -> dict[str, Vectors]:
        made = dict(zip(keys, vectors, strict=True))
        written = await self._documents.put_many_if_absent(
            [NewDocument(VECTOR, key, {"float32": _encode(row)}) for key, row in made.items()]
        )
        # Another process was first with some: its digits count, so that conditions of one question agree everywhere.
        return made if written == len(made) else {**made, **await self._read(keys)}


def _encode(vector: Vectors) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _decode(text: str) -> Vectors:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32, copy=False)
