"""`safescale indices` as far as it goes without a server."""

import pytest
from typer.testing import CliRunner

from safescale.cli.operate.indices import app
from safescale.core.errors import InvalidInputError, StorageUnavailableError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    for name in ("API_KEY_FILE", "CA_FILE", "REPLICAS"):
        monkeypatch.delenv(f"SAFESCALE_ELASTICSEARCH_{name}", raising=False)

    def run(*arguments: str, url: str = "", prefix: str = "safescale"):
        monkeypatch.setenv("SAFESCALE_ELASTICSEARCH", url)
        monkeypatch.setenv("SAFESCALE_ELASTICSEARCH_PREFIX", prefix)
        return CliRunner().invoke(app, list(arguments))

    return run


@pytest.mark.parametrize("name", ["list", "diff", "apply", "migrate"])
def test_without_elasticsearch_the_setting_is_named(command, name: str) -> None:
    result = command(name)
    assert isinstance(result.exception, InvalidInputError)
    assert "SAFESCALE_ELASTICSEARCH is empty" in str(result.exception)


def test_an_elasticsearch_that_does_not_answer_is_said(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safescale.runtime.elastic.ElasticConnection.perform.__defaults__", (0.1,))
    result = command("diff", url="http://127.0.0.1:1")
    assert isinstance(result.exception, StorageUnavailableError)
