"""Commands of the line at a real Elasticsearch: `safescale indices`, `safescale backup`, `safescale restore`."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.support.elastic_store import apply_all, connection, random_prefix, remove_all
from typer.testing import CliRunner, Result

from safescale.admin.indices import Indices
from safescale.cli.main import app
from safescale.core.errors import InvalidInputError
from safescale.runtime.documents.elastic_kinds import KINDS
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments

pytestmark = pytest.mark.grid

RECORDS = [
    NewDocument("run", "r", {"state": "completed"}, "run"),
    *(
        NewDocument("verdict", f"r/m/c/q{i}/0", {"model": "m", "greedy": {"letter": "A"}, "n": i}, "r")
        for i in range(7)
    ),
]
Command = Callable[..., Result]


@pytest.fixture
async def prefix(elasticsearch_url: str) -> AsyncIterator[str]:
    """Begin of the names of this test's indices, which are removed after it."""
    name = random_prefix()
    yield name
    admin = connection(elasticsearch_url)
    await remove_all(admin, name)
    await admin.close()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, elasticsearch_url: str, prefix: str) -> Command:
    for name in ("API_KEY_FILE", "CA_FILE", "REPLICAS"):
        monkeypatch.delenv(f"SAFESCALE_ELASTICSEARCH_{name}", raising=False)
    monkeypatch.delenv("SAFESCALE_SERVER", raising=False)

    async def run(*arguments: object, data: Path | None = None) -> Result:
        """With a data folder: at its records. Without: at Elasticsearch."""
        monkeypatch.setenv("SAFESCALE_ELASTICSEARCH", "" if data else elasticsearch_url)
        monkeypatch.setenv("SAFESCALE_ELASTICSEARCH_PREFIX", prefix)
        if data:
            monkeypatch.setenv("SAFESCALE_DATA_DIR", str(data))
        # The command runs a loop of its own.
        return await asyncio.to_thread(CliRunner().invoke, app, list(map(str, arguments)))

    return run


async def test_the_difference_is_shown_then_applied_once(command: Command, prefix: str) -> None:
    missing = await command("indices", "diff")
    assert missing.exit_code == 1
    assert f"+ create index {prefix}-verdict-v1: there is no {prefix}-verdict" in missing.output
    assert "missing" in (await command("indices", "list")).output
    unasked = await command("indices", "apply")
    assert isinstance(unasked.exception, InvalidInputError)
    assert "--yes answers yes" in str(unasked.exception)
    applied = await command("indices", "apply", "--yes")
    assert applied.exit_code == 0, applied.output
    assert f"+ create index {prefix}-verdict-v1" in applied.output
    for name in ("diff", "apply"):
        again = await command("indices", name)
        assert (again.exit_code, again.output) == (0, "The indices are as declared.\n")
    assert f"{prefix}-verdict-v1" in (await command("indices", "list")).output
    migrated = await command("indices", "migrate", "--drop-old")
    assert migrated.output == "Every kind is of its declared version.\n"


async def test_records_go_from_a_folder_into_elasticsearch_and_come_back(
    command: Command, prefix: str, elasticsearch_url: str, tmp_path: Path
) -> None:
    folder, there, back = tmp_path / "data", tmp_path / "there.jsonl.gz", tmp_path / "back.jsonl.gz"
    folder.mkdir()
    store = await SqliteDocuments.open(folder / "records.db")
    await store.put_many_if_absent(RECORDS)
    await store.close()
    await command("backup", there, data=folder)

    missing = await command("restore", there)
    assert "safescale indices apply" in str(missing.exception)
    admin = connection(elasticsearch_url)
    await apply_all(Indices(admin, prefix, 0, KINDS))
    await admin.close()
    first = await command("restore", there)
    assert _total(first.stdout) == ["all", "8", "8", "0"]
    again = await command("restore", there)
    assert _total(again.stdout) == ["all", "8", "0", "8"]
    await command("backup", back)
    # Order by key is the same in both, and so are the bytes of each body.
    assert gzip.decompress(back.read_bytes()) == gzip.decompress(there.read_bytes())


def _total(text: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.strip().startswith("all"))
