"""`safescale runs`: list, show, cancel, retry."""

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from safescale.cli.measure.results import PAGE_SIZE, failed_verdicts, fetch_run, pages, run_metrics
from safescale.cli.runner import run_async
from safescale.cli.session import session
from safescale.cli.terminal.audit_view import corrected_table
from safescale.cli.terminal.live import follow, status_line, watched
from safescale.cli.terminal.origins import cached_line, warning_lines
from safescale.cli.terminal.output import lasting_terminal
from safescale.cli.terminal.tables import failure_lines, missing_lines, print_readings, safety_table, skip_lines
from safescale.cli.terminal.text import terminal
from safescale.core.inputs.text import visible_line
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.errors import error_of_failure
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

app = typer.Typer(help="List, show, cancel and retry runs.", invoke_without_command=True)

RunName = Annotated[str, typer.Argument(help="Run id, a unique prefix of it, or latest.", metavar="RUN")]

SeriesName = Annotated[str, typer.Option("--series", help="Only runs of this series.")]


def state_name(state: int) -> str:
    """State in lower case."""
    return pb.RunState.Name(state).removeprefix("RUN_STATE_").lower()  # type: ignore[arg-type]


@app.callback()
def default(context: typer.Context, series: SeriesName = "") -> None:
    """List, show, cancel and retry runs; without a command, list them."""
    if context.invoked_subcommand is None:
        run_async(_list(load_settings(), series))


@app.command(name="list")
def list_runs(series: SeriesName = "") -> None:
    """List runs, newest first."""
    run_async(_list(load_settings(), series))


async def _list(settings: Settings, series: str) -> None:
    request = pb.ListRunsRequest(page_size=PAGE_SIZE, series=series)
    async with session(settings) as client:
        runs = [run async for page in pages(client.orchestration.ListRuns, request) for run in page.runs]
    if not runs:
        where = f" of the series {visible_line(series)}" if series else ""
        typer.echo(f"There are no runs{where} yet; `safescale run SPEC.yaml` makes one.")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0))
    table.add_column("run", overflow="fold")
    for heading in ("state", "created (UTC)"):
        table.add_column(heading, no_wrap=True)
    for heading in ("models", "conditions", "questions"):
        table.add_column(heading, justify="right", no_wrap=True)
    for item in runs:
        spec = item.manifest.spec
        created = item.created_at.ToDatetime().strftime("%Y-%m-%d %H:%M")
        table.add_row(
            item.run_id, state_name(item.state), created, str(len(spec.models)), str(len(spec.conditions)),
            str(len(item.manifest.question_ids)),
        )  # fmt: skip
    terminal().print(table)


@app.command()
def show(run: RunName) -> None:
    """Print state, progress, safety table and what failed or was odd, by reason."""
    run_async(_show(load_settings(), run))


async def _show(settings: Settings, name: str) -> None:
    console = terminal()
    async with session(settings) as client:
        with rpc_errors():
            response = await client.orchestration.GetRun(pb.GetRunRequest(run_id=name))
        stored = response.run
        console.print(f"Run {stored.run_id}: {state_name(stored.state)}", highlight=False)
        console.print(status_line(response.progress), highlight=False)
        metrics = await run_metrics(client, stored.run_id)
        failed = await failed_verdicts(client, stored.run_id) if metrics.failed_count else []
    if stored.HasField("failure"):
        reason = f"It could not go on: {stored.failure.reason}: {stored.failure.message}"
        console.print(reason, style="red", highlight=False, soft_wrap=True)
    if metrics.rows:
        console.print(safety_table(stored, metrics.rows))
        print_readings(console, metrics.readings, stored.manifest)
    corrected = corrected_table(metrics.rows)
    if corrected.rows:
        console.print(corrected)
    if metrics.verdict_count:
        console.print(cached_line(metrics), highlight=False, soft_wrap=True)
    for line in [*missing_lines(stored, metrics), *warning_lines(metrics.warnings.items())]:
        console.print(line, style="yellow", highlight=False, soft_wrap=True)
    for line in skip_lines(stored.skips):
        console.print(line, highlight=False, soft_wrap=True)
    for line in failure_lines(failed):
        console.print(line, style="red", highlight=False, soft_wrap=True)


@app.command()
def cancel(run: RunName) -> None:
    """Stop a run; `safescale run` with its spec continues it."""
    run_async(_cancel(load_settings(), run))


async def _cancel(settings: Settings, name: str) -> None:
    async with session(settings) as client:
        with rpc_errors():
            response = await client.orchestration.CancelRun(pb.CancelRunRequest(run_id=name))
    typer.echo(f"Run {response.run.run_id} is cancelled; what was measured is kept.")


@app.command()
def retry(run: RunName) -> None:
    """Ask the failed cells of a run again and wait for them. Exit code 1 when some fail again or cells are left."""
    with lasting_terminal() as console:
        code = run_async(_retry(console, load_settings(), run))
    raise typer.Exit(code)


async def _retry(console: Console, settings: Settings, name: str) -> int:
    async with session(settings) as client:
        with rpc_errors():
            response = await client.orchestration.RetryFailed(pb.RetryFailedRequest(run_id=name))
        if not response.retried_count:
            console.print(f"Run {response.run.run_id} has no failed cells.")
            return _say_left(console, response.run, await run_metrics(client, response.run.run_id))
        console.print(f"Asking {response.retried_count} failed cells again.")
        run_id = response.run.run_id
        updates = watched(client, run_id)
        last = await follow(console, response.run, updates)
        if last is not None and last.state == pb.RUN_STATE_FAILED:
            raise error_of_failure(last.failure, f"run {run_id} could not go on: ")
        metrics = await client.lasting(lambda: run_metrics(client, run_id))
        stored = await client.lasting(lambda: fetch_run(client, run_id))
        console.print(safety_table(stored, metrics.rows))
        print_readings(console, metrics.readings, response.run.manifest)
        failed = await client.lasting(lambda: failed_verdicts(client, run_id)) if metrics.failed_count else []
    for line in failure_lines(failed):
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if metrics.failed_count:
        console.print(f"{metrics.failed_count} cells failed again.")
    left = _say_left(console, stored, metrics)
    return 1 if metrics.failed_count or left else 0


def _say_left(console: Console, run: pb.Run, metrics: scoring_pb2.GetRunMetricsResponse) -> int:
    """Say what a retry leaves open: cells that were never asked are no failures. The exit code."""
    missing = missing_lines(run, metrics)
    for line in missing:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if missing:
        console.print("`safescale run` with its spec asks what is left.", highlight=False, soft_wrap=True)
    return 1 if missing else 0
