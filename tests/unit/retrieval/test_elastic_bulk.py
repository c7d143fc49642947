"""What is made of the answers to bulk requests, item by item."""

import json

import numpy as np
import pytest

from safescale.core.errors import InvalidInputError, StorageError
from safescale.retrieval.index.elastic import ElasticIndex
from safescale.retrieval.index.elastic_schema import id_of
from safescale.retrieval.index.port import Batch, Chunk, CorpusKey
from safescale.runtime.elastic import TryAgainError

CHUNKS = [Chunk(f"d#{i}", "d", "", f"text {i}", 2) for i in range(4)]
VECTORS = np.tile(np.array([1, 0], dtype=np.float32), (4, 1))
KEY = CorpusKey("c1", "content", "revision", 2, 4)


class Node:
    """Elasticsearch as far as an ingest asks it. `verdicts` are the statuses of items by chunk id, first to last."""

    def __init__(self, verdicts: dict[str, list[int]]) -> None:
        self.verdicts = {id_of(chunk): list(statuses) for chunk, statuses in verdicts.items()}
        self.stored: set[str] = set()
        self.bulks: list[int] = []
        self.switched: list = []
        self.indices = self

    def options(self, **_):
        return self

    async def exists_alias(self, **_):
        return False

    async def create(self, **_):
        return type("Answer", (), {"body": {}})

    async def bulk(self, *, operations, **_):
        items = []
        for lines in operations:
            identifier = json.loads(lines.splitlines()[0])["create"]["_id"]
            statuses = self.verdicts.get(identifier)
            status = statuses.pop(0) if statuses else 201
            if status in (201, 409):
                self.stored.add(identifier)
            item = {"status": status}
            if status not in (201,):
                item["error"] = {"type": "some_exception", "reason": "because"}
            items.append({"create": item})
        self.bulks.append(len(items))
        return {"items": items}

    async def count(self, **_):
        return {"count": len(self.stored)}

    async def forcemerge(self, **_):
        pass

    async def update_aliases(self, *, actions):
        self.switched = actions


class Connection:
    """Makes calls, again when it is told to."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def perform(self, operation, call, budget_s=None):
        for _ in range(5):
            try:
                return await call(self.node)
            except TryAgainError:
                continue
        raise AssertionError("tried too often")

    async def refresh(self, index):
        pass


async def ingest(node: Node, key: CorpusKey = KEY) -> None:
    async def batches():
        yield Batch(CHUNKS, VECTORS)

    await ElasticIndex(Connection(node), "p").add(key, batches())


async def test_items_refused_for_now_are_written_again_alone() -> None:
    node = Node({"d#1": [429, 503], "d#3": [429], "d#2": [409]})
    await ingest(node)
    assert node.bulks == [4, 2, 1]
    assert len(node.stored) == 4
    assert {"add": {"index": "p-chunks-v1-c1", "alias": "p-chunks-c1"}} in node.switched


async def test_an_item_refused_as_such_is_named_and_nothing_is_switched() -> None:
    node = Node({"d#2": [400]})
    with pytest.raises(StorageError, match=r"refused chunk 'd#2' of p-chunks-v1-c1: status 400, because"):
        await ingest(node)
    assert node.bulks == [4]
    assert node.switched == []


async def test_an_index_with_another_number_of_chunks_is_not_taken_for_complete() -> None:
    node = Node({})
    node.stored.add("left by somebody")
    with pytest.raises(StorageError, match="holds 5 chunks; expected 4"):
        await ingest(node)
    assert node.switched == []


async def test_an_id_that_cannot_be_a_name_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected a lower-case name"):
        await ingest(Node({}), CorpusKey("C*", "content", "revision", 2, 4))
