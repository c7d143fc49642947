"""Scans: documents in the order of their keys, page by page, out of one snapshot (PIT and search_after)."""

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elasticsearch import AsyncElasticsearch

from safescale.core.errors import SafescaleError
from safescale.runtime.documents.elastic_calls import BulkReader, Read
from safescale.runtime.documents.elastic_kinds import Kind, decode_found, id_of, light_of
from safescale.runtime.documents.port import Document, with_fields
from safescale.runtime.elastic import ElasticConnection, TryAgainError

KEEP_ALIVE = "2m"
"""How long Elasticsearch keeps a snapshot between two pages. A reader that takes longer gets a new one."""

LIGHT_PAGE = 5000
"""Documents of a page of columns."""

PATH = "error,pit_id,hits.hits._id,hits.hits.sort,hits.hits._source,hits.hits._version,hits.hits.fields"

Hits = Sequence[Mapping[str, Any]]


def group_query(group: str | None) -> Mapping[str, Any]:
    """Return the query for the documents of a group, or for all."""
    return {"match_all": {}} if group is None else {"bool": {"filter": [{"term": {"group": group}}]}}


@dataclass(frozen=True, slots=True)
class Search:
    """What a cursor reads: documents of an index with key > `after`, `size` at a time; `wanted` says what of each."""

    index: str
    size: int
    group: str | None
    after: str | None
    wanted: Mapping[str, Any]


class Cursor:
    """Pages of a search, ordered by key, out of one snapshot as long as it lives."""

    def __init__(self, connection: ElasticConnection, search: Search) -> None:
        self._connection = connection
        self._search = search
        self._after = search.after
        self._pit: str | None = None

    async def pages(self) -> AsyncGenerator[Hits, None]:
        """Yield the pages; no page is empty.

        Raises:
            StorageUnavailableError: Elasticsearch cannot be reached.
            StorageError: there is no such index, or Elasticsearch fails.

        """
        last = False
        try:
            while not last:
                hits = await self._connection.perform("scan", self._page)
                last = len(hits) < self._search.size
                if last:
                    # The snapshot is given back before a reader that is slow with the last page.
                    await self._close()
                if hits:
                    yield hits
                    self._after = hits[-1]["sort"][0]
        finally:
            await self._close()

    async def _page(self, client: AsyncElasticsearch) -> Hits:
        search = self._search
        if self._pit is None:
            opened = await client.open_point_in_time(index=search.index, keep_alive=KEEP_ALIVE)
            self._pit = opened["id"]
        answer = await client.options(ignore_status=[404]).search(
            pit={"id": self._pit, "keep_alive": KEEP_ALIVE},
            size=search.size,
            sort=[{"key": "asc"}],
            search_after=None if self._after is None else [self._after],
            query=group_query(search.group),
            track_total_hits=False,
            allow_partial_search_results=False,
            version=True,
            filter_path=PATH,
            **search.wanted,
        )
        if answer.meta.status == 404:
            # Its node went, or the reader took too long. A new snapshot goes on behind the last key.
            self._pit = None
            raise TryAgainError(f"the snapshot of {search.index} was lost")
        self._pit = answer.get("pit_id", self._pit)
        hits: Hits = answer.get("hits", {}).get("hits", [])
        return hits

    async def _close(self) -> None:
        pit, self._pit = self._pit, None
        if pit is None:
            return
        with contextlib.suppress(SafescaleError):
            # Elasticsearch drops it by itself after a while; it is given back to spare its memory.
            await self._connection.perform("close_scan", lambda client: client.close_point_in_time(id=pit), 0.0)


@dataclass(frozen=True, slots=True)
class Scan:
    """What is read: documents of a kind, of one group or of all, with key > `after`, with some fields or all."""

    kind: Kind
    index: str
    group: str | None
    after: str
    fields: Sequence[str] | None

    @property
    def light(self) -> bool:
        """Whether the column of light fields holds all that is wanted."""
        return self.fields is not None and bool(self.kind.light) and set(self.fields) <= set(self.kind.light)

    def _wanted(self) -> dict[str, Any]:
        fields = self.fields
        if self.light:
            columns = ["light"] if self.group is not None else ["light", "group"]
            return {"source": False, "docvalue_fields": columns, "stored_fields": "_none_"}
        # A name with a dot or a star would be read as a path or a pattern: then all is read and cut here.
        if fields is not None and not any("." in name or "*" in name for name in fields):
            return {"source": {"includes": ["key", "group", *(f"body.{name}" for name in fields)]}}
        return {}

    async def pages(self, connection: ElasticConnection, reader: BulkReader) -> AsyncGenerator[list[Document], None]:
        """Documents by key, page by page. What was searchable when this began is in it."""
        size = LIGHT_PAGE if self.light else self.kind.page
        cursor = Cursor(connection, Search(self.index, size, self.group, self.after, self._wanted()))
        async with contextlib.aclosing(cursor.pages()) as pages:
            async for hits in pages:
                if self.light:
                    yield await self._lights(reader, hits)
                else:
                    yield [self._whole(hit["_source"], hit["_version"]) for hit in hits]

    def _whole(self, source: Mapping[str, Any], version: int) -> Document:
        document = decode_found(self.kind, source, version)
        return document if self.fields is None else with_fields(document, self.fields)

    async def _lights(self, reader: BulkReader, hits: Hits) -> list[Document]:
        lights = [light_of(self.kind, hit) for hit in hits]
        # What another version of the program wrote has no such column, or another: it is opened.
        missing = [hit["sort"][0] for hit, light in zip(hits, lights, strict=True) if light is None]
        found = await reader.read([Read(self.kind, self.index, id_of(key), key) for key in missing])
        opened = {row.source["key"]: self._whole(row.source, row.version) for row in found if row is not None}
        wanted, group = self.fields or (), self.group
        documents = []
        for hit, light in zip(hits, lights, strict=True):
            key = hit["sort"][0]
            if light is None:
                documents.append(opened[key])
                continue
            body = {name: light[name] for name in wanted if name in light}
            of_group = hit["fields"]["group"][0] if group is None else group
            documents.append(Document(self.kind.name, key, of_group, body, hit["_version"]))
        return documents
