"""`safescale audit`: who changed what, and when."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from safescale.cli.operate.records import open_records
from safescale.cli.runner import run_async
from safescale.cli.terminal.text import printable
from safescale.runtime.settings import Settings, load_settings

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def audit(
    since: Annotated[datetime | None, typer.Option(formats=FORMATS, help="Entries from this time on, in UTC.")] = None,
    who: Annotated[str, typer.Option(help="Those of one name: of a token, or the subject of an issuer's.")] = "",
    about: Annotated[str, typer.Option(help="Those with this id: of a run, review, benchmark, corpus, request.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, whole.")] = False,
) -> None:
    """List the audit log, oldest first: of Elasticsearch where it is set, else of the data folder."""
    shown = run_async(_audit(load_settings(), _first_key(since), (who, about), as_json))
    if not shown and not as_json:
        typer.echo("There are no such entries.", err=True)


async def _audit(settings: Settings, after: str, wanted: tuple[str, str], as_json: bool) -> int:
    from safescale.runtime.auth.audit import AUDIT

    shown = 0
    async with open_records(settings, alone=False) as store:
        async for document in store.scan(AUDIT, after=after):
            if not _fits(document.body, *wanted):
                continue
            shown += 1
            # Not by `echo`, which flushes each line.
            sys.stdout.write((orjson.dumps(document.body).decode() if as_json else _line(document.body)) + "\n")
    return shown


def _first_key(since: datetime | None) -> str:
    """Keys begin with the time in nanoseconds, of 20 digits."""
    return "" if since is None else f"{int(since.replace(tzinfo=UTC).timestamp()) * 10**9:020d}"


def _fits(entry: dict[str, Any], who: str, about: str) -> bool:
    return (not who or entry["who"] == who) and (
        not about or about == entry["request_id"] or about in entry["object"].values()
    )


def _line(entry: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(entry["at_ns"] / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    things = " ".join(f"{name}={value}" for name, value in sorted(entry["object"].items()))
    texts = (at, f"{entry['who']} ({entry['kind']})", entry["action"], entry["outcome"], things)
    return "  ".join(printable(text) for text in (*texts, f"request={entry['request_id']}") if text)
