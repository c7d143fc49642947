"""The live view of a run: progress per model and condition, speed, failures, time left."""

import asyncio
import time
from collections.abc import AsyncIterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from safescale.cli.session import Client
from safescale.core.errors import FailedPreconditionError, ServiceUnavailableError
from safescale.core.safety.conditions import CONDITIONS
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.grpc.channels import responses, rpc_errors

AWAY_S = 300.0
"""Seconds for which a server that went away is waited for."""

REATTACH_S = 1.0

GO_ON_S = 600.0
"""Deadline of taking up a run, in seconds."""

PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines where the output is no terminal."""

BAR = 24
"""Columns of a bar."""

COUNTS = 14
"""Columns kept for the numbers beside a bar, with what lies between."""

PAPER_NAMES = {row.id: row.paper_name for row in CONDITIONS}


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _totals(progress: pb.Progress) -> tuple[int, int, int, int]:
    rows = progress.cells
    return (
        sum(row.planned for row in rows), sum(row.completed for row in rows),
        sum(row.failed for row in rows), sum(row.skipped for row in rows),
    )  # fmt: skip


def status_line(progress: pb.Progress) -> str:
    """One line: cells done, speed, tokens per second, failures, time left."""
    planned, completed, failed, skipped = _totals(progress)
    parts = [f"{completed}/{planned} cells"]
    if progress.completed_here and progress.elapsed_s > 0:
        rate = progress.completed_here / progress.elapsed_s
        parts += [f"{rate:.2f} cells/s", f"{progress.tokens / progress.elapsed_s:,.0f} tokens/s"]
    if failed:
        parts.append(f"{failed} failed")
    if skipped:
        parts.append(f"{skipped} skipped")
    if progress.contexts_awaited:
        parts.append(f"{progress.contexts_awaited} contexts being built")
    parts.append(f"elapsed {duration(progress.elapsed_s)}")
    if progress.completed_here and completed < planned:
        left = (planned - completed) * progress.elapsed_s / progress.completed_here
        parts.append(f"left about {duration(left)}")
    return " · ".join(parts)


def view(run: pb.Run, progress: pb.Progress, width: int = 10_000) -> RenderableType:
    """Return the view of a terminal of `width` columns: a row per condition, a bar per model; else lines alone."""
    models = list(run.manifest.spec.models)
    rows = {(row.model, row.condition): row for row in progress.cells}
    conditions = list(run.manifest.spec.conditions)
    needed = max(map(len, conditions), default=0) + sum(max(len(model), BAR) + COUNTS for model in models)
    last = [Text(f"last failure: {progress.last_failure}", style="red")] if progress.last_failure else []
    if needed > width:
        several = len(models) > 1
        heads = [(f"{name}, {model}" if several else name, model, name) for name in conditions for model in models]
        lines = [Text.assemble(f"{head}: ", _counts(rows[model, name])) for head, model, name in heads]
        return Group(Text(f"Run {run.run_id}"), Text(status_line(progress)), *last, *lines)
    table = Table(title=f"Run {run.run_id}", title_justify="left", box=None, padding=(0, 1))
    table.add_column("condition")
    for model in models:
        table.add_column(model)
        table.add_column("", justify="right")
    for name in conditions:
        cells: list[RenderableType] = [Text(name)]
        for model in models:
            row = rows[model, name]
            cells.append(ProgressBar(total=max(1, row.planned), completed=row.completed, width=BAR))
            cells.append(_counts(row))
        table.add_row(*cells)
    return Group(table, Text(status_line(progress)), *last)


def _counts(row: pb.CellProgress) -> Text:
    text = Text(f"{row.completed}/{row.planned}")
    if row.failed:
        text.append(f" {row.failed} failed", style="red")
    if row.skipped:
        text.append(f" {row.skipped} skipped", style="yellow")
    return text


async def watched(client: Client, run_id: str) -> AsyncIterator[pb.WatchRunResponse]:
    """Progress of a run until it ends. A server that goes away is tried again: the run continues when it is back.

    Where the server was another command on our data folder, the run continues at the next one, or in this process.

    Raises:
        ServiceUnavailableError: the server stayed away for five minutes.
        FailedPreconditionError: the data folder is held by a process that does not answer.

    """
    heard = time.monotonic()
    while True:
        try:
            last = None
            async for last in responses(client.orchestration.WatchRun(pb.WatchRunRequest(run_id=run_id))):
                heard = time.monotonic()
                yield last
            if last is None or last.state != pb.RUN_STATE_RUNNING:
                return
            if client.guest:
                await _go_on(client, run_id)
        except ServiceUnavailableError:
            _raise_if_cancelled()
            if client.guest:
                await client.renew()
                heard = time.monotonic()
                await client.lasting(lambda: _go_on(client, run_id))
                continue
            if client.embedded or time.monotonic() - heard > AWAY_S:
                raise
        _raise_if_cancelled()
        await asyncio.sleep(REATTACH_S)


async def _go_on(client: Client, run_id: str) -> None:
    """Have a run driven that is recorded as running: the process that drove it has ended, perhaps.

    Raises:
        FailedPreconditionError: the services take up another run of the same spec.

    """
    with rpc_errors():
        request = pb.GetRunRequest(run_id=run_id, without_progress=True)
        run = (await client.orchestration.GetRun(request, timeout=GO_ON_S)).run
        if run.state != pb.RUN_STATE_RUNNING:
            return
        again = await client.orchestration.CreateRun(pb.CreateRunRequest(spec=run.manifest.spec), timeout=GO_ON_S)
    if again.run.run_id != run_id:
        raise FailedPreconditionError(
            f"run {run_id} stopped with the process that drove it, and {again.run.run_id} of the same spec is newer: "
            "the same command follows that one"
        )


def _raise_if_cancelled() -> None:
    """Raise a cancellation that a stream ending at the same moment has swallowed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def follow(
    console: Console, run: pb.Run, updates: AsyncIterator[pb.WatchRunResponse]
) -> pb.WatchRunResponse | None:
    """Show updates until they end; the last one."""
    last: pb.WatchRunResponse | None = None
    if not console.is_terminal:
        shown = 0.0
        async for last in updates:
            if time.monotonic() - shown >= PLAIN_INTERVAL_S:
                shown = time.monotonic()
                console.print(status_line(last.progress), soft_wrap=True, highlight=False)
        return last
    with Live(console=console, auto_refresh=False, transient=False) as live:
        async for last in updates:
            live.update(view(run, last.progress, console.width), refresh=True)
    return last
