"""`safescale report`: the report of a run as one HTML file, or its tables."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
import typer

from safescale.cli.measure.gate import checked_policy, judged
from safescale.cli.measure.results import fetch_benchmark, fetch_run, fetch_tables
from safescale.cli.runner import EXIT_FAILED, run_async
from safescale.cli.session import Client, session
from safescale.cli.terminal.text import say
from safescale.runtime.files.atomic import Staged, write_text
from safescale.runtime.settings import Settings, load_settings

if TYPE_CHECKING:
    from safescale.core.tables import Table
    from safescale.report.port import RunResults

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
    """Write the requested form; return what is missing in the page, a sentence each."""
    from safescale.report.port import renderer_of
    from safescale.report.registry import run_renderers

    form, out, policy = options
    if form != "json":
        # A missing package is named before services are hosted for nothing.
        importlib.import_module("safescale.report.frames")
    async with session(settings) as client:
        run_id = (await fetch_run(client, name)).run_id
        folder = Path("out") / run_id
        if form == "html":
            path = out or folder / "report.html"
            undrawn = await write_report(client, run_id, path, policy)
            say(path)
            say_undrawn(undrawn)
            return undrawn
        results = await fetch_results(client, run_id)
    renderer = renderer_of(run_renderers(), results)
    for sentence in renderer.missing(results):
        say(sentence, err=True)
    if form == "json":
        path = out or folder / "report.json"
        # A number that is not defined is null.
        write_text(path, orjson.dumps(renderer.document(results), option=orjson.OPT_INDENT_2).decode())
        say(path)
        return ()
    for path in write_csv(out or folder, renderer.files(results)):
        say(path)
    return ()


def say_undrawn(undrawn: Sequence[str]) -> None:
    """Say which pictures a report lacks, on standard error."""
    for sentence in undrawn:
        say(f"Not drawn: {sentence}. The report has its numbers as a table.", err=True)


async def fetch_results(client: Client, name: str) -> "RunResults":
    """Return a run with its tables.

    Raises:
        NotFoundError: there is no such run.

    """
    from safescale.report.port import RunResults

    run = await fetch_run(client, name)
    tables = await fetch_tables(client, run.run_id)
    benchmark = await fetch_benchmark(client, run.manifest.spec.benchmark_id)
    return RunResults(run, benchmark, tables, None, datetime.now(UTC))


async def write_report(client: Client, run_id: str, path: Path, policy: Path | None = None) -> Sequence[str]:
    """Write the HTML report of a run; return a sentence for each picture that could not be drawn.

    It is judged by a policy, where none is given by the one that it registered.

    Raises:
        FailedPreconditionError: it has no verdicts yet.
        StorageError: the file cannot be written.

    """
    from safescale.report.port import renderer_of
    from safescale.report.registry import run_renderers

    results = await fetch_results(client, run_id)
    renderer = renderer_of(run_renderers(), results)
    if policy is not None or results.run.manifest.spec.policy.text:
        text = checked_policy(policy) if policy is not None else ""
        results = replace(results, policy=await judged(client, results.run, text))
    page = renderer.page(results)
    write_text(path, page.html)
    return page.undrawn


def write_csv(folder: Path, tables: "Mapping[str, Table]") -> list[Path]:
    """Write each table as a CSV file; return their paths.

    Raises:
        StorageError: a file cannot be written.

    """
    # Data frames are slow to import: only the command that writes tables waits for them.
    from safescale.report.frames import csv_bytes, frame_of_table

    written = []
    with Staged() as staged:
        for name, table in tables.items():
            path = folder / f"{name}.csv"
            with staged.open(path) as out:
                out.write(csv_bytes(frame_of_table(table)))
            written.append(path)
    return written
