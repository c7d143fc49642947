"""The command line `safescale`."""

from typing import Annotated

import typer

from safescale import __version__
from safescale.cli import benchmark, export, gate, models, report, research, reviews, runs, serve, telemetry
from safescale.cli.analyze import analyze
from safescale.cli.run import run
from safescale.cli.runner import guarded

app = typer.Typer(
    help="Measures whether a clinical language model, as it will be deployed, is safe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


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
    """Measures whether a clinical language model, as it will be deployed, is safe."""


app.command()(run)
app.command()(analyze)
app.command()(report.report)
app.command()(gate.gate)
app.command()(export.export)
app.command()(serve.serve)
app.command()(models.models)
app.command(name="metrics")(telemetry.metrics)
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(runs.app, name="runs")
app.add_typer(research.app, name="research")
app.add_typer(reviews.app, name="reviews")


def main() -> None:
    """Entry point of the console script."""
    guarded(app)


if __name__ == "__main__":
    main()
