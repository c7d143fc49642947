"""Backups are whole or refused, and bring back what was there."""

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safescale.admin.backup import (
    BATCH_DOCUMENTS,
    FORMAT_VERSION,
    KIND_ORDER,
    back_up,
    read_backup,
    restore,
)
from safescale.core.errors import FailedPreconditionError, InvalidInputError, StorageError
from safescale.runtime.documents.elastic_kinds import KINDS
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments

RECORDS = [
    NewDocument("run", "r1", {"state": "completed", "seed": 2**53, "share": 0.1}, "run"),
    NewDocument("verdict", "r1/m/c/q1/0", {"letter": "A", "none": None}, "r1"),
    NewDocument("verdict", "r1/m/c/q2/0", {"text": "ä🙂\n\u2028", "nested": {"list": [1, 2.5, True]}}, "r1"),
    NewDocument("vector", "v", {"float32": "AAAA"}),
]


def quiet(kind: str, number: int) -> None:
    pass


@pytest.fixture
async def open_store(tmp_path: Path):
    opened = []

    async def make(name: str, records=()) -> SqliteDocuments:
        store = await SqliteDocuments.open(tmp_path / f"{name}.db")
        opened.append(store)
        await store.put_many_if_absent(records)
        return store

    yield make
    for store in opened:
        await store.close()


async def content(store: SqliteDocuments) -> set[tuple[str, str, str, str]]:
    return {
        (d.kind, d.key, d.group, json.dumps(d.body, sort_keys=True))
        for kind in KIND_ORDER
        async for d in store.scan(kind)
    }


async def written(store: SqliteDocuments, path: Path) -> Path:
    with path.open("wb") as out:
        await back_up(store, out, quiet)
    return path


def lines_of(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines(keepends=True)


def changed(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(gzip.compress(b"".join(lines)))
    return path


def test_every_kind_that_is_stored_is_backed_up() -> None:
    assert sorted(KIND_ORDER) == sorted(kind.name for kind in KINDS)


async def test_what_was_there_is_there_again(open_store, tmp_path: Path) -> None:
    source, target = await open_store("source", RECORDS), await open_store("target")
    path = await written(source, tmp_path / "b.jsonl.gz")
    restored = await restore(target, path, quiet)
    assert restored.found == restored.written == {"run": 1, "verdict": 2, "vector": 1}
    assert await content(target) == await content(source)
    assert len(await content(target)) == len(RECORDS)


async def test_what_is_there_already_stays_and_is_counted(open_store, tmp_path: Path) -> None:
    path = await written(await open_store("source", RECORDS), tmp_path / "b.jsonl.gz")
    target = await open_store("target", [NewDocument("run", "r1", {"state": "later"}, "run")])
    restored = await restore(target, path, quiet)
    assert restored.found["run"] == 1
    assert restored.written["run"] == 0
    assert restored.written["verdict"] == 2
    kept = await target.get("run", "r1")
    assert kept is not None
    assert kept.body == {"state": "later"}
    again = await restore(target, path, quiet)
    assert sum(again.written.values()) == 0


async def test_more_records_than_a_batch_are_told_and_restored(open_store, tmp_path: Path) -> None:
    number = 2 * BATCH_DOCUMENTS + 1
    records = [NewDocument("generation", f"{i:06}", {"i": i}) for i in range(number)]
    path = await written(await open_store("source", records), tmp_path / "b.jsonl.gz")
    told: list[tuple[str, int]] = []
    target = await open_store("target")
    await restore(target, path, lambda kind, count: told.append((kind, count)))
    assert told[-1] == ("generation", number)
    assert len(told) > 1
    assert await target.count("generation") == number


async def test_equal_records_make_equal_bytes(open_store, tmp_path: Path) -> None:
    one = await written(await open_store("one", RECORDS), tmp_path / "one.gz")
    two = await written(await open_store("two", RECORDS[::-1]), tmp_path / "two.gz")
    assert one.read_bytes() == two.read_bytes()


async def test_an_empty_store_makes_a_backup(open_store, tmp_path: Path) -> None:
    path = await written(await open_store("source"), tmp_path / "b.gz")
    assert list(read_backup(path)) == []


@pytest.fixture
async def whole(open_store, tmp_path: Path) -> Path:
    return await written(await open_store("source", RECORDS), tmp_path / "whole.jsonl.gz")


async def refused(open_store, path: Path, words: str, error: type[Exception] = InvalidInputError) -> None:
    target = await open_store("refused")
    with pytest.raises(error, match=words) as caught:
        await restore(target, path, quiet)
    assert str(path) in str(caught.value)
    assert await content(target) == set()


def test_a_file_cut_off_anywhere_is_refused(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    cut = tmp_path / "cut.gz"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with pytest.raises(InvalidInputError, match="expected"):
            list(read_backup(cut))


async def test_nothing_is_written_from_a_file_without_its_end(open_store, whole: Path, tmp_path: Path) -> None:
    await refused(open_store, changed(tmp_path / "cut.gz", lines_of(whole)[:-1]), "without its last line")


async def test_lines_that_are_missing_are_noticed(open_store, whole: Path, tmp_path: Path) -> None:
    lines = lines_of(whole)
    for left_out in range(len(lines)):
        await refused(
            open_store, changed(tmp_path / "less.gz", lines[:left_out] + lines[left_out + 1 :]), "line|checksum"
        )


async def test_a_changed_record_is_noticed(open_store, whole: Path, tmp_path: Path) -> None:
    lines = lines_of(whole)
    lines[1] = lines[1].replace(b"completed", b"cancelled")
    await refused(open_store, changed(tmp_path / "changed.gz", lines), "checksum")


async def test_lines_after_the_last_are_refused(open_store, whole: Path, tmp_path: Path) -> None:
    lines = lines_of(whole)
    await refused(open_store, changed(tmp_path / "more.gz", [*lines, lines[1]]), f"line {len(lines) + 1}")


async def test_a_newer_version_is_refused_and_named(open_store, whole: Path, tmp_path: Path) -> None:
    lines = lines_of(whole)
    header = {**json.loads(lines[0]), "version": FORMAT_VERSION + 1, "program": "9.0.0"}
    newer = changed(tmp_path / "newer.gz", [json.dumps(header).encode() + b"\n", *lines[1:]])
    await refused(open_store, newer, f"version {FORMAT_VERSION + 1}, made by safescale 9.0.0", FailedPreconditionError)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            b'{"kind": "secret", "key": "k", "group": "", "body": {}}\n',
            "line 2: kind = 'secret'; expected one of audit",
        ),
        (b'{"kind": "run", "key": 1, "group": "", "body": {}}\n', "line 2: expected texts"),
        (b'{"kind": "run", "key": "k", "group": "", "body": []}\n', "line 2: expected texts"),
        (b"[1]\n", "line 2: a list; expected a JSON object"),
        (b"{\n", "line 2: .*expected a JSON object"),
    ],
)
async def test_lines_that_are_no_records_are_named(
    open_store, whole: Path, tmp_path: Path, line: bytes, words: str
) -> None:
    lines = lines_of(whole)
    await refused(open_store, changed(tmp_path / "bad.gz", [lines[0], line, *lines[1:]]), words)


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b'{"format": "other", "version": 1}\n', mtime=0)],
    ids=["empty", "no gzip", "other format"],
)
async def test_what_is_no_backup_is_refused(open_store, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.gz"
    path.write_bytes(data)
    await refused(open_store, path, "expected")


async def test_a_missing_file_and_a_folder_are_named(open_store, tmp_path: Path) -> None:
    await refused(open_store, tmp_path / "missing", "no such file")
    await refused(open_store, tmp_path, "expected a readable backup")


async def test_a_full_disk_is_an_error_of_storage(open_store) -> None:
    class Full(io.BytesIO):
        def write(self, data) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left on device"):
        await back_up(await open_store("source", RECORDS), Full(), quiet)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_byte_is_never_read_as_another_record(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(whole.read_bytes())
    intact = list(read_backup(whole))
    place = data.draw(st.integers(min_value=0, max_value=len(content) - 1))
    content[place] ^= data.draw(st.integers(min_value=1, max_value=255))
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(content)
    try:
        found = list(read_backup(damaged))
    except (InvalidInputError, FailedPreconditionError):
        return
    # Bytes of gzip's header, such as the time, change nothing that is read.
    assert found == intact
