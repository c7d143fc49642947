"""The command line `safescale`. A command's module is imported when it is called, or when help lists it."""

import importlib
import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from safescale import __version__
from safescale.cli.runner import guarded
from safescale.cli.terminal.output import prepare

COMMANDS: Mapping[str, str] = {
    "run": "measure.run:run",
    "report": "measure.report:report",
    "gate": "measure.gate:gate",
    "plan": "measure.plan:plan",
    "compare": "measure.compare:compare",
    "export": "measure.export:export",
    "runs": "measure.runs:app",
    "series": "measure.series:series",
    "reviews": "measure.reviews:app",
    "research": "measure.research:app",
    "analyze": "measure.analyze:analyze",
    "benchmark": "measure.benchmark:app",
    "models": "operate.models:models",
    "cache": "operate.cache:app",
    "serve": "operate.serve:app",
    "backup": "operate.backup:backup",
    "restore": "operate.backup:restore",
    "tokens": "operate.tokens:app",
    "audit": "operate.audit:audit",
    "health": "operate.health:health",
    "indices": "operate.indices:app",
    "topics": "operate.topics:app",
    "dead-letters": "operate.dead_letters:app",
    "metrics": "operate.telemetry:metrics",
}
"""Module and function or application of each command, in the order of the help."""


class LazyCommands(TyperGroup):
    """Loads a command when it is asked for."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ARG002
        """Return the command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        target = getattr(importlib.import_module(f"safescale.cli.{module}"), attribute)
        if not isinstance(target, typer.Typer):
            single = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
            single.command(name=cmd_name)(target)
            target = single
        command = typer.main.get_command(target)
        command.name = cmd_name
        return command


app = typer.Typer(cls=LazyCommands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"safescale {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure whether a clinical language model, as it will be deployed, is safe."""


def main() -> None:
    """Entry point of the console script."""
    # gRPC's own log writes to standard error beside our sentences; set before it is imported, left if set.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    prepare()
    guarded(app)


if __name__ == "__main__":
    main()
