"""Documents in Elasticsearch: one index for each kind, read and written through its alias."""

import itertools
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import orjson
from elasticsearch import AsyncElasticsearch

from safescale.core.errors import StorageError, StorageUnavailableError
from safescale.runtime.documents.batcher import BatchBounds, Batcher
from safescale.runtime.documents.elastic_calls import BulkReader, BulkWriter, Read, Write
from safescale.runtime.documents.elastic_kinds import KINDS, Kind, Naming, check_key, decode_found, encode, id_of
from safescale.runtime.documents.elastic_scan import Scan, group_query
from safescale.runtime.documents.port import Document, NewDocument, Size
from safescale.runtime.elastic import APPLY_HINT, PING_S, ElasticConnection

SWAP_TRIES = 5
REFRESH_BOUNDS = BatchBounds(count=1000, weight=1.0)


@dataclass(frozen=True, slots=True)
class _Condition:
    """The state of a document that a replacement needs."""

    seq_no: int
    primary_term: int


class ElasticDocuments:
    """DocumentStore in Elasticsearch.

    Writes are durable when they return (the translog is on disk) and reads by key see them at once. Searches see them
    after a refresh, so `scan` and `count` refresh first. What callers ask at one time goes in one exchange.
    """

    def __init__(self, connection: ElasticConnection, prefix: str, kinds: Sequence[Kind] = KINDS) -> None:
        """Take over the connection, which `close` closes. Names of indices begin with `prefix`."""
        self._connection = connection
        self._naming = Naming(prefix)
        self._kinds = {kind.name: kind for kind in kinds}
        self._writer = BulkWriter(connection)
        self._reader = BulkReader(connection)
        self._refreshes: Batcher[str, None] = Batcher(self._refresh, REFRESH_BOUNDS)
        self._owner = secrets.token_hex(6)
        self._writes = itertools.count()

    def _kind(self, name: str) -> Kind:
        kind = self._kinds.get(name)
        if kind is None:
            # An error of the program: a service stores what nobody declared.
            raise ValueError(f"kind {name!r} is not declared in elastic_kinds.KINDS; add a row")
        return kind

    async def put_if_absent(self, document: NewDocument) -> bool:
        """Write unless (kind, key) exists; True when it was written."""
        return (await self._create([document]))[0]

    async def put_many_if_absent(self, documents: Sequence[NewDocument]) -> int:
        """Write those that do not exist, in exchanges of bounded size; number written. It is no transaction."""
        return sum(await self._create(documents))

    async def put(self, document: NewDocument, expected_version: int | None = None) -> int | None:
        """Write or replace; new version. With `expected_version` (0 = absent) None when another write came first."""
        if expected_version is None:
            return (await self._writer.write([self._write("index", document, self._new_owner())]))[0].version
        if expected_version == 0:
            return 1 if await self.put_if_absent(document) else None
        return await self._swap(document, expected_version)

    async def _swap(self, document: NewDocument, expected_version: int) -> int | None:
        """Replace what has the expected version; None when it has another."""
        owner = self._new_owner()
        doubtful = False
        for tries in range(SWAP_TRIES):
            stored = (await self._reader.read([self._read(document.kind, document.key, whole=tries > 0)]))[0]
            if stored is None:
                return None
            if doubtful and stored.source["by"] == owner:
                # An earlier try did it, and its answer was lost.
                return stored.version
            if stored.version != expected_version:
                return None
            condition = _Condition(stored.seq_no, stored.primary_term)
            result = (await self._writer.write([self._write("index", document, owner, condition)]))[0]
            if result.status != 409:
                return result.version
            # Another write was first, or the index was migrated at this moment and counts anew: look again.
            doubtful = doubtful or result.doubtful
        raise StorageUnavailableError(f"{document.kind} {document.key!r} could not be replaced in {SWAP_TRIES} tries")

    async def get(self, kind: str, key: str) -> Document | None:
        """Read one document; None when it does not exist."""
        return (await self.get_many(kind, [key])).get(key)

    async def get_many(self, kind: str, keys: Sequence[str]) -> dict[str, Document]:
        """Read documents by key; missing keys are left out."""
        reads = [self._read(kind, key) for key in dict.fromkeys(keys)]
        found = await self._reader.read(reads)
        documents: dict[str, Document] = {}
        for read, row in zip(reads, found, strict=True):
            if row is not None:
                check_key(read.kind, read.key, row.source)
                documents[read.key] = decode_found(read.kind, row.source, row.version)
        return documents

    async def scan(
        self, kind: str, group: str | None = None, after: str = "", fields: Sequence[str] | None = None
    ) -> AsyncIterator[Document]:
        """Documents of a kind (of one group, or of all) with key > `after`, ordered by key; with these fields alone.

        Fields that the kind declares as light are read from columns, for a small part of the time.
        """
        declared = self._kind(kind)
        index = self._naming.alias(declared)
        await self._refreshes.submit([index])
        scan = Scan(declared, index, group, after, fields)
        async with aclosing(scan.pages(self._connection, self._reader)) as pages:
            async for page in pages:
                for document in page:
                    yield document

    async def count(self, kind: str, group: str | None = None) -> int:
        """Return the number of documents of a kind (of one group, or of all)."""
        index = self._naming.alias(self._kind(kind))
        await self._refreshes.submit([index])

        async def call(client: AsyncElasticsearch) -> int:
            return int((await client.count(index=index, query=group_query(group)))["count"])

        return await self._connection.perform("count", call)

    async def sizes(self, kind: str) -> dict[str, Size]:
        """Return the bytes of a kind's documents by group. Each document is read: no field of an index has its size."""
        found: dict[str, Size] = {}
        async for document in self.scan(kind):
            before = found.get(document.group, Size(0, 0))
            found[document.group] = Size(before.count + 1, before.bytes + len(orjson.dumps(document.body)))
        return found

    async def delete(self, documents: Sequence[Document]) -> int:
        """Remove documents that are still of the version in which they were read; number removed."""
        found = await self._reader.read([self._read(one.kind, one.key, whole=False) for one in documents])
        writes = [
            self._removal(document, _Condition(stored.seq_no, stored.primary_term))
            for document, stored in zip(documents, found, strict=True)
            if stored is not None and stored.version == document.version
        ]
        return sum(result.status == 200 for result in await self._writer.write(writes))

    async def ping(self) -> None:
        """Return when Elasticsearch answers and has our indices, after one try."""
        wanted = {self._naming.alias(kind): self._naming.index(kind) for kind in self._kinds.values()}

        async def call(client: AsyncElasticsearch) -> dict[str, str]:
            quick = client.options(request_timeout=PING_S, ignore_status=[404])
            answer = await quick.indices.get_alias(name=list(wanted))
            return {
                alias: index
                for index, entry in answer.body.items()
                if isinstance(entry, dict)
                for alias in entry["aliases"]
            }

        found = await self._connection.perform("ping", call, budget_s=0.0)
        missing = sorted(wanted.keys() - found.keys())
        if missing:
            names = ", ".join(missing)
            raise StorageError(f"Elasticsearch has no alias {names} that the API key may see; {APPLY_HINT}")
        old = sorted(found[alias] for alias, index in wanted.items() if found[alias] != index)
        if old:
            raise StorageError(
                f"{', '.join(old)} is not of the version of this program; `safescale indices diff` shows what to do"
            )

    async def close(self) -> None:
        """End what is under way and close the connection."""
        await self._writer.close()
        await self._reader.close()
        await self._refreshes.close()
        await self._connection.close()

    async def _refresh(self, indices: Sequence[str]) -> Sequence[None]:
        # A refresh that is under way may have begun before our last write: the next one serves all who came meanwhile.
        await self._connection.refresh(",".join(dict.fromkeys(indices)))
        return [None] * len(indices)

    def _read(self, kind: str, key: str, whole: bool = True) -> Read:
        declared = self._kind(kind)
        return Read(declared, self._naming.alias(declared), id_of(key), key, whole)

    def _new_owner(self) -> str:
        return f"{self._owner}-{next(self._writes):x}"

    def _write(self, action: str, document: NewDocument, owner: str, condition: _Condition | None = None) -> Write:
        kind = self._kind(document.kind)
        head: dict[str, object] = {"_index": self._naming.alias(kind), "_id": id_of(document.key)}
        if condition is not None:
            head.update(if_seq_no=condition.seq_no, if_primary_term=condition.primary_term)
        lines = b"%b\n%b\n" % (orjson.dumps({action: head}), encode(kind, document, owner))
        return Write(kind, document.key, owner, lines)

    def _removal(self, document: Document, condition: _Condition) -> Write:
        kind = self._kind(document.kind)
        head = {
            "_index": self._naming.alias(kind),
            "_id": id_of(document.key),
            "if_seq_no": condition.seq_no,
            "if_primary_term": condition.primary_term,
        }
        return Write(kind, document.key, self._new_owner(), orjson.dumps({"delete": head}) + b"\n")

    async def _create(self, documents: Sequence[NewDocument]) -> list[bool]:
        writes = [self._write("create", document, self._new_owner()) for document in documents]
        results = await self._writer.write(writes)
        created = [result.status == 201 for result in results]
        for i, (write, result) in enumerate(zip(writes, results, strict=True)):
            if not created[i] and result.doubtful:
                created[i] = await self._is_ours(write)
        return created

    async def _is_ours(self, write: Write) -> bool:
        """Whether what is stored is what an earlier try of this write stored, whose answer was lost."""
        found = (await self._reader.read([self._read(write.kind.name, write.key)]))[0]
        return found is not None and found.source["by"] == write.owner
