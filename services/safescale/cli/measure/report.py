"""`safescale report`: the report of a run as one HTML file, or its tables."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer
from google.protobuf import json_format

from safescale.cli.measure.gate import EVALUATE_DEADLINE_S, checked_policy
from safescale.cli.measure.results import fetch_benchmark, fetch_run, fetch_verdicts
from safescale.cli.runner import EXIT_FAILED, run_async
from safescale.cli.session import Client, session
from safescale.cli.terminal.text import say
from safescale.core.errors import FailedPreconditionError
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.files.atomic import Staged, write_text
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

if TYPE_CHECKING:
    import pandas as pd

    from safescale.report.safety.gather import RunRecord

Format = Literal["html", "json", "csv"]


def report(
    run: Annotated[str, typer.Argument(help="Run id, a unique prefix of it, or latest.", metavar="RUN")],
    form: Annotated[
        Format, typer.Option("--format", help="html: one self-contained page; json: run and tables; csv: tables.")
    ] = "html",
    out: Annotated[Path | None, typer.Option(help="File (html, json) or folder (csv) to write.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy (YAML) whose judgement the page shows.")] = None,
) -> None:
    """Write the report of a run: opens offline, prints, loads nothing from elsewhere."""
    if run_async(_report(load_settings(), run, (form, out, policy))):
        raise typer.Exit(EXIT_FAILED)


async def _report(settings: Settings, name: str, options: tuple[Format, Path | None, Path | None]) -> Sequence[str]:
    """Write what is asked for; what is missing in the page, a sentence each."""
    from safescale.report.safety.gather import completeness_of_record, completeness_table, run_tables

    form, out, policy = options
    async with session(settings) as client:
        run_id = (await fetch_run(client, name)).run_id
        folder = Path("out") / run_id
        if form == "html":
            path = out or folder / "report.html"
            undrawn = await write_report(client, run_id, path, policy)
            say(path)
            say_undrawn(undrawn)
            return undrawn
        record = await fetch_record(client, run_id)
    tables = run_tables(record)
    found = completeness_of_record(record, tables)
    for sentence in found["missing"]:
        say(sentence, err=True)
    if form == "json":
        path = out or folder / "report.json"
        write_text(path, _json(record, tables, found))
        say(path)
        return ()
    for path in write_csv(out or folder, {**tables, "completeness": completeness_table(record)}):
        say(path)
    return ()


def say_undrawn(undrawn: Sequence[str]) -> None:
    """Say which pictures a report lacks, on standard error."""
    for sentence in undrawn:
        say(f"Not drawn: {sentence}. The report has its numbers as a table.", err=True)


async def fetch_record(client: Client, run_id: str) -> "RunRecord":
    """A run with verdicts and benchmark.

    Raises:
        FailedPreconditionError: it has no verdicts yet.

    """
    from safescale.report.safety.gather import RunRecord

    run = await fetch_run(client, run_id)
    verdicts = await fetch_verdicts(client, run.run_id)
    if not verdicts:
        raise FailedPreconditionError(f"run {run.run_id} has no verdicts yet")
    return RunRecord(run, verdicts, await fetch_benchmark(client, run.manifest.spec.benchmark_id))


async def write_report(client: Client, run_id: str, path: Path, policy: Path | None = None) -> Sequence[str]:
    """Write the HTML report of a run; return a sentence for each picture that could not be drawn.

    Raises:
        StorageError: the file cannot be written.

    """
    # Charts are slow to import: only the command that draws waits for them.
    from safescale.report.page import page_of
    from safescale.report.safety.gather import report_input, run_tables

    record = await fetch_record(client, run_id)
    judged: scoring_pb2.EvaluatePolicyResponse | None = None
    if policy is not None:
        text = checked_policy(policy)
        request = scoring_pb2.EvaluatePolicyRequest(run_id=run_id, policy=text)
        with rpc_errors():
            judged = await client.scoring.EvaluatePolicy(request, timeout=EVALUATE_DEADLINE_S)
    page = page_of(report_input(record, run_tables(record), judged, datetime.now(UTC)))
    write_text(path, page.html)
    return page.undrawn


def _json(record: "RunRecord", tables: "Mapping[str, pd.DataFrame]", found: Mapping[str, Any]) -> str:
    body: dict[str, Any] = {
        "completeness": found,
        "run": json_format.MessageToDict(record.run, preserving_proto_field_name=True),
        "tables": {
            name: frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
            for name, frame in tables.items()
        },
    }
    return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode()


def write_csv(folder: Path, tables: "Mapping[str, pd.DataFrame]") -> list[Path]:
    """Write each table as a CSV file; their paths.

    Raises:
        StorageError: a file cannot be written.

    """
    from safescale.report.frames import csv_bytes

    written = []
    with Staged() as staged:
        for name, frame in tables.items():
            path = folder / f"{name}.csv"
            with staged.open(path) as out:
                out.write(csv_bytes(frame))
            written.append(path)
    return written
