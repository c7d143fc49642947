import yaml
from typer.testing import CliRunner

from safescale.cli.tokens import app
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
