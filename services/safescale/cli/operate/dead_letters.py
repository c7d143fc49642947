"""`safescale dead-letters`: messages that were given up; shown, and published again."""

import base64
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from safescale.cli.operate.kafka import kafka_command
from safescale.cli.runner import confirm
from safescale.cli.terminal.text import printable, terminal
from safescale.core.errors import InvalidInputError

if TYPE_CHECKING:
    from safescale.admin.dead_letters import DeadLetter
    from safescale.runtime.bus.port import Message

BASE64_SHOWN = 4096
"""Bytes of an unreadable payload that are shown."""

app = typer.Typer(help="List, show and replay messages that were given up.", no_args_is_help=True)


@app.command(name="list")
def list_dead_letters(
    run: Annotated[str, typer.Option(help="Those of one run, by its id.")] = "",
    open_only: Annotated[bool, typer.Option("--open", help="Those that were not replayed.")] = False,
) -> None:
    """List dead letters, oldest first, without their payloads."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("id", no_wrap=True)
    for heading in ("given up at", "topic", "reason", "run", "key", "replayed at"):
        table.add_column(heading, overflow="fold")
    with kafka_command() as (_settings, connection):
        from safescale.admin.dead_letters import DeadLetters

        for letter in DeadLetters(connection).read():
            if (run and letter.run_id != run) or (open_only and letter.replayed_at):
                continue
            table.add_row(
                letter.id,
                letter.given_up_at.isoformat(timespec="seconds"),
                letter.topic,
                letter.message.headers.get("error-reason", ""),
                letter.run_id,
                printable(letter.message.key),
                letter.replayed_at,
            )
    if not table.row_count:
        typer.echo("There are no such dead letters.")
        return
    terminal().print(table, markup=False)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="Identifier, as `safescale dead-letters list` prints it.")],
    payload: Annotated[
        bool, typer.Option("--payload", help="The payload too, as JSON. It may hold patients' data.")
    ] = False,
) -> None:
    """Show a dead letter's headers and size; its payload only when asked for, since it may hold patients' data."""
    with kafka_command() as (_settings, connection):
        from safescale.admin.dead_letters import DeadLetters

        found = DeadLetters(connection).get(letter)
    typer.echo(f"id: {found.id}")
    typer.echo(f"given up at: {found.given_up_at.isoformat(timespec='seconds')}")
    typer.echo(f"replayed at: {found.replayed_at or 'never'}")
    typer.echo(f"key: {printable(found.message.key)}")
    typer.echo(f"size: {found.omitted or len(found.message.value):,} bytes{' (not kept)' if found.omitted else ''}")
    for name, value in sorted(found.message.headers.items()):
        typer.echo(f"  {printable(name)}: {printable(value)}")
    if payload:
        typer.echo(payload_text(found.message))


def payload_text(message: "Message") -> str:
    """Payload as JSON by the message type in its headers; else what it is, and its bytes in base64."""
    from google.protobuf import json_format, symbol_database
    from google.protobuf.message import DecodeError

    # Fills the database of message types.
    from safescale.rpc.events.v1 import events_pb2  # noqa: F401

    name = message.headers.get("message-type", "")
    shown = base64.b64encode(message.value[:BASE64_SHOWN]).decode()
    try:
        kind = symbol_database.Default().GetSymbol(name)
        return json_format.MessageToJson(kind.FromString(message.value))
    except KeyError:
        return f"payload of an unknown type {printable(name)!r}, in base64: {shown}"
    except (DecodeError, UnicodeDecodeError, json_format.Error):
        return f"payload is no readable {name}, in base64: {shown}"


@app.command()
def replay(
    letter: Annotated[str, typer.Argument(help="Identifier, as `safescale dead-letters list` prints it.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that were not replayed.")] = False,
    run: Annotated[str, typer.Option(help="All of one run that were not replayed, by its id.")] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Even if it was replayed before; for one dead letter.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Publish messages again, to the topics that they came from, with their bytes and headers.

    A run that a dead letter ended goes on with `safescale run` of its spec, or `safescale runs retry`.
    """
    if sum((bool(letter), everything, bool(run))) != 1:
        raise InvalidInputError("expected one of: an identifier, --all, --run RUN")
    if again and not letter:
        raise InvalidInputError("--again goes with one identifier")
    with kafka_command() as (_settings, connection):
        from safescale.admin.dead_letters import DeadLetters, check_replayable

        letters = DeadLetters(connection)
        if letter:
            found = letters.get(letter)
            check_replayable(found, again)
            letters.replay([found], again)
            typer.echo(f"Replayed {found.id} to {found.topic}.")
            return
        # Read twice, so that values need not be held while the question waits.
        chosen = {item.id for item in letters.read() if _wanted(item, run)}
        if not chosen:
            typer.echo("There is nothing to replay.")
            return
        confirm(f"Replay {len(chosen)} dead letter{'s' if len(chosen) > 1 else ''}?", yes)
        count = letters.replay(item for item in letters.read() if item.id in chosen and not item.replayed_at)
    typer.echo(f"Replayed {count}.")


def _wanted(letter: "DeadLetter", run: str) -> bool:
    """Whether a dead letter is one of those to replay; one that cannot be is reported and left."""
    if letter.replayed_at or (run and letter.run_id != run):
        return False
    if letter.omitted or not letter.topic:
        typer.echo(
            f"{letter.id} is left: it does not hold its message (`safescale dead-letters show {letter.id}`)", err=True
        )
        return False
    return True
