import subprocess
import sys
from pathlib import Path

import pytest

from safescale.core.errors import FailedPreconditionError, StorageError
from safescale.runtime.datadir import DataDir, announced_address

HOLD = """
import sys
from pathlib import Path
from safescale.runtime.datadir import DataDir
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
