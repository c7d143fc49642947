"""Writes and reads of documents by id in bulk: what many callers ask at one time goes in one exchange."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from elasticsearch import AsyncElasticsearch

from safescale.core.errors import StorageError, StorageUnavailableError
from safescale.runtime.documents.batcher import BatchBounds, Batcher
from safescale.runtime.documents.elastic_kinds import Kind
from safescale.runtime.elastic import ElasticConnection, TryAgainError, can_pass, hint_of, pause_s, reason_of

WRITE_BOUNDS = BatchBounds(count=1000, weight=4 * 1024 * 1024)
"""Documents and bytes of one bulk request."""

READ_BOUNDS = BatchBounds(count=500, weight=1.0)
"""Documents of one multi-get; a document weighs the part of its kind's page that it is."""

SHARD_WAIT = "10s"
"""How long Elasticsearch waits for a shard that is not there, before it refuses a write."""

PASSING = frozenset(
    {
        "circuit_breaking_exception", "es_rejected_execution_exception", "no_shard_available_action_exception",
        "node_closed_exception", "node_disconnected_exception", "node_not_connected_exception",
        "receive_timeout_transport_exception", "shard_not_found_exception", "illegal_index_shard_state_exception",
        "index_shard_closed_exception", "cluster_block_exception",
    }
)  # fmt: skip
"""Types of errors of one read in a multi-get, which has no status, that can be over soon."""


@dataclass(frozen=True, slots=True)
class Write:
    """A document to write: the lines of a bulk request, and who writes it."""

    kind: Kind
    key: str
    owner: str
    lines: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a write: status 200 or 201, 409 when another was first, 404 where there was nothing to remove.

    `doubtful` says that an earlier try had no answer: a 409 can be that of our own write then.
    """

    status: int
    version: int
    doubtful: bool = False
    error: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Read:
    """A document to read: all of it, or its version alone."""

    kind: Kind
    index: str
    id: str
    key: str
    whole: bool = True


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A stored document. `source` is empty when its version alone was read."""

    version: int
    seq_no: int
    primary_term: int
    source: Mapping[str, Any]


async def send_bulk(
    client: AsyncElasticsearch, path: str, lines: Sequence[bytes], options: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """One bulk request; status, version and error of each item, in order."""
    # The client's own `bulk` is a PUT, which aiohttp sends again by itself when a connection breaks. Nobody would
    # know then that a conflict can be that with our own first try.
    answer = await client.perform_request(
        "POST",
        path,
        params={"timeout": SHARD_WAIT, "filter_path": "items.*.status,items.*._version,items.*.error", **options},
        headers={"accept": "application/json", "content-type": "application/x-ndjson"},
        body=lines,
    )
    return [next(iter(item.values())) for item in answer.body["items"]]


class BulkWriter:
    """Writes documents. Items that are refused for now are written again alone; the others are kept."""

    def __init__(self, connection: ElasticConnection) -> None:
        self._connection = connection
        self._batcher: Batcher[Write, Written] = Batcher(self._exchange, WRITE_BOUNDS, lambda write: len(write.lines))

    async def write(self, writes: Sequence[Write]) -> list[Written]:
        """Write documents; what came of each, in order.

        Raises:
            StorageUnavailableError: some were refused until the budget was used up.
            StorageError: Elasticsearch refused one as such; the message names it.

        """
        results = await self._batcher.submit(writes)
        end = time.monotonic() + self._connection.budget_s
        tries = 0
        while refused := [i for i, result in enumerate(results) if can_pass(result.status, result.error)]:
            tries += 1
            pause = pause_s(tries)
            if time.monotonic() + pause > end:
                raise StorageUnavailableError(_refusal(writes, results, refused))
            await asyncio.sleep(pause)
            again = await self._batcher.submit([writes[i] for i in refused])
            for i, result in zip(refused, again, strict=True):
                results[i] = replace(result, doubtful=True)
        failed = [i for i, result in enumerate(results) if not _done(result)]
        if failed:
            raise StorageError(_refusal(writes, results, failed))
        return results

    async def _exchange(self, writes: Sequence[Write]) -> list[Written]:
        tries = 0

        async def call(client: AsyncElasticsearch) -> list[Mapping[str, Any]]:
            nonlocal tries
            tries += 1
            # Without `require_alias` a missing alias would become an index that Elasticsearch makes up.
            return await send_bulk(client, "/_bulk", [write.lines for write in writes], {"require_alias": "true"})

        items = await self._connection.perform("bulk", call)
        return [Written(i["status"], i.get("_version", 0), tries > 1, i.get("error") or {}) for i in items]

    async def close(self) -> None:
        """End what is under way."""
        await self._batcher.close()


def _done(result: Written) -> bool:
    # What is not there to be removed is no error; an index that is not there is.
    return result.status in (200, 201, 409) or (result.status == 404 and not result.error)


def _refusal(writes: Sequence[Write], results: Sequence[Written], failed: Sequence[int]) -> str:
    write, result = writes[failed[0]], results[failed[0]]
    hint = hint_of(result.error, result.status)
    others = f", and {len(failed) - 1} more," if len(failed) > 1 else ""
    reason = reason_of(result.error)
    return f"Elasticsearch refused {write.kind.name} {write.key!r}{others} with status {result.status}, {reason}{hint}"


class BulkReader:
    """Reads documents by key, as they are now: written or not yet searchable makes no difference."""

    def __init__(self, connection: ElasticConnection) -> None:
        self._connection = connection
        self._batcher: Batcher[Read, StoredDocument | None] = Batcher(
            self._exchange, READ_BOUNDS, lambda read: 1.0 / read.kind.page
        )

    async def read(self, reads: Sequence[Read]) -> list[StoredDocument | None]:
        """Read documents, in order; None for those that do not exist.

        Raises:
            StorageUnavailableError: Elasticsearch cannot be reached.
            StorageError: an index is missing, or Elasticsearch fails.

        """
        return await self._batcher.submit(reads)

    async def _exchange(self, reads: Sequence[Read]) -> list[StoredDocument | None]:
        wanted = [{"_index": read.index, "_id": read.id, "_source": read.whole} for read in reads]

        async def call(client: AsyncElasticsearch) -> list[StoredDocument | None]:
            answer = await client.mget(docs=wanted)
            return [_stored(read, row) for read, row in zip(reads, answer["docs"], strict=True)]

        return await self._connection.perform("mget", call)

    async def close(self) -> None:
        """End what is under way."""
        await self._batcher.close()


def _stored(read: Read, row: Mapping[str, Any]) -> StoredDocument | None:
    error = row.get("error")
    if error:
        message = f"{read.kind.name} {read.key!r} could not be read: {error.get('reason', '')}"
        if error.get("type") in PASSING:
            raise TryAgainError(message)
        raise StorageError(message + hint_of(error))
    if not row["found"]:
        return None
    return StoredDocument(row["_version"], row["_seq_no"], row["_primary_term"], row.get("_source") or {})
