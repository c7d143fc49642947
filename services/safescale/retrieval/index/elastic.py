"""Chunk index in Elasticsearch: an index for each corpus, found under its alias when it is complete."""

import asyncio
from collections.abc import AsyncIterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson
from elasticsearch import AsyncElasticsearch
from elasticsearch import NotFoundError as ElasticNotFoundError

from safescale.core.errors import InvalidInputError, NotFoundError, StorageError
from safescale.retrieval.batches import batched
from safescale.retrieval.embed.port import Vectors
from safescale.retrieval.index.elastic_schema import IndexNames, id_of, index_body, is_name_part
from safescale.retrieval.index.fusion import fuse
from safescale.retrieval.index.port import DENSE_DECIMALS, MAX_RANKED, Batch, Chunk, CorpusKey, Ranked, depth_for
from safescale.retrieval.index.words import query_words, words
from safescale.runtime.elastic import ElasticConnection, TryAgainError, can_pass, reason_of

BULK_CHUNKS = 250
BULK_BYTES = 8 * 1024 * 1024
"""Bounds of one bulk request."""

READ_CHUNKS = 200
"""Chunks read at once."""

MERGE_S = 3600.0
"""Deadline of the merge that ends an ingest, in seconds."""

TIE_ROOM = 20
"""Vectors ranked beyond those wanted: near ties at the end are then ordered by chunk id too."""

# Hits bring their chunk's id from its column and nothing else: no stored field is opened.
_IDS_ALONE = {
    "_source": False,
    "stored_fields": "_none_",
    "docvalue_fields": ["chunk_id"],
    "track_total_hits": False,
}


class ElasticIndex:
    """ChunkIndex in Elasticsearch, shared by all replicas. Owns its connection."""

    def __init__(self, connection: ElasticConnection, prefix: str, replicas: int = 0) -> None:
        self._connection = connection
        self._names = IndexNames(prefix)
        self._replicas = replicas

    async def add(self, corpus: CorpusKey, batches: AsyncIterable[Batch]) -> None:
        """Index all chunks of a corpus; those that an earlier add has left are not written again.

        Raises:
            StorageUnavailableError: Elasticsearch cannot be reached.
            StorageError: it refuses a chunk; the message names it.

        """
        if not is_name_part(corpus.corpus_id) or not is_name_part(corpus.content_id):
            raise InvalidInputError(f"corpus {corpus.corpus_id!r} cannot be indexed; expected a lower-case name")
        if await self.has(corpus.corpus_id):
            return
        index = self._names.index(corpus.corpus_id)
        await self._create(index, index_body(corpus, self._replicas))
        async for batch in batches:
            for lines in batched(_bulk_lines(batch), BULK_CHUNKS, BULK_BYTES, lambda pair: len(pair[1])):
                await self._write(index, dict(lines))
        await self._finish(index, corpus)

    async def _create(self, index: str, body: Mapping[str, Any]) -> None:
        async def call(client: AsyncElasticsearch) -> None:
            answer = await client.options(ignore_status=[400]).indices.create(index=index, body=dict(body))
            error = answer.body.get("error")
            # Left by an add that was cut off, or being filled by another replica: the chunks are the same.
            if error and error.get("type") != "resource_already_exists_exception":
                raise StorageError(f"Elasticsearch refused to create {index}: {reason_of(error)}")

        await self._connection.perform("create_index", call)

    async def _write(self, index: str, waiting: dict[str, bytes]) -> None:
        """Write chunks by id that are not there; those refused for now are written again, alone."""

        async def call(client: AsyncElasticsearch) -> None:
            lines: list[Any] = list(waiting.values())
            answer = await client.bulk(index=index, operations=lines, filter_path="items.*.status,items.*.error")
            reason = ""
            for chunk_id, item in zip(list(waiting), answer["items"], strict=True):
                result = item["create"]
                error = result.get("error") or {}
                # 409: it is there already, and of one corpus and id there is one chunk.
                if result["status"] in (200, 201, 409):
                    del waiting[chunk_id]
                elif can_pass(result["status"], error):
                    reason = reason_of(error)
                else:
                    said = f"status {result['status']}, {reason_of(error)}"
                    raise StorageError(f"Elasticsearch refused chunk {chunk_id!r} of {index}: {said}")
            if waiting:
                raise TryAgainError(f"{len(waiting):,} chunks were refused: {reason}")

        await self._connection.perform("index_chunks", call)

    async def _finish(self, index: str, corpus: CorpusKey) -> None:
        """Check that all is there, then let searches find it."""
        await self._connection.refresh(index)

        async def count(client: AsyncElasticsearch) -> int:
            return int((await client.count(index=index))["count"])

        found = await self._connection.perform("count", count)
        if found != corpus.chunk_count:
            raise StorageError(f"{index} holds {found:,} chunks; expected {corpus.chunk_count:,}; delete that index")

        async def merge(client: AsyncElasticsearch) -> None:
            # One segment is read faster, and is one order for equal vectors on every copy of the shard.
            await client.options(request_timeout=MERGE_S).indices.forcemerge(index=index, max_num_segments=1)

        await self._connection.perform("merge", merge)
        await self._connection.refresh(index)
        names = self._names
        current, complete = names.current(corpus.content_id), names.complete(corpus.corpus_id)
        actions: list[Mapping[str, Any]] = [
            {"remove": {"index": names.any_index(), "alias": current, "must_exist": False}},
            {"remove": {"index": names.any_index(corpus.corpus_id), "alias": complete, "must_exist": False}},
            {"add": {"index": index, "alias": current}},
            {"add": {"index": index, "alias": complete}},
        ]

        async def switch(client: AsyncElasticsearch) -> None:
            await client.indices.update_aliases(actions=actions)

        await self._connection.perform("switch_alias", switch)

    async def has(self, corpus_id: str) -> bool:
        """Whether the corpus is indexed, by whatever process."""
        if not is_name_part(corpus_id):
            return False
        index, alias = self._names.index(corpus_id), self._names.complete(corpus_id)

        async def call(client: AsyncElasticsearch) -> bool:
            # Of the version that we know: an older one is built anew beside it.
            return bool(await client.indices.exists_alias(index=index, name=alias))

        return await self._connection.perform("has_corpus", call)

    async def search(self, corpus_id: str, query: str, vector: Vectors, k: int) -> list[Ranked]:
        """Return the best k chunks for a query and its vector: two searches, sent at once.

        Raises:
            NotFoundError: the corpus is not indexed.

        """
        depth = depth_for(k)
        lexical, dense = await asyncio.gather(
            self._lexical(corpus_id, query, depth), self._dense(corpus_id, vector, depth)
        )
        return fuse(lexical, dense)[:k]

    async def _lexical(self, corpus_id: str, query: str, depth: int) -> list[str]:
        looked_for = query_words(query)
        if not looked_for:
            return []
        hits = await self._hits("lexical_search", corpus_id, lexical_body(looked_for, depth))
        return [_chunk_id(hit) for hit in hits]

    async def _dense(self, corpus_id: str, vector: Vectors, depth: int) -> list[str]:
        hits = await self._hits("dense_search", corpus_id, dense_body(vector, depth))
        # The score is (1 + inner product) / 2.
        scored = [(-round(2 * hit["_score"] - 1, DENSE_DECIMALS), _chunk_id(hit)) for hit in hits]
        return [chunk_id for _, chunk_id in sorted(scored)[:depth]]

    async def _hits(self, operation: str, corpus_id: str, body: Mapping[str, Any]) -> list[Any]:
        alias = self._alias(corpus_id)

        async def call(client: AsyncElasticsearch) -> Any:
            try:
                answer = await client.search(
                    index=alias,
                    body=dict(body),
                    allow_partial_search_results=False,
                    filter_path="hits.hits._score,hits.hits.fields",
                )
            except ElasticNotFoundError as error:
                raise _not_indexed(corpus_id) from error
            return answer.body

        found = await self._connection.perform(operation, call)
        return list(found.get("hits", {}).get("hits", []))

    def _alias(self, corpus_id: str) -> str:
        # An id comes from a caller: as a pattern it would search all corpora.
        if not is_name_part(corpus_id):
            raise _not_indexed(corpus_id)
        return self._names.complete(corpus_id)

    async def read(self, corpus_id: str, chunk_ids: Sequence[str]) -> list[Chunk]:
        """Chunks by id.

        Raises:
            NotFoundError: the corpus is not indexed, or has no such chunk.

        """
        alias = self._alias(corpus_id)
        left = iter(chunk_ids)
        found: list[Chunk] = []
        while page := list(islice(left, READ_CHUNKS)):
            found.extend(await self._read_page(alias, corpus_id, page))
        return found

    async def _read_page(self, alias: str, corpus_id: str, chunk_ids: Sequence[str]) -> list[Chunk]:
        body = read_body(chunk_ids)

        async def call(client: AsyncElasticsearch) -> Any:
            answer = await client.mget(index=alias, body=body, filter_path="docs.found,docs._source,docs.error")
            errors = [doc["error"] for doc in answer["docs"] if "error" in doc]
            if errors and all(error.get("type") == "index_not_found_exception" for error in errors):
                raise _not_indexed(corpus_id)
            if errors:
                raise TryAgainError(f"chunks could not be read: {errors[0].get('reason', '')}")
            return answer["docs"]

        docs = await self._connection.perform("read_chunks", call)
        for chunk_id, doc in zip(chunk_ids, docs, strict=True):
            if "_source" not in doc:
                raise NotFoundError(f"corpus {corpus_id!r} has no chunk {chunk_id!r}")
        return [Chunk(**doc["_source"]) for doc in docs]

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


def lexical_body(looked_for: Sequence[str], depth: int) -> dict[str, Any]:
    """Search for words, the best `depth`; equal scores in the order of chunk ids."""
    return {
        "query": {"match": {"words": {"query": " ".join(looked_for)}}},
        "size": depth,
        "sort": [{"_score": "desc"}, {"chunk_id": "asc"}],
        **_IDS_ALONE,
    }


def dense_body(vector: Vectors, depth: int) -> dict[str, Any]:
    """Search for near vectors, the best `depth` and some more."""
    size = min(depth + TIE_ROOM, MAX_RANKED)
    return {
        "knn": {
            "field": "vector",
            "query_vector": np.ascontiguousarray(vector, dtype=np.float32),
            "k": size,
            "num_candidates": size,
        },
        "size": size,
        **_IDS_ALONE,
    }


def read_body(chunk_ids: Sequence[str]) -> dict[str, Any]:
    """Multi-get of chunks."""
    return {"ids": [id_of(chunk_id) for chunk_id in chunk_ids]}


def _bulk_lines(batch: Batch) -> list[tuple[str, bytes]]:
    """Chunk ids with their two lines of a bulk request."""
    lines = []
    for chunk, vector in zip(batch.chunks, batch.vectors, strict=True):
        action = {"create": {"_id": id_of(chunk.chunk_id)}}
        source = {
            "chunk_id": chunk.chunk_id,
            "document_id": chunk.document_id,
            "title": chunk.title,
            "text": chunk.text,
            "token_count": chunk.token_count,
            "words": " ".join(words(chunk.text)),
            "vector": vector,
        }
        written = orjson.dumps(source, option=orjson.OPT_SERIALIZE_NUMPY)
        lines.append((chunk.chunk_id, orjson.dumps(action) + b"\n" + written))
    return lines


def _chunk_id(hit: Mapping[str, Any]) -> str:
    return str(hit["fields"]["chunk_id"][0])


def _not_indexed(corpus_id: str) -> NotFoundError:
    return NotFoundError(f"corpus {corpus_id!r} is not indexed")
