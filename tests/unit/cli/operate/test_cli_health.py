"""Which servers `safescale health` asks."""

import pytest
from typer.testing import CliRunner

from safescale import probe
from safescale.cli.main import app
from safescale.core.errors import InvalidInputError, ServiceUnavailableError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(probe, "ask", lambda target: found.append(target) or ("away" if target == "b:2" else ""))
    for name in ("SERVER", "INFERENCE", "RETRIEVAL", "ORCHESTRATION", "SCORING", "HOST", "PORT"):
        monkeypatch.delenv(f"SAFESCALE_{name}", raising=False)
    return found


def health(*arguments: str) -> object:
    return CliRunner().invoke(app, ["health", *arguments], catch_exceptions=True)


@pytest.mark.parametrize(
    ("settings", "targets"),
    [
        ({}, ["127.0.0.1:50051"]),
        ({"PORT": "7"}, ["127.0.0.1:7"]),
        ({"HOST": "::"}, ["[::1]:50051"]),
        ({"HOST": "0.0.0.0"}, ["127.0.0.1:50051"]),
        ({"SERVER": "a:1"}, ["a:1"]),
        ({"SERVER": "[::1]:1"}, ["[::1]:1"]),
        ({"SERVER": "a:1", "SCORING": "s:1"}, ["a:1", "s:1"]),
        ({"INFERENCE": "i:1", "RETRIEVAL": "r:1"}, ["i:1", "r:1"]),
    ],
)
def test_it_asks_what_the_settings_name(asked, monkeypatch, settings: dict[str, str], targets: list[str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"SAFESCALE_{name}", value)
    result = health()
    assert (result.exit_code, asked) == (0, targets)


def test_one_that_is_not_ready_is_told(asked, monkeypatch) -> None:
    monkeypatch.setenv("SAFESCALE_SERVER", "a:1")
    monkeypatch.setenv("SAFESCALE_SCORING", "b:2")
    assert isinstance(health().exception, ServiceUnavailableError)


def test_what_is_named_on_the_line_is_asked_alone(asked, monkeypatch) -> None:
    monkeypatch.setenv("SAFESCALE_SERVER", "b:2")
    assert health("http://[::1]:8080/readyz").exit_code == 0
    assert asked == ["http://[::1]:8080/readyz"]
    assert isinstance(health("::1:50051").exception, InvalidInputError)
