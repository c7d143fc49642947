"""One suite over every adapter of the documents port."""

import asyncio

import pytest

from safescale.core.errors import StorageError
from safescale.runtime.documents.port import DocumentStore, NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments


@pytest.fixture
async def documents(tmp_path):
    store = await SqliteDocuments.open(tmp_path / "records.db")
    yield store
    await store.close()


def new(key: str, value: int = 0, group: str = "g", kind: str = "k") -> NewDocument:
    return NewDocument(kind, key, {"value": value, "text": "ä🙂"}, group)


async def test_put_if_absent_keeps_the_first(documents: DocumentStore) -> None:
    assert await documents.put_if_absent(new("a", 1))
    assert not await documents.put_if_absent(new("a", 2))
    found = await documents.get("k", "a")
    assert found is not None
    assert (found.body, found.version, found.group) == ({"value": 1, "text": "ä🙂"}, 1, "g")


async def test_concurrent_put_if_absent_has_one_winner(documents: DocumentStore) -> None:
    won = await asyncio.gather(*(documents.put_if_absent(new("a", i)) for i in range(20)))
    assert sum(won) == 1
    found = await documents.get("k", "a")
    assert found is not None
    assert found.body["value"] == won.index(True)


async def test_put_many_counts_the_new_ones(documents: DocumentStore) -> None:
    await documents.put_if_absent(new("b"))
    assert await documents.put_many_if_absent([new(key) for key in "abc"]) == 2
    assert await documents.count("k") == 3


async def test_compare_and_set(documents: DocumentStore) -> None:
    assert await documents.put(new("a", 1), expected_version=0) == 1
    assert await documents.put(new("a", 2), expected_version=0) is None
    assert await documents.put(new("a", 2), expected_version=1) == 2
    assert await documents.put(new("a", 3), expected_version=1) is None
    assert await documents.put(new("a", 4)) == 3
    assert await documents.put(new("absent"), expected_version=3) is None
    found = await documents.get("k", "a")
    assert found is not None
    assert found.body["value"] == 4


async def test_scan_is_ordered_complete_and_grouped(documents: DocumentStore) -> None:
    keys = [f"{i:04d}" for i in range(1203)]
    await documents.put_many_if_absent([new(key, group="even" if int(key) % 2 == 0 else "odd") for key in keys])
    await documents.put_if_absent(new("other", kind="other"))
    assert [d.key async for d in documents.scan("k")] == keys
    assert [d.key async for d in documents.scan("k", "odd")] == keys[1::2]
    assert [d.key async for d in documents.scan("k", after="1200")] == ["1201", "1202"]
    assert await documents.count("k", "even") == 602


async def test_get_many_leaves_out_what_is_missing(documents: DocumentStore) -> None:
    await documents.put_many_if_absent([new(str(i), i) for i in range(1100)])
    found = await documents.get_many("k", [str(i) for i in range(0, 2200, 2)])
    assert len(found) == 550
    assert found["1098"].body["value"] == 1098


async def test_a_file_that_is_no_database_is_a_storage_error(tmp_path) -> None:
    path = tmp_path / "records.db"
    path.write_bytes(b"not a database at all, but long enough to have a header" * 40)
    with pytest.raises(StorageError, match=r"records\.db"):
        await SqliteDocuments.open(path)


async def test_records_survive_reopening(tmp_path) -> None:
    store = await SqliteDocuments.open(tmp_path / "records.db")
    await store.put_if_absent(new("a", 7))
    await store.close()
    again = await SqliteDocuments.open(tmp_path / "records.db")
    found = await again.get("k", "a")
    await again.close()
    assert found is not None
    assert found.body["value"] == 7
