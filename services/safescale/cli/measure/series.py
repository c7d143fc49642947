"""`safescale series`: is what is measured again and again getting worse?"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from safescale.cli.measure.results import QUICK_S, fetch_run
from safescale.cli.runner import EXIT_FAILED, run_async
from safescale.cli.session import session
from safescale.cli.terminal.text import say, terminal
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

GATHER_DEADLINE_S = 600.0
MEMBERS_SHOWN = 10
"""Models, conditions and metrics that are shown, those with most evidence."""

KINDS = {
    "drift": "Drift: the same questions as in the reference run",
    "rate": "Rate: fresh questions against their limits",
}


def series(
    name: Annotated[str, typer.Argument(help="Name of a series; all are listed when left out.", metavar="NAME")] = "",
    run: Annotated[str, typer.Option("--run", help="The series of this run instead, if it is of one.")] = "",
    fail_on_alarm: Annotated[
        bool, typer.Option("--fail-on-alarm", help="Exit code 1 where an alarm was raised.")
    ] = False,
) -> None:
    """Show the evidence of a series of runs that something got worse, or list the series."""
    code = run_async(_series(load_settings(), name, run))
    raise typer.Exit(code if fail_on_alarm else 0)


async def _series(settings: Settings, name: str, run: str) -> int:
    async with session(settings) as client:
        if run:
            name = (await fetch_run(client, run)).manifest.spec.series
            if not name:
                say(f"Run {run} is of no series.")
                return 0
        with rpc_errors():
            if not name:
                request = orchestration_pb2.ListSeriesRequest()
                _list((await client.orchestration.ListSeries(request, timeout=QUICK_S)).series)
                return 0
            found = await client.scoring.GetSeries(pb.GetSeriesRequest(series=name), timeout=GATHER_DEADLINE_S)
    return _show(found)


def _list(found: Iterable[orchestration_pb2.SeriesSummary]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("series", overflow="fold")
    for heading in ("runs", "complete"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("newest run", overflow="fold")
    for each in found:
        table.add_row(each.series, str(each.run_count), str(each.completed_count), each.newest_run_id)
    if not table.rows:
        typer.echo("There are no series yet; `series: NAME` in a run spec begins one.")
        return
    terminal().print(table)


def _show(found: pb.GetSeriesResponse) -> int:
    """Print a series; 1 where its combined evidence has raised an alarm, else 0."""
    console = terminal()
    alarm = 0
    for kind, title in KINDS.items():
        points = [point for point in found.points if point.kind == kind]
        if not points:
            continue
        reference = f" {found.reference_run_id}" if kind == "drift" else ""
        console.print(_runs_table(f"{title}{reference}", [point for point in points if not point.metric], kind))
        members = _members_table([point for point in points if point.metric], kind)
        if members.rows:
            console.print(members)
        last = [point for point in points if not point.metric][-1]
        if last.alarm:
            alarm = EXIT_FAILED
            console.print(f"ALARM ({kind}): {_alarm_sentence(found)}", style="bold red")
    if not found.points:
        reference = f" Its reference run is {found.reference_run_id}." if found.reference_run_id else ""
        console.print(f"Series {found.series}: no run to compare yet.{reference}")
    elif not alarm:
        console.print(f"No alarm. {_alarm_sentence(found)}")
    for note in found.notes:
        console.print(note, style="yellow")
    return alarm


def _alarm_sentence(found: pb.GetSeriesResponse) -> str:
    return (
        f"An alarm is raised at an evidence of {1 / found.alpha:,.0f}; without a change at most {found.alpha:.0%} of "
        "series ever reach it."
    )


def _runs_table(title: str, points: Iterable[pb.SeriesPoint], kind: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    table.add_column("date (UTC)", no_wrap=True)
    table.add_column("revision", overflow="fold")
    for heading in ("n", *_headings(kind), "left\nout", "evidence"):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in points:
        day = datetime.fromtimestamp(point.created_at_s, UTC).strftime("%Y-%m-%d")
        table.add_row(
            point.run_id, day, _short(point.model_revision), *_counts(point, kind), str(point.left_out), _shown(point)
        )
    return table


def _members_table(points: Iterable[pb.SeriesPoint], kind: str) -> Table:
    """Return the members of a kind with most evidence, their counts over all runs."""
    totals: dict[tuple[str, str, str, str, float], pb.SeriesPoint] = {}
    for point in points:
        total = totals.setdefault(
            (point.model, point.condition, point.regime, point.metric, point.limit), pb.SeriesPoint()
        )
        n, worse, better = total.n + point.n, total.worse + point.worse, total.better + point.better
        total.CopyFrom(point)
        total.n, total.worse, total.better = n, worse, better
    most = sorted(totals.values(), key=lambda point: point.evidence, reverse=True)[:MEMBERS_SHOWN]
    title = "Most evidence" if len(totals) <= MEMBERS_SHOWN else f"Most evidence: {len(most)} of {len(totals)}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("metric, model / condition / regime", overflow="fold")
    for heading in ("n", *_headings(kind), "evidence"):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in most:
        metric = point.metric + (f" ≤ {point.limit:g}" if point.HasField("limit") else "")
        head = Text.assemble((metric, "bold"), f"\n{point.model} / {point.condition} / {point.regime}")
        table.add_row(head, *_counts(point, kind), _shown(point))
    return table


def _headings(kind: str) -> tuple[str, ...]:
    return ("worse", "better") if kind == "drift" else ("events",)


def _counts(point: pb.SeriesPoint, kind: str) -> list[str]:
    counts = [point.n, point.worse, *([point.better] if kind == "drift" else [])]
    return [str(count) for count in counts]


def _shown(point: pb.SeriesPoint) -> Text:
    text = f"{point.evidence:,.3g}" if point.evidence < 1e6 else f"{point.evidence:.1e}"
    return Text(f"{text} !" if point.alarm else text, style="bold red" if point.alarm else "")


def _short(revision: str) -> str:
    return revision if len(revision) <= 20 else f"{revision[:19]}…"
