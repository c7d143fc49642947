"""`safescale health`: whether a server is ready."""

from typing import Annotated

import typer

from safescale.core.errors import ServiceUnavailableError


def health(
    target: Annotated[
        str | None,
        typer.Argument(help="host:port of gRPC, or a URL that answers 200 when ready; 127.0.0.1 and SAFESCALE_PORT."),
    ] = None,
) -> None:
    """Exit with 0 when the server says that it is ready, else with 1 and a sentence."""
    from safescale.probe import ask
    from safescale.runtime.settings import LOOPBACK, load_settings

    if reason := ask(target or f"{LOOPBACK}:{load_settings().port}"):
        raise ServiceUnavailableError(reason)
    typer.echo("ready")
