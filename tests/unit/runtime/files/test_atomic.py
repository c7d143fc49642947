import errno
import os
import stat
from pathlib import Path

import pytest

from safescale.core.errors import AlreadyExistsError, StorageError
from safescale.runtime.files import atomic
from safescale.runtime.files.atomic import PRIVATE, Staged, creating, replacing, write_bytes, write_text


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that tells at the very end that there is no room."""

    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", no_room)


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "ä.txt", "é ≤ \udcff")
    assert (tmp_path / "a" / "b" / "ä.txt").read_bytes() == "é ≤ \\udcff".encode()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["ä.txt"]


def test_a_full_disk_leaves_the_older_file_and_no_part(tmp_path: Path, full_disk: None) -> None:
    target = tmp_path / "report.html"
    target.write_text("older")
    with pytest.raises(StorageError, match=r"report\.html cannot be written: No space left on device"):
        write_text(target, "newer")
    assert target.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_nothing_where_nothing_was(tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(StorageError), replacing(tmp_path / "new") as out:
        out.write(b"part")
    with pytest.raises(StorageError), creating(tmp_path / "new") as out:
        out.write(b"part")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_writer_leaves_the_older_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("older")

    def stopped() -> None:
        with replacing(target) as out:
            out.write(b"newer")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_belong_together_appear_together(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("older a")

    def write(last: bytes | None) -> None:
        with Staged() as staged:
            with staged.open(tmp_path / "a.csv") as out:
                out.write(b"newer a")
            with staged.open(tmp_path / "b.csv") as out:
                if last is None:
                    raise OSError(errno.EDQUOT, "Disk quota exceeded")
                out.write(last)

    with pytest.raises(StorageError, match=r"b\.csv cannot be written: Disk quota exceeded"):
        write(None)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.csv": "older a"}
    write(b"b")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.csv": "newer a", "b.csv": "b"}


def test_permissions_are_those_of_the_older_file_or_as_asked(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.touch(mode=0o640)
    target.chmod(0o664)
    write_text(target, "x")
    assert stat.S_IMODE(target.stat().st_mode) == 0o664
    write_text(target, "x", PRIVATE)
    assert stat.S_IMODE(target.stat().st_mode) == PRIVATE
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "b", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o640


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("older")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "newer")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "newer"


def test_what_is_no_regular_file_is_written_to(tmp_path: Path) -> None:
    write_bytes(Path("/dev/null"), b"x")
    assert not Path("/dev/null").is_file()
    with pytest.raises(StorageError, match="/dev/full cannot be written: No space left on device"):
        write_bytes(Path("/dev/full"), b"x")
    with pytest.raises(StorageError, match="Is a directory"):
        write_bytes(tmp_path, b"x")


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "backup"

    def overtaken() -> None:
        with creating(target, PRIVATE) as out:
            out.write(b"mine")
            target.write_text("another's")

    with pytest.raises(AlreadyExistsError, match="backup exists"):
        overtaken()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"backup": "another's"}


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(atomic.os, "link", no_links)
    with creating(tmp_path / "a", PRIVATE) as out:
        out.write(b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    with pytest.raises(AlreadyExistsError), creating(tmp_path / "a") as out:
        out.write(b"y")
    assert (tmp_path / "a").read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
