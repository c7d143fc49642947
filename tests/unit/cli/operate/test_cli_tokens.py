import stat
import subprocess
import sys
from pathlib import Path

import yaml
from typer.testing import CliRunner

from safescale.cli.operate.tokens import app
from safescale.runtime.auth.tokens import digest


def test_a_token_is_printed_once_and_its_entry_beside(tmp_path) -> None:
    result = CliRunner().invoke(app, ["new", "ward-3", "--role", "reviewer"])
    assert result.exit_code == 0
    token = result.stdout.strip()
    assert token not in result.stderr
    (found,) = yaml.safe_load("tokens:\n" + result.stderr.splitlines()[1])["tokens"]
    assert found == {"name": "ward-3", "sha256": digest(token), "role": "reviewer"}


def test_an_unknown_role_is_refused() -> None:
    result = CliRunner().invoke(app, ["new", "ward-3", "--role", "root"])
    assert result.exit_code == 2
    assert "reviewer" in result.stderr


def test_a_file_that_the_shell_made_is_private_before_the_token_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "service.token"
    command = f"umask 022; {sys.executable} -m safescale.cli.main tokens new services > '{target}'"
    subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True, timeout=100)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(target.read_text()) > 40


def test_a_file_of_its_own_is_private_and_never_another_one(tmp_path: Path) -> None:
    target = tmp_path / "a.token"
    result = CliRunner().invoke(app, ["new", "ward-3", "--out", str(target)])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert digest(target.read_text().strip()) in result.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    again = CliRunner().invoke(app, ["new", "ward-3", "--out", str(target)])
    assert again.exit_code != 0
    assert digest(target.read_text().strip()) in result.stderr
