"""`safescale backup` and `safescale restore` over data folders."""

import asyncio
import gzip
import json
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from safescale.cli.main import app
from safescale.core.errors import AlreadyExistsError, FailedPreconditionError, InvalidInputError, NotFoundError
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.files.data_folder import DataDir

RECORDS = [
    NewDocument("run", "r", {"state": "completed"}, "run"),
    *(
        NewDocument("verdict", f"r/m/c/q{i}/0", {"model": "m", "greedy": {"letter": "A"}, "n": i}, "r")
        for i in range(7)
    ),
]


async def _store(path: Path, records: Iterable[NewDocument]) -> None:
    store = await SqliteDocuments.open(path)
    await store.put_many_if_absent(list(records))
    await store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with records."""
    path = tmp_path / "data"
    path.mkdir()
    asyncio.run(_store(path / "records.db", RECORDS))
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    for name in ("SERVER", "ELASTICSEARCH_API_KEY_FILE", "ELASTICSEARCH_CA_FILE"):
        monkeypatch.delenv(f"SAFESCALE_{name}", raising=False)

    def run(*arguments: object, data: Path, url: str = "", prefix: str = "safescale") -> Result:
        monkeypatch.setenv("SAFESCALE_DATA_DIR", str(data))
        monkeypatch.setenv("SAFESCALE_ELASTICSEARCH", url)
        monkeypatch.setenv("SAFESCALE_ELASTICSEARCH_PREFIX", prefix)
        return CliRunner().invoke(app, list(map(str, arguments)))

    return run


def row(text: str, kind: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(kind))


def test_a_backup_is_private_whole_and_counted(command, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl.gz"
    result = command("backup", path, data=folder)
    assert result.exit_code == 0, result.output
    assert row(result.stderr, "verdict") == ["verdict", "7"]
    assert row(result.stderr, "all") == ["all", "8"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.jsonl.gz", "data"]


def test_it_is_restored_into_an_empty_folder_once(command, folder: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "b.jsonl.gz", tmp_path / "other"
    command("backup", path, data=folder)
    first = command("restore", path, data=other)
    assert first.exit_code == 0, first.output
    assert row(first.stdout, "all") == ["all", "8", "8", "0"]
    assert row(command("restore", path, data=other).stdout, "all") == ["all", "8", "0", "8"]
    again = tmp_path / "again.jsonl.gz"
    command("backup", again, data=other)
    assert again.read_bytes() == path.read_bytes()


def test_standard_output_has_the_backup_and_nothing_else(command, folder: Path) -> None:
    result = command("backup", "-", data=folder)
    assert result.exit_code == 0
    lines = gzip.decompress(result.stdout_bytes).splitlines()
    assert json.loads(lines[-1])["end"] == {"run": 1, "verdict": 7}


def test_a_file_that_exists_is_left_alone(command, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl.gz"
    path.write_text("mine")
    assert isinstance(command("backup", path, data=folder).exception, AlreadyExistsError)
    assert path.read_text() == "mine"


def test_a_folder_without_records_is_named_and_not_made(command, tmp_path: Path) -> None:
    error = command("backup", tmp_path / "b.jsonl.gz", data=tmp_path / "none").exception
    assert isinstance(error, NotFoundError)
    assert str(tmp_path / "none" / "records.db") in error.message
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folder_that_is_missing_is_named(command, folder: Path, tmp_path: Path) -> None:
    error = command("backup", tmp_path / "none" / "b.jsonl.gz", data=folder).exception
    assert str(tmp_path / "none" / "b.jsonl.gz") in str(error)


def test_while_a_process_holds_the_folder_it_is_backed_up_and_not_restored(
    command, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "b.jsonl.gz"
    with DataDir(folder):
        assert command("backup", path, data=folder).exit_code == 0
        assert isinstance(command("restore", path, data=folder).exception, FailedPreconditionError)


def test_a_file_cut_off_restores_nothing(command, folder: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "b.jsonl.gz", tmp_path / "other"
    command("backup", path, data=folder)
    path.write_bytes(path.read_bytes()[:-20])
    assert isinstance(command("restore", path, data=other).exception, InvalidInputError)
    empty = tmp_path / "empty.jsonl.gz"
    command("backup", empty, data=other)
    assert gzip.decompress(empty.read_bytes()).count(b"\n") == 2


@pytest.mark.parametrize("arguments", [("backup", "-"), ("restore", "b.jsonl.gz"), ("audit",)])
def test_a_grid_without_its_store_is_no_data_folder(command, folder: Path, monkeypatch, arguments) -> None:
    monkeypatch.setenv("SAFESCALE_ORCHESTRATION", "127.0.0.1:50053")
    error = command(*arguments, data=folder).exception
    assert isinstance(error, InvalidInputError)
    assert "expected SAFESCALE_ELASTICSEARCH" in str(error)


def test_the_server_of_the_data_folder_may_be_named(command, folder: Path, monkeypatch) -> None:
    # As in the pod of a trial.
    monkeypatch.setenv("SAFESCALE_SERVER", "127.0.0.1:50051")
    with DataDir(folder) as held:
        held.announce("127.0.0.1:50051")
        assert command("backup", "-", data=folder).exit_code == 0


@pytest.mark.parametrize("arguments", [("backup", "b.jsonl.gz"), ("restore", "b.jsonl.gz"), ("audit",)])
def test_a_server_elsewhere_is_never_taken_for_the_folder_here(
    command, folder: Path, tmp_path: Path, monkeypatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("backup", "b.jsonl.gz", data=folder).exit_code == 0
    before = (tmp_path / "b.jsonl.gz").read_bytes()
    if arguments[0] == "backup":
        arguments = ("backup", "other.jsonl.gz")
    monkeypatch.setenv("SAFESCALE_SERVER", "grid.example:50051")
    result = command(*arguments, data=folder)
    assert isinstance(result.exception, InvalidInputError)
    assert "name the server grid.example:50051" in result.exception.message
    assert "SAFESCALE_SERVER unset" in result.exception.message
    assert [each.name for each in tmp_path.glob("*.gz")] == ["b.jsonl.gz"]
    assert (tmp_path / "b.jsonl.gz").read_bytes() == before


@pytest.mark.parametrize(
    ("announced", "server", "same"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", True),
        ("127.0.0.1:50051", "localhost:50051", True),
        ("[::1]:50051", "localhost:50051", True),
        ("10.0.0.7:50051", "10.0.0.7:50051", True),
        ("127.0.0.1:50051", "127.0.0.1:50052", False),
        ("127.0.0.1:50051", "grid.example:50051", False),
    ],
)
def test_the_server_that_holds_the_folder_is_the_one_here(
    command, folder: Path, tmp_path: Path, monkeypatch, announced: str, server: str, same: bool
) -> None:
    monkeypatch.setenv("SAFESCALE_SERVER", server)
    with DataDir(folder) as held:
        held.announce(announced)
        result = command("backup", tmp_path / "b.jsonl.gz", data=folder)
    assert (result.exit_code == 0) is same, result.output
    # Nobody holds it any more: the server that is named has another.
    assert command("backup", tmp_path / "c.jsonl.gz", data=folder).exit_code != 0
