"""Migration of a kind to the index of its declared version: block writes, copy, switch the alias, keep the old index.

Reads go on all the time. Writes wait: services try them again for as long as a call may take, then say that storage is
not available, and the bus brings the work back. A migration that was stopped anywhere is finished by doing it again.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from elasticsearch import AsyncElasticsearch

from safescale.admin.indices import Indices, KindState, create_index, template
from safescale.core.errors import FailedPreconditionError, SafescaleError, StorageError
from safescale.runtime.documents.elastic_calls import send_bulk
from safescale.runtime.documents.elastic_kinds import Kind, with_light
from safescale.runtime.documents.elastic_scan import Cursor, Search
from safescale.runtime.elastic import ElasticConnection, TryAgainError, can_pass, reason_of

COPIED_BYTES = 8 * 1024 * 1024
"""Bytes of one bulk request of a copy."""

LONG_S = 120.0
"""Deadline of a call that has much to do, in seconds."""

Tell = Callable[[str], None]
"""Takes a sentence about what is done."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did: documents of the old index, and how many of them were not in the new one before."""

    old: str
    new: str
    documents: int
    copied: int


class Migration:
    """Migrates kinds of one Elasticsearch."""

    def __init__(self, connection: ElasticConnection, indices: Indices, replicas: int, tell: Tell) -> None:
        self._connection = connection
        self._indices = indices
        self._replicas = replicas
        self._tell = tell

    async def migrate(self, state: KindState) -> Migrated | None:
        """Bring a kind to its declared version; None when it is there.

        Raises:
            FailedPreconditionError: there is no index to start from, or it is of a newer version.
            StorageUnavailableError: Elasticsearch cannot be reached; do it again.
            StorageError: Elasticsearch refuses, or the copy is not complete.

        """
        kind, old = state.kind, state.current
        naming = self._indices.naming
        new = naming.index(kind)
        if old is None:
            raise FailedPreconditionError(f"there is no {naming.alias(kind)}; `safescale indices apply` creates it")
        if old.version > kind.version:
            raise FailedPreconditionError(f"{old.name} is newer than version {kind.version} of this program")
        if old.name == new:
            return None
        body = template(kind, naming, self._replicas)["template"]
        await self._connection.perform("create_index", lambda client: create_index(client, new, body))
        self._tell(f"writes to {old.name} wait")
        try:
            await self._block(old.name)
            migrated = await self._copy(kind, old.name, new)
            await self._verify(migrated)
        except BaseException:
            # The old index serves on as it was. After a kill it stays blocked until this is done again.
            await self._release(old.name)
            raise
        await self._switch(naming.alias(kind), old.name, new)
        self._tell(f"{naming.alias(kind)} stands on {new}; {old.name} is kept, without writes")
        return migrated

    async def drop_old(self, state: KindState) -> list[str]:
        """Delete the indices of versions older than the one behind the alias; their names.

        Raises:
            StorageError: Elasticsearch refuses.

        """
        current = state.current
        if current is None:
            return []
        old = [index.name for index in state.indices if index.version < current.version]
        for name in old:
            await self._delete(name)
        return old

    async def _delete(self, index: str) -> None:
        await self._connection.perform(
            "delete_index", lambda client: client.options(ignore_status=[404]).indices.delete(index=index)
        )

    async def _block(self, index: str) -> None:
        async def call(client: AsyncElasticsearch) -> None:
            # Returns when every write that was under way has ended.
            answer = await client.options(request_timeout=LONG_S).indices.add_block(index=index, block="write")
            if not answer["shards_acknowledged"]:
                # A block that was there before says nothing about writes under way: it is taken off and set again.
                await self._unblock(index)
                raise TryAgainError(f"writes to {index} could not be blocked everywhere yet")

        await self._connection.perform("block", call)

    async def _release(self, index: str) -> None:
        try:
            await self._unblock(index)
        except SafescaleError:
            # What went wrong before is what the caller has to know.
            self._tell(f"{index} could not be released; writes to it wait until this is done again")

    async def _unblock(self, index: str) -> None:
        settings = {"index.blocks.write": None}
        await self._connection.perform(
            "unblock", lambda client: client.indices.put_settings(index=index, settings=settings)
        )

    async def _copy(self, kind: Kind, old: str, new: str) -> Migrated:
        await self._connection.refresh(old)
        documents = copied = 0
        cursor = Cursor(self._connection, Search(old, kind.page, None, None, {}))
        async with aclosing(cursor.pages()) as pages:
            async for page in pages:
                for part in _parts([_lines(kind, hit) for hit in page]):
                    copied += await self._write(new, part)
                documents += len(page)
                self._tell(f"{documents} documents read from {old}, {copied} written to {new}")
        return Migrated(old, new, documents, copied)

    async def _write(self, new: str, lines: Sequence[bytes]) -> int:
        """Write documents with their versions, those that are there already left alone; number written."""
        left = list(lines)
        written = 0

        async def call(client: AsyncElasticsearch) -> None:
            nonlocal left, written
            results = await send_bulk(client, f"/{new}/_bulk", left, {})
            written += sum(result["status"] in (200, 201) for result in results)
            failed = [i for i, result in enumerate(results) if result["status"] not in (200, 201, 409)]
            for i in failed:
                if not can_pass(results[i]["status"], results[i]["error"]):
                    reason = reason_of(results[i]["error"])
                    raise StorageError(f"Elasticsearch refused a document of {new}: {reason}")
            left = [left[i] for i in failed]
            if left:
                raise TryAgainError(f"{len(left)} documents of {new} were refused for now")

        await self._connection.perform("copy", call)
        return written

    async def _verify(self, migrated: Migrated) -> None:
        await self._connection.refresh(migrated.new)

        async def count(client: AsyncElasticsearch, index: str) -> int:
            return int((await client.options(request_timeout=LONG_S).count(index=index))["count"])

        old = await self._connection.perform("count", lambda client: count(client, migrated.old))
        new = await self._connection.perform("count", lambda client: count(client, migrated.new))
        if not old == migrated.documents <= new:
            raise StorageError(
                f"{migrated.old} has {old} documents, {migrated.documents} were read and {migrated.new} has {new};"
                " the alias was not switched"
            )

    async def _switch(self, alias: str, old: str, new: str) -> None:
        actions = [{"remove": {"index": old, "alias": alias}}, {"add": {"index": new, "alias": alias}}]
        await self._connection.perform("switch_alias", lambda client: client.indices.update_aliases(actions=actions))


def _lines(kind: Kind, hit: Mapping[str, Any]) -> bytes:
    # External versions keep the count of writes, and never put an older state over a newer one.
    head = {"index": {"_id": hit["_id"], "version": hit["_version"], "version_type": "external"}}
    return b"%b\n%b\n" % (orjson.dumps(head), orjson.dumps(with_light(kind, hit["_source"])))


def _parts(lines: Sequence[bytes]) -> list[list[bytes]]:
    parts: list[list[bytes]] = [[]]
    size = 0
    for line in lines:
        if parts[-1] and size + len(line) > COPIED_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(line)
        size += len(line)
    return parts
