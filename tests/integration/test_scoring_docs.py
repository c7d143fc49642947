"""The examples of docs/scoring-api.md, run word for word against a server."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .test_serve import serving

pytestmark = pytest.mark.models
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scoring-api.md").read_text()
PYTHON = re.findall(r"```python\n((?:(?!```).)*)```\n\nprints\n\n```\n(.*?)```", PAGE, flags=re.DOTALL)
"""Examples that print something, each with what it prints."""
GRPCURL = re.findall(
    r"^(grpcurl -plaintext.*ScoreAnswer)\n```\n\nThe last one prints\n\n```\n(.*?)```", PAGE, flags=re.DOTALL | re.M
)
SHOWN = "127.0.0.1:50051"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    from .conftest import CommandLine

    with serving(CommandLine(tmp_path_factory.mktemp("docs"))) as (_, address, _metrics):
        yield address


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python(number: int, address: str) -> None:
    code, printed = PYTHON[number]
    assert SHOWN in code
    done = subprocess.run(
        [sys.executable, "-c", code.replace(SHOWN, address)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == printed, done.stderr


def test_both_kinds_of_client_and_the_gate_are_shown() -> None:
    assert len(PYTHON) == 3
    assert len(GRPCURL) == 1


@pytest.mark.skipif(shutil.which("grpcurl") is None, reason="grpcurl is not installed")
def test_grpcurl(address: str) -> None:
    commands, printed = GRPCURL[0]
    for command in commands.splitlines():
        done = subprocess.run(
            command.replace(SHOWN, address), shell=True, check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout == printed
