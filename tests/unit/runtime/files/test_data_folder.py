import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from safescale.core.errors import FailedPreconditionError, StorageError
from safescale.runtime.files.data_folder import DataDir, Use, announced_address, announced_server, users

HOLD = """
import sys
from pathlib import Path
from safescale.runtime.files.data_folder import DataDir
with DataDir(Path(sys.argv[1])) as data:
    data.announce("127.0.0.1:1234")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_holds_the_folder_until_it_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert announced_address(tmp_path) == "127.0.0.1:1234"
    with pytest.raises(FailedPreconditionError, match="in use by another safescale process"), DataDir(tmp_path):
        pass
    process.kill()
    process.communicate()
    assert announced_address(tmp_path) is None
    with DataDir(tmp_path) as data:
        assert data.records == tmp_path / "records.db"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"), DataDir(tmp_path / "file" / "data"):
        pass


def test_nobody_holds_what_does_not_exist(tmp_path: Path) -> None:
    assert announced_address(tmp_path / "nothing") is None


def test_the_address_of_a_process_that_was_killed_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "address").write_text("127.0.0.1:1")
    data = DataDir(tmp_path)
    assert data.try_hold()
    assert not (tmp_path / "address").exists()
    assert not DataDir(tmp_path).try_hold()
    with data:
        pass
    assert DataDir(tmp_path).try_hold()


def test_who_looks_whether_a_folder_is_held_keeps_nobody_from_holding_it(tmp_path: Path) -> None:
    with DataDir(tmp_path):
        pass
    looking = (tmp_path / "lock").open("rb+")
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.2, looking.close).start()
    with DataDir(tmp_path) as data:
        assert data.try_hold()


def test_an_address_that_is_no_text(tmp_path: Path) -> None:
    with DataDir(tmp_path):
        (tmp_path / "address").write_bytes(b"\xff\xfe")
        assert announced_address(tmp_path) is None


def test_users_are_counted_until_they_end_or_are_killed(tmp_path: Path) -> None:
    assert users(tmp_path) == 0
    first, second = Use(tmp_path), Use(tmp_path)
    for use in (first, first, second):
        use.begin()
    code = "import sys; from pathlib import Path; from safescale.runtime.files.data_folder import Use\n"
    code += "use = Use(Path(sys.argv[1])); use.begin(); print('uses', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "uses\n"
    assert users(tmp_path) == 3
    process.kill()
    process.communicate()
    assert users(tmp_path) == 2
    first.end()
    second.end()
    assert users(tmp_path) == 0
    assert list((tmp_path / "users").iterdir()) == []


def test_a_folder_that_cannot_be_written_has_no_users(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    use = Use(tmp_path)
    use.begin()
    use.end()
    assert users(tmp_path) == 0


@pytest.mark.parametrize("server", [True, False])
def test_the_address_file_holds_the_address_alone_whoever_holds_the_folder(tmp_path: Path, server: bool) -> None:
    with DataDir(tmp_path) as data:
        data.announce("127.0.0.1:1234", server=server)
        assert (tmp_path / "address").read_text() == "127.0.0.1:1234\n"
        assert announced_server(tmp_path) is server
    assert not announced_server(tmp_path)
    with DataDir(tmp_path) as data:
        data.announce("127.0.0.1:1234")
        assert not announced_server(tmp_path)
