"""One suite over every adapter of the documents port."""

import asyncio
import random

import pytest

from safescale.core.errors import StorageError
from safescale.runtime.documents.port import DocumentStore, NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments


@pytest.fixture(params=["sqlite", pytest.param("elastic", marks=pytest.mark.grid)])
async def documents(request, tmp_path):
    if request.param == "elastic":
        # Here and not above: the part of this suite that needs no server needs no client either.
        from tests.support.elastic_store import elastic_documents

        from safescale.runtime.documents.elastic_kinds import Kind

        url = request.getfixturevalue("elasticsearch_url")
        kinds = (Kind("k", page=100, light=("value", "absent")), Kind("other"))
        async with elastic_documents(url, kinds) as store:
            yield store
        return
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


async def test_every_json_value_comes_back_as_it_was(documents: DocumentStore) -> None:
    body = {
        "null": None, "yes": True, "int": 2**62, "negative": -1, "float": 0.1, "tiny": 5e-324, "text": "\u0000\n\"ä🙂",
        "empty": "", "list": [], "object": {}, "deep": {"a.b": [{"*": [1, [2.5, None]]}], "": 1}, "a.b": 1, "*": 2,
        "": 3,
    }  # fmt: skip
    await documents.put_if_absent(NewDocument("k", "a", body, "g"))
    found = await documents.get("k", "a")
    assert found is not None
    assert found.body == body
    assert [d.body async for d in documents.scan("k")] == [body]
    for name, value in body.items():
        assert [d.body async for d in documents.scan("k", fields=[name])] == [{name: value}]


async def test_scan_reads_the_fields_that_are_asked_for(documents: DocumentStore) -> None:
    for i in range(3):
        extra = {"absent": i} if i == 1 else {}
        await documents.put_if_absent(NewDocument("k", str(i), {"value": i, "text": "t", **extra}, f"g{i % 2}"))

    async def scanned(*fields: str) -> list[dict]:
        return [d.body async for d in documents.scan("k", fields=fields)]

    assert await scanned("value") == [{"value": 0}, {"value": 1}, {"value": 2}]
    assert await scanned("value", "text") == [{"value": i, "text": "t"} for i in range(3)]
    assert await scanned("absent") == [{}, {"absent": 1}, {}]
    assert await scanned("nowhere") == [{}, {}, {}]
    assert await scanned() == [{}, {}, {}]
    found = [(d.key, d.group, d.version) async for d in documents.scan("k", "g0", "0", ["value"])]
    assert found == [("2", "g0", 1)]
    assert [d.group async for d in documents.scan("k", fields=["value"])] == ["g0", "g1", "g0"]


async def test_keys_sort_by_code_point_whatever_they_hold(documents: DocumentStore) -> None:
    keys = [
        "A",
        "a",
        "a b",
        "a/1",
        "a/10",
        "a/2",
        "a\U0010ffff",
        "z",
        "ä",
        "#",
        "#x",
        "\uffee",
        "🙂",
        "k" * 600,
        "k" * 601,
    ]
    shuffled = random.Random(3).sample(keys, len(keys))
    assert await documents.put_many_if_absent([new(key) for key in shuffled]) == len(keys)
    assert [d.key async for d in documents.scan("k")] == sorted(keys)
    assert await documents.put_many_if_absent([new(key) for key in keys]) == 0
    assert set(await documents.get_many("k", keys)) == set(keys)
    assert [d.key async for d in documents.scan("k", after="a/1")] == [key for key in sorted(keys) if key > "a/1"]


async def test_a_write_is_seen_by_every_later_read(documents: DocumentStore) -> None:
    for i in range(5):
        await documents.put(new("a", i))
        await documents.put_if_absent(new(f"b{i}", i))
        found = await documents.get("k", "a")
        assert found is not None
        assert (found.body["value"], found.version) == (i, i + 1)
        assert [d.body["value"] async for d in documents.scan("k", fields=["value"])] == [i, *range(i + 1)]
        assert await documents.count("k") == i + 2


async def test_concurrent_compare_and_set_loses_no_change(documents: DocumentStore) -> None:
    await documents.put_if_absent(new("a", 0))

    async def add_one() -> None:
        while True:
            found = await documents.get("k", "a")
            assert found is not None
            if await documents.put(new("a", found.body["value"] + 1), expected_version=found.version) is not None:
                return

    await asyncio.gather(*(add_one() for _ in range(8)))
    found = await documents.get("k", "a")
    assert found is not None
    assert (found.body["value"], found.version) == (8, 9)


async def test_mixed_concurrent_calls_each_get_their_own_answer(documents: DocumentStore) -> None:
    async def one(i: int) -> None:
        key = f"{i:03d}"
        assert await documents.get("k", key) is None
        assert await documents.put_if_absent(new(key, i))
        found = await documents.get("k", key)
        assert found is not None
        assert found.body["value"] == i
        assert await documents.put(new(key, -i), expected_version=1) == 2

    await asyncio.gather(*(one(i) for i in range(100)))
    assert [d.body["value"] async for d in documents.scan("k", fields=["value"])] == [-i for i in range(100)]


async def test_the_first_of_one_key_twice_in_a_batch_wins(documents: DocumentStore) -> None:
    assert await documents.put_many_if_absent([new("a", 1), new("b", 2), new("a", 3)]) == 2
    found = await documents.get("k", "a")
    assert found is not None
    assert found.body["value"] == 1
    assert await documents.put_many_if_absent([]) == 0
    assert await documents.get_many("k", []) == {}


async def test_sizes_are_told_by_group(documents: DocumentStore) -> None:
    assert await documents.sizes("k") == {}
    await documents.put_many_if_absent([new(str(i), group="even" if i % 2 == 0 else "odd") for i in range(5)])
    await documents.put_if_absent(new("other", kind="other"))
    sizes = await documents.sizes("k")
    assert {group: size.count for group, size in sizes.items()} == {"even": 3, "odd": 2}
    one = sizes["odd"].bytes / 2
    assert sizes["even"].bytes == 3 * one
    assert 20 < one < 60
    await documents.put(NewDocument("k", "1", {"text": "x" * 1000}, "odd"))
    assert (await documents.sizes("k"))["odd"].bytes > 1000


async def test_documents_are_removed_as_they_were_read(documents: DocumentStore) -> None:
    await documents.put_many_if_absent([new(str(i), i) for i in range(250)])
    read = [document async for document in documents.scan("k", fields=["value"])]
    await documents.put(new("7", 700))
    assert await documents.delete(read) == 249
    assert [(document.key, document.body["value"]) async for document in documents.scan("k")] == [("7", 700)]
    assert await documents.delete(read) == 0
    assert await documents.delete([]) == 0
    # What comes back is a new document.
    assert await documents.put_if_absent(new("1", 1))
    found = await documents.get("k", "1")
    assert found is not None
    assert found.body["value"] == 1


async def test_a_scan_may_remove_what_it_read(documents: DocumentStore) -> None:
    await documents.put_many_if_absent([new(f"{i:04d}") for i in range(1203)])
    async for document in documents.scan("k"):
        if int(document.key) % 3:
            assert await documents.delete([document]) == 1
    assert await documents.count("k") == 401


async def test_a_scan_that_is_left_early_harms_nothing(documents: DocumentStore) -> None:
    await documents.put_many_if_absent([new(f"{i:03d}", i) for i in range(250)])
    async for document in documents.scan("k"):
        if document.key == "120":
            break
    assert await documents.count("k") == 250
    await documents.ping()


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
