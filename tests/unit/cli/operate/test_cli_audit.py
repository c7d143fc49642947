"""`safescale audit` over a data folder."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from safescale.cli.main import app
from safescale.core.errors import NotFoundError
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments

DAY = datetime(2026, 11, 27, tzinfo=UTC)


def entry(hours: float, who: str, action: str, outcome: str, request: str, **things: str) -> NewDocument:
    at = int((DAY.timestamp() + 3600 * hours) * 1e9)
    body = {
        "at_ns": at, "who": who, "kind": "token", "action": action, "outcome": outcome, "object": things,
        "request_id": request,
    }  # fmt: skip
    return NewDocument("audit", f"{at:020d}/{request}/{outcome}", body)


ENTRIES = [
    entry(1, "anna", "CreateRun", "asked", "r1"),
    entry(1.5, "anna", "CreateRun", "done", "r1", run_id="night", resumed="false"),
    entry(25, "ci", "CancelRun", "asked", "r2", run_id="night"),
    entry(25.5, "ci", "CancelRun", "NOT_FOUND", "r2"),
    entry(26, "ev\x1b[31mil", "ResolveReview", "asked", "r3", review_id="v", letter="B"),
]


async def _store(path: Path) -> None:
    store = await SqliteDocuments.open(path)
    # In another order than that of time.
    await store.put_many_if_absent([*reversed(ENTRIES), NewDocument("run", "night", {}, "run")])
    await store.close()


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("SERVER", "ELASTICSEARCH"):
        monkeypatch.delenv(f"SAFESCALE_{name}", raising=False)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("SAFESCALE_DATA_DIR", str(tmp_path / "data"))
    asyncio.run(_store(tmp_path / "data" / "records.db"))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["audit", *arguments])

    return run


def requests(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.rpartition("request=")[2] for line in result.stdout.splitlines()]


def test_entries_are_listed_in_order_of_time(listed) -> None:
    lines = listed().stdout.splitlines()
    assert lines[:2] == [
        "2026-11-27T01:00:00.000Z  anna (token)  CreateRun  asked  request=r1",
        "2026-11-27T01:30:00.000Z  anna (token)  CreateRun  done  resumed=false run_id=night  request=r1",
    ]
    assert [line.rpartition("=")[2] for line in lines] == ["r1", "r1", "r2", "r2", "r3"]


def test_a_name_steers_no_terminal(listed) -> None:
    result = listed()
    assert "\x1b" not in result.stdout
    assert "ev\\x1b[31mil (token)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--since", "2026-11-28"), ["r2", "r2", "r3"]),
        (("--since", "2026-11-28T01:30"), ["r2", "r3"]),
        (("--since", "2026-11-28T01:30:01"), ["r3"]),
        (("--who", "anna"), ["r1", "r1"]),
        (("--about", "night"), ["r1", "r2"]),
        (("--about", "r2"), ["r2", "r2"]),
        (("--about", "night", "--since", "2026-11-28", "--who", "ci"), ["r2"]),
    ],
)
def test_what_is_asked_for_is_listed(listed, arguments: tuple[str, ...], found: list[str]) -> None:
    assert requests(listed(*arguments)) == found


def test_json_has_the_entries_as_they_are_stored(listed) -> None:
    result = listed("--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [each.body for each in ENTRIES]


def test_nothing_found_is_said_beside_the_output(listed) -> None:
    result = listed("--who", "nobody")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no such entries" in result.stderr
    assert listed("--who", "nobody", "--json").output == ""


def test_a_wrong_time_is_told(listed) -> None:
    result = listed("--since", "yesterday")
    assert result.exit_code == 2
    assert "yesterday" in result.stderr


def test_a_folder_without_records_is_told(listed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAFESCALE_DATA_DIR", str(tmp_path / "none"))
    result = listed()
    assert isinstance(result.exception, NotFoundError)
    assert "SAFESCALE_DATA_DIR" in str(result.exception)
