"""The documents port: JSON documents by (kind, key), grouped for scans, written put-if-absent or compare-and-set."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

Body = Mapping[str, Any]
"""A JSON object: str keys; values None, bool, int, float, str, lists and objects of them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document. `version` counts its writes from 1. `group` is what scans filter by, such as a run id."""

    kind: str
    key: str
    group: str
    body: dict[str, Any]
    version: int


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to write."""

    kind: str
    key: str
    body: Body
    group: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """How many documents, and the bytes that their bodies take."""

    count: int
    bytes: int


def with_fields(document: Document, fields: Sequence[str]) -> Document:
    """Return the document with only these top-level fields of its body; fields it does not have are left out."""
    body = document.body
    return replace(document, body={name: body[name] for name in fields if name in body})


class DocumentStore(Protocol):
    """Stores documents durably: a write that returned survives SIGKILL and is seen by every later read.

    Raises StorageUnavailableError while storage cannot be reached (nothing is known about a write then; doing it again
    is right), StorageError when it fails.
    """

    async def put_if_absent(self, document: NewDocument) -> bool:
        """Write unless (kind, key) exists; True when it was written."""

    async def put_many_if_absent(self, documents: Sequence[NewDocument]) -> int:
        """Write those that do not exist, in one exchange; number written."""

    async def put(self, document: NewDocument, expected_version: int | None = None) -> int | None:
        """Write or replace; new version. With `expected_version` (0 = absent) None when another write came first."""

    async def get(self, kind: str, key: str) -> Document | None:
        """Read one document; None when it does not exist."""

    async def get_many(self, kind: str, keys: Sequence[str]) -> dict[str, Document]:
        """Read documents by key; missing keys are left out."""

    def scan(
        self, kind: str, group: str | None = None, after: str = "", fields: Sequence[str] | None = None
    ) -> AsyncIterator[Document]:
        """Documents of a kind (of one group, or of all) with key > `after`, ordered by key.

        With `fields` the bodies hold those top-level fields alone, so that many documents can be read for little.
        """

    async def count(self, kind: str, group: str | None = None) -> int:
        """Return the number of documents of a kind (of one group, or of all)."""

    async def sizes(self, kind: str) -> dict[str, Size]:
        """Return the bytes of a kind's documents by group. For housekeeping: it may read each of them."""

    async def delete(self, documents: Sequence[Document]) -> int:
        """Remove documents that are still of the version in which they were read; number removed."""

    async def ping(self) -> None:
        """Return when the store answers; StorageError when it does not."""

    async def close(self) -> None:
        """Release what the store holds."""
