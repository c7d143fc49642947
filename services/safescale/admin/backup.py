"""Backups: every record of a store in one gzip file of JSON lines, and back into any store.

The first line names the format, the last one the number of records of each kind and the SHA-256 of all lines before it.
A file without its last line is cut off and is refused as a whole.
"""

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from safescale import __version__
from safescale.core.errors import FailedPreconditionError, InvalidInputError, StorageError
from safescale.runtime.documents.port import Document, DocumentStore, NewDocument

FORMAT = "safescale-backup"
FORMAT_VERSION = 1
"""Raised when an older program could not read what is written."""

KIND_ORDER: tuple[str, ...] = (
    "audit", "gate", "review", "run", "research", "verdict", "generation_cell", "generation", "context", "corpus",
    "corpus_article", "vector", "benchmark",
)  # fmt: skip
"""Order of the kinds in a file. Kinds that refer to others come before them: a record that is written while the
backup is made has all that it refers to in the file."""

MAX_LINE_BYTES = 1024**3
"""SQLite keeps no larger record."""

BATCH_DOCUMENTS = 500
BATCH_BYTES = 4 * 1024 * 1024
LEVEL = 6

Progress = Callable[[str, int], None]
"""Told the kind and the number of its records so far, now and then."""


@dataclass(frozen=True, slots=True)
class Restored:
    """How many records of each kind the file has, and how many of them were written."""

    found: Mapping[str, int]
    written: Mapping[str, int]


class _Writer:
    """Writes lines and counts them."""

    def __init__(self, out: IO[bytes]) -> None:
        # Without a name and a time in it, equal records make equal bytes.
        self._gzip = gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=out, mtime=0)
        self._digest = hashlib.sha256()
        self.counts: Counter[str] = Counter()
        self._line({"format": FORMAT, "version": FORMAT_VERSION, "program": __version__})

    def _line(self, content: Mapping[str, Any]) -> None:
        line = orjson.dumps(content) + b"\n"
        self._digest.update(line)
        self._gzip.write(line)

    def write(self, document: Document) -> None:
        """Write a record. Its version is not kept: it counts the writes of one store."""
        self._line({"kind": document.kind, "key": document.key, "group": document.group, "body": document.body})
        self.counts[document.kind] += 1

    def finish(self) -> None:
        """Write the last line."""
        self._line({"end": dict(self.counts), "sha256": self._digest.hexdigest()})
        self._gzip.close()


async def back_up(store: DocumentStore, out: IO[bytes], progress: Progress) -> Mapping[str, int]:
    """Write every record of the store; number of each kind.

    Raises:
        StorageError: the store or the file cannot be read or written.

    """
    try:
        writer = _Writer(out)
        for kind in KIND_ORDER:
            async with aclosing(_documents(store, kind)) as documents:
                async for document in documents:
                    writer.write(document)
                    if writer.counts[kind] % BATCH_DOCUMENTS == 0:
                        progress(kind, writer.counts[kind])
        writer.finish()
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"the backup cannot be written: {error.strerror or error}") from error
    return dict(writer.counts)


async def _documents(store: DocumentStore, kind: str) -> AsyncGenerator[Document, None]:
    async for document in store.scan(kind):
        yield document


async def restore(store: DocumentStore, path: Path, progress: Progress) -> Restored:
    """Write the records of a backup that the store does not have. Those that it has are left as they are.

    The whole file is checked before the first write.

    Raises:
        InvalidInputError: the file is no backup, is cut off or damaged; nothing was written.
        FailedPreconditionError: a newer program made it; nothing was written.
        StorageError: the store fails. The same call goes on from there.

    """
    for _ in read_backup(path):
        pass
    found: Counter[str] = Counter()
    written: Counter[str] = Counter()
    for batch in _batches(read_backup(path)):
        kind = batch[0].kind
        written[kind] += await store.put_many_if_absent(batch)
        found[kind] += len(batch)
        progress(kind, found[kind])
    return Restored(dict(found), dict(written))


def _batches(documents: Iterator[tuple[NewDocument, int]]) -> Iterator[Sequence[NewDocument]]:
    """Documents of one kind at a time, bounded in number and bytes."""
    batch: list[NewDocument] = []
    total = 0
    for document, size in documents:
        full = len(batch) == BATCH_DOCUMENTS or total + size > BATCH_BYTES
        if batch and (full or batch[0].kind != document.kind):
            yield batch
            batch, total = [], 0
        batch.append(document)
        total += size
    if batch:
        yield batch


def read_backup(path: Path) -> Iterator[tuple[NewDocument, int]]:
    """Yield the records of a file with their bytes. They count only when the iteration ends without an error.

    Raises:
        InvalidInputError: the file cannot be read, is no backup, is cut off or damaged.
        FailedPreconditionError: a newer program made it.

    """
    digest = hashlib.sha256()
    counts: Counter[str] = Counter()
    with _damage(path), gzip.open(path, "rb") as lines:
        header = lines.readline(MAX_LINE_BYTES)
        _check_header(path, _parsed(path, 1, header))
        digest.update(header)
        number = 1
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            content = _parsed(path, number, line)
            if "end" in content:
                _check_end(path, content, counts, digest.hexdigest())
                if lines.read(1):
                    raise InvalidInputError(f"{path}: line {number + 1} comes after the last one; expected the end")
                return
            document = _document(path, number, content)
            digest.update(line)
            counts[document.kind] += 1
            yield document, len(line)
    raise InvalidInputError(f"{path}: ends after line {number} without its last line; expected a whole backup")


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: no such file; expected a backup") from error
    except EOFError as error:
        raise InvalidInputError(f"{path}: is cut off; expected a whole backup") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInputError(f"{path}: is no gzip file, or a damaged one ({error}); expected a backup") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror or error}; expected a readable backup") from error


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"{path}: line {number}: {error}; expected a JSON object") from error
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path}: line {number}: a {type(content).__name__}; expected a JSON object")
    return content


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    version = header.get("version")
    if header.get("format") != FORMAT or type(version) is not int:
        raise InvalidInputError(f"{path}: line 1: is not the begin of a backup; expected a file of `safescale backup`")
    if version != FORMAT_VERSION:
        raise FailedPreconditionError(
            f"{path}: line 1: version {version}, made by safescale {header.get('program')}; this program"
            f" ({__version__}) reads version {FORMAT_VERSION}"
        )


def _check_end(path: Path, content: Mapping[str, Any], counts: Mapping[str, int], digest: str) -> None:
    if content["end"] != dict(counts) or content.get("sha256") != digest:
        raise InvalidInputError(f"{path}: the checksum or the numbers of its last line differ; expected an intact file")


def _document(path: Path, number: int, content: Mapping[str, Any]) -> NewDocument:
    texts = [content.get(name) for name in ("kind", "key", "group")]
    body = content.get("body")
    if not all(isinstance(text, str) for text in texts) or not isinstance(body, dict):
        raise InvalidInputError(f"{path}: line {number}: expected texts kind, key and group, and an object body")
    kind, key, group = map(str, texts)
    if kind not in KIND_ORDER:
        raise InvalidInputError(f"{path}: line {number}: kind = {kind!r}; expected one of {', '.join(KIND_ORDER)}")
    return NewDocument(kind, key, body, group)
