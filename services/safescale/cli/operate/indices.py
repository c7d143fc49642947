"""`safescale indices`: the indices of the records in Elasticsearch, as declared and as they are."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from safescale.cli.runner import EXIT_FAILED, confirm, run_async
from safescale.cli.terminal.text import terminal
from safescale.core.errors import InvalidInputError
from safescale.runtime.settings import load_settings

# What needs Elasticsearch's client is imported where it is used: help is there without it.
if TYPE_CHECKING:
    from safescale.admin.indices import Indices, KindState, Step
    from safescale.runtime.elastic import ElasticConnection

app = typer.Typer(help="Create, compare and migrate the indices in Elasticsearch.", no_args_is_help=True)

STOPPED = "Stopped. The same command goes on from here."


@dataclass(frozen=True)
class _Admin:
    """What the commands work with."""

    connection: "ElasticConnection"
    indices: "Indices"
    replicas: int


@asynccontextmanager
async def _admin() -> AsyncIterator[_Admin]:
    settings = load_settings()
    if not settings.elasticsearch:
        raise InvalidInputError("SAFESCALE_ELASTICSEARCH is empty; expected Elasticsearch's URLs, http(s)://host:port")
    from safescale.admin.indices import Indices
    from safescale.runtime.elastic import ElasticConnection
    from safescale.runtime.telemetry import Telemetry

    connection = ElasticConnection(settings, Telemetry())
    try:
        replicas = settings.elasticsearch_replicas
        yield _Admin(connection, Indices(connection, settings.elasticsearch_prefix, replicas), replicas)
    finally:
        await connection.close()


@app.command(name="list")
def list_() -> None:
    """List the index of each kind of record, its version and state."""
    run_async(_list())


async def _list() -> None:
    async with _admin() as admin:
        states = await admin.indices.states()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in ("kind", "index", "declared", "state"):
        table.add_column(heading, overflow="fold")
    for state in states:
        for name, word in _rows(state):
            table.add_row(state.kind.name, name, f"v{state.kind.version}", word)
    terminal().print(table)


def _rows(state: "KindState") -> list[tuple[str, str]]:
    rows = []
    for index in state.indices:
        words = ["in use" if index.aliased else "not in use"]
        if index.blocked:
            words.append("not written")
        rows.append((index.name, ", ".join(words)))
    return rows or [("—", "missing")]


@app.command()
def diff() -> None:
    """Show what differs from what is declared, and the step that changes it. Exit code 1 when something does."""
    if run_async(_diff()):
        raise typer.Exit(EXIT_FAILED)


async def _diff() -> "Sequence[Step]":
    async with _admin() as admin:
        steps = await admin.indices.plan()
    _show(steps)
    return steps


def _show(steps: "Sequence[Step]") -> None:
    from safescale.admin.indices import Action

    if not steps:
        typer.echo("The indices are as declared.")
    for step in steps:
        mark = {Action.MIGRATE: "!", Action.ASK: "!"}.get(step.action, "+")
        typer.echo(f"{mark} {step.action.value} {step.name}: {step.why}")


Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


@app.command()
def apply(yes: Yes = False) -> None:
    """Show the difference, then create what is missing and change settings. Nothing is deleted or copied.

    Exit code 1 when a step is left for `migrate` or for you.
    """
    if run_async(_apply(yes), STOPPED):
        raise typer.Exit(EXIT_FAILED)


async def _apply(yes: bool) -> bool:
    from safescale.admin.indices import APPLIED, Action

    async with _admin() as admin:
        steps = await admin.indices.plan()
        _show(steps)
        taken = [step for step in steps if step.action in APPLIED]
        if taken:
            confirm("Apply?", yes)
        for step in taken:
            await admin.indices.apply(step)
        left = await admin.indices.plan() if taken else steps
    if taken:
        typer.echo(f"Applied: {len(taken)} step{'s' if len(taken) > 1 else ''}.")
    if any(step.action is Action.MIGRATE for step in left):
        typer.echo("`safescale indices migrate` copies what is of an older version.", err=True)
    return bool(left)


@app.command()
def migrate(
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Delete the indices of older versions that are in use no more.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Copy each kind of an older version into a new index and switch to it. Reads go on; writes wait meanwhile.

    The old index is kept until --drop-old. Stopped anywhere, the same command goes on.
    """
    run_async(_migrate(drop_old, yes), STOPPED)


async def _migrate(drop_old: bool, yes: bool) -> None:
    from safescale.admin.indices import Action
    from safescale.admin.migration import Migration

    async with _admin() as admin:
        steps = [step for step in await admin.indices.plan() if step.action is Action.MIGRATE]
        if steps:
            _show(steps)
            confirm("Migrate? Writes wait meanwhile.", yes)
        for step in await admin.indices.plan():
            if step.action is Action.PUT_TEMPLATE:
                await admin.indices.apply(step)
        migration = Migration(admin.connection, admin.indices, admin.replicas, typer.echo)
        done = 0
        for state in await admin.indices.states():
            if state.current is not None and await migration.migrate(state) is not None:
                done += 1
        typer.echo(
            f"Migrated: {done} kind{'s' if done > 1 else ''}." if done else "Every kind is of its declared version."
        )
        if not drop_old:
            return
        for state in await admin.indices.states():
            for name in await migration.drop_old(state):
                typer.echo(f"deleted {name}")
