"""Documents in one SQLite file: the embedded default."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiosqlite
import orjson

from safescale.core.errors import StorageError
from safescale.runtime.documents.port import Document, NewDocument, Size, with_fields

SCAN_PAGE = 500
"""Documents read at once by a scan."""

GET_MANY_PAGE = 500
"""Keys of one read of many: below SQLite's bound on parameters."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  kind TEXT NOT NULL, key TEXT NOT NULL, grp TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_by_group ON documents (kind, grp, key);
"""


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"records in {path} could not be read or written: {error}") from error


def _make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)


class SqliteDocuments:
    """DocumentStore in a SQLite file. One connection, whose thread runs the statements in order.

    Writes are durable (WAL, synchronous FULL) when they return.
    """

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self._path = path
        self._db = connection
        self._write = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> "SqliteDocuments":
        """Open or create the file.

        Raises:
            StorageError: the file cannot be opened or is not a database of ours.

        """
        with _storage_errors(path):
            _make_private(path)
            db = await aiosqlite.connect(path, isolation_level=None)
            try:
                await db.execute("PRAGMA journal_mode = WAL")
                await db.execute("PRAGMA synchronous = FULL")
                await db.execute("PRAGMA busy_timeout = 10000")
                await db.executescript(SCHEMA)
            except BaseException:
                await db.close()
                raise
        return cls(path, db)

    async def put_if_absent(self, document: NewDocument) -> bool:
        """Write unless (kind, key) exists; True when it was written."""
        return await self.put_many_if_absent([document]) == 1

    async def put_many_if_absent(self, documents: Sequence[NewDocument]) -> int:
        """Write those that do not exist, in one transaction; number written."""
        rows = [(d.kind, d.key, d.group, orjson.dumps(dict(d.body))) for d in documents]
        # A caller that is cancelled, such as a call that was cut, leaves no transaction open behind it.
        statement = "INSERT INTO documents VALUES (?, ?, ?, 1, ?) ON CONFLICT DO NOTHING"
        return await asyncio.shield(asyncio.ensure_future(self._each(statement, rows)))

    async def _each(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Execute a statement for each row, in one transaction; number of documents that it changed."""
        written = 0
        async with self._write:
            with _storage_errors(self._path):
                await self._db.execute("BEGIN IMMEDIATE")
                try:
                    for row in rows:
                        cursor = await self._db.execute(statement, row)
                        written += cursor.rowcount
                    await self._db.execute("COMMIT")
                except BaseException:
                    # A full disk has rolled back already; a second time would hide the cause.
                    if self._db.in_transaction:
                        await self._db.execute("ROLLBACK")
                    raise
        return written

    async def put(self, document: NewDocument, expected_version: int | None = None) -> int | None:
        """Write or replace; new version. With `expected_version` None when another write came first."""
        key = (document.kind, document.key)
        body = orjson.dumps(dict(document.body))
        if expected_version == 0:
            return 1 if await self.put_if_absent(document) else None
        if expected_version is not None:
            statement = (
                "UPDATE documents SET grp = ?, version = version + 1, body = ?"
                " WHERE kind = ? AND key = ? AND version = ? RETURNING version"
            )
            parameters: tuple[object, ...] = (document.group, body, *key, expected_version)
        else:
            statement = (
                "INSERT INTO documents VALUES (?, ?, ?, 1, ?) ON CONFLICT (kind, key)"
                " DO UPDATE SET grp = excluded.grp, version = version + 1, body = excluded.body RETURNING version"
            )
            parameters = (*key, document.group, body)
        async with self._write:
            with _storage_errors(self._path):
                rows = list(await self._db.execute_fetchall(statement, parameters))
        return int(rows[0][0]) if rows else None

    async def get(self, kind: str, key: str) -> Document | None:
        """Read one document; None when it does not exist."""
        return (await self.get_many(kind, [key])).get(key)

    async def get_many(self, kind: str, keys: Sequence[str]) -> dict[str, Document]:
        """Read documents by key; missing keys are left out."""
        found: dict[str, Document] = {}
        for begin in range(0, len(keys), GET_MANY_PAGE):
            page = list(keys[begin : begin + GET_MANY_PAGE])
            marks = ",".join("?" * len(page))
            statement = f"SELECT key, grp, version, body FROM documents WHERE kind = ? AND key IN ({marks})"  # noqa: S608
            with _storage_errors(self._path):
                rows = await self._db.execute_fetchall(statement, (kind, *page))
            found.update({row[0]: _document(kind, row) for row in rows})
        return found

    async def scan(
        self, kind: str, group: str | None = None, after: str = "", fields: Sequence[str] | None = None
    ) -> AsyncIterator[Document]:
        """Documents of a kind (of one group, or of all) with key > `after`, ordered by key; with these fields alone."""
        where, parameters = ("", ()) if group is None else (" AND grp = ?", (group,))
        statement = (
            f"SELECT key, grp, version, body FROM documents WHERE kind = ?{where}"  # noqa: S608
            f" AND key > ? ORDER BY key LIMIT {SCAN_PAGE}"
        )
        while True:
            with _storage_errors(self._path):
                rows = list(await self._db.execute_fetchall(statement, (kind, *parameters, after)))
            for row in rows:
                document = _document(kind, row)
                yield document if fields is None else with_fields(document, fields)
            if len(rows) < SCAN_PAGE:
                return
            after = rows[-1][0]

    async def count(self, kind: str, group: str | None = None) -> int:
        """Return the number of documents of a kind (of one group, or of all)."""
        with _storage_errors(self._path):
            rows = list(
                await self._db.execute_fetchall(
                    "SELECT count(*) FROM documents WHERE kind = ? AND (? IS NULL OR grp = ?)", (kind, group, group)
                )
            )
        return int(rows[0][0])

    async def sizes(self, kind: str) -> dict[str, Size]:
        """Return the bytes of a kind's documents by group."""
        statement = "SELECT grp, count(*), sum(length(body)) FROM documents WHERE kind = ? GROUP BY grp"
        with _storage_errors(self._path):
            rows = await self._db.execute_fetchall(statement, (kind,))
        return {str(row[0]): Size(int(row[1]), int(row[2])) for row in rows}

    async def delete(self, documents: Sequence[Document]) -> int:
        """Remove documents that are still of the version in which they were read; number removed."""
        rows = [(document.kind, document.key, document.version) for document in documents]
        statement = "DELETE FROM documents WHERE kind = ? AND key = ? AND version = ?"
        return await asyncio.shield(asyncio.ensure_future(self._each(statement, rows)))

    async def ping(self) -> None:
        """Return when the file answers; StorageError when it does not."""
        with _storage_errors(self._path):
            await self._db.execute_fetchall("SELECT 1")

    async def close(self) -> None:
        """Close the file, after the write that is under way."""
        async with self._write:
            await self._db.close()


def _document(kind: str, row: sqlite3.Row | tuple[object, ...]) -> Document:
    key, group, version, body = row
    return Document(kind, str(key), str(group), orjson.loads(body), int(version))  # type: ignore[arg-type]
