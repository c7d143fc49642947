"""`safescale topics`: the topics of Kafka, as they are and as they are declared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from safescale.cli.operate.kafka import declared, kafka_command
from safescale.cli.runner import EXIT_FAILED, confirm
from safescale.cli.terminal.text import terminal

if TYPE_CHECKING:
    from safescale.admin.topic_plan import Difference

SIGNS = {"create": "+", "change": "~", "refuse": "!", "note": " "}

app = typer.Typer(help="List, compare and make the topics of Kafka.", no_args_is_help=True)


@app.command(name="list")
def list_topics() -> None:
    """List the topics that there are, and how many messages each holds."""
    with kafka_command() as (settings, connection):
        from safescale.admin.topic_plan import MESSAGE_BYTES, RETENTION
        from safescale.admin.topics import topic_admin

        with topic_admin(connection) as admin:
            found = admin.listed(declared(settings))
    if not found:
        typer.echo("There are no topics; `safescale topics apply` makes them.")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    table.add_column("topic", no_wrap=True)
    for heading in ("partitions", "replicas", "kept", "largest message", "messages"):
        table.add_column(heading, justify="right")
    for item in found:
        topic = item.topic
        table.add_row(
            topic.name,
            str(topic.partitions),
            str(topic.replicas),
            _kept(topic.settings.get(RETENTION, "")),
            _bytes(topic.settings.get(MESSAGE_BYTES, "")),
            f"{item.messages:,}",
        )
    terminal().print(table)


def _kept(milliseconds: str) -> str:
    if milliseconds in ("", "-1"):
        return {"": "", "-1": "for ever"}[milliseconds]
    return f"{int(milliseconds) / 3_600_000:g} h"


def _bytes(text: str) -> str:
    return f"{int(text):,} B" if text else ""


@app.command()
def diff() -> None:
    """Show how the topics differ from what is declared. Exit code 1 when something is to be done."""
    with kafka_command() as (settings, connection):
        from safescale.admin.topic_plan import differences
        from safescale.admin.topics import topic_admin

        topics = declared(settings)
        with topic_admin(connection) as admin:
            found = differences(topics, admin.existing(topics))
    _show(found)
    if _to_do(found):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def apply(
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Make missing topics and change those that differ; what differs is shown first. Nothing is ever taken away."""
    with kafka_command() as (settings, connection):
        from safescale.admin.topic_plan import differences
        from safescale.admin.topics import topic_admin

        topics = declared(settings)
        with topic_admin(connection) as admin:
            found = differences(topics, admin.existing(topics))
            _show(found)
            if not _to_do(found):
                return
            if not any(difference.kind == "refuse" for difference in found):
                confirm("Apply?", yes)
            admin.apply(found, settings.kafka_replication)
    count = sum(difference.kind in ("create", "change") for difference in found)
    typer.echo(f"Applied: {count} difference{'s' if count > 1 else ''}.")


def _to_do(found: "Sequence[Difference]") -> bool:
    return any(difference.kind != "note" for difference in found)


def _show(found: "Sequence[Difference]") -> None:
    for difference in found:
        typer.echo(f"{SIGNS[difference.kind]} {difference.topic}: {difference.text}")
    if not _to_do(found):
        typer.echo("The topics are as declared.")
