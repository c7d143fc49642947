"""`safescale indices` as far as it goes without a server, and with one (grid)."""

import asyncio

import pytest
from tests.elastic_store import connection, random_prefix, remove_all
from typer.testing import CliRunner

from safescale.cli.indices import app
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


@pytest.mark.grid
def test_the_difference_is_shown_then_applied_once(command, elasticsearch_url: str) -> None:
    prefix = random_prefix()

    def run(*arguments: str):
        return command(*arguments, url=elasticsearch_url, prefix=prefix)

    try:
        missing = run("diff")
        assert missing.exit_code == 1
        assert f"+ create index {prefix}-verdict-v1: there is no {prefix}-verdict" in missing.output
        assert "missing" in run("list").output
        unasked = run("apply")
        assert isinstance(unasked.exception, InvalidInputError)
        assert "--yes answers yes" in str(unasked.exception)
        applied = run("apply", "--yes")
        assert applied.exit_code == 0, applied.output
        assert f"+ create index {prefix}-verdict-v1" in applied.output
        for name in ("diff", "apply"):
            again = run(name)
            assert (again.exit_code, again.output) == (0, "The indices are as declared.\n")
        assert f"{prefix}-verdict-v1" in run("list").output
        assert run("migrate", "--drop-old").output == "Every kind is of its declared version.\n"
    finally:

        async def remove() -> None:
            admin = connection(elasticsearch_url)
            await remove_all(admin, prefix)
            await admin.close()

        asyncio.run(remove())
