"""Vectors kept in the document store by content: a text is embedded once by each embedder revision."""

import asyncio
import base64
import hashlib
from collections.abc import Sequence

import numpy as np

from safescale.retrieval.embed.port import Embedder, Vectors
from safescale.runtime.documents.port import DocumentStore, NewDocument

VECTOR = "vector"
BATCH = 32
"""Texts embedded between two writes: what a crash can cost."""


class VectorCache:
    """Embeds texts that the store does not know yet."""

    def __init__(self, documents: DocumentStore, embedder: Embedder) -> None:
        self._documents = documents
        self._embedder = embedder
        self._lock = asyncio.Lock()

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts in their order, (n, dimension) float32.

        Raises:
            BackendUnavailableError: the embedder cannot be had.
            StorageError: the store failed.

        """
        await self._embedder.load()
        keys = [self._key(text) for text in texts]
        found = await self._read(keys)
        if len(found) < len(set(keys)):
            # One at a time: conditions of one question ask for the same query at the same moment.
            async with self._lock:
                found.update(await self._read([key for key in keys if key not in found]))
                await self._make(dict(zip(keys, texts, strict=True)), found)
        rows = np.empty((len(keys), self._embedder.dimension), dtype=np.float32)
        for row, key in enumerate(keys):
            rows[row] = found[key]
        return rows

    def _key(self, text: str) -> str:
        return hashlib.sha256(f"{self._embedder.revision}\n{text}".encode()).hexdigest()

    async def _read(self, keys: Sequence[str]) -> dict[str, Vectors]:
        stored = await self._documents.get_many(VECTOR, list(dict.fromkeys(keys)))
        return {key: _decode(document.body["float32"]) for key, document in stored.items()}

    async def _make(self, texts: dict[str, str], found: dict[str, Vectors]) -> None:
        missing = [key for key in texts if key not in found]
        for begin in range(0, len(missing), BATCH):
            batch = missing[begin : begin + BATCH]
            made = await self._embedder.embed([texts[key] for key in batch])
            await self._documents.put_many_if_absent(
                [NewDocument(VECTOR, key, {"float32": _encode(row)}) for key, row in zip(batch, made, strict=True)]
            )
            found.update(zip(batch, made, strict=True))


def _encode(vector: Vectors) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _decode(text: str) -> Vectors:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32, copy=False)
