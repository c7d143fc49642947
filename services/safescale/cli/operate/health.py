"""`safescale health`: whether a server is ready."""

from typing import Annotated

import typer

from safescale.core.errors import ServiceUnavailableError
from safescale.runtime.settings import Settings


def health(
    target: Annotated[
        str | None,
        typer.Argument(
            help="host:port of gRPC, or a URL that answers 200 when ready; left out: the servers that the settings "
            "name (SAFESCALE_SERVER or those of each service), or else this machine's at SAFESCALE_PORT."
        ),
    ] = None,
) -> None:
    """Exit with 0 when the server says that it is ready, else with 1 and a sentence."""
    from safescale.probe import ask
    from safescale.runtime.addresses import checked
    from safescale.runtime.settings import load_settings

    asked = [target] if target else _named(load_settings())
    for each in asked:
        if reason := ask(each if "://" in each else checked(each)):
            raise ServiceUnavailableError(reason)
    typer.echo("ready")


def _named(settings: Settings) -> list[str]:
    """Addresses of the servers that commands of these settings ask."""
    from safescale.runtime.addresses import address_of, reachable

    named = [settings.inference, settings.retrieval, settings.orchestration, settings.scoring]
    found = [address or settings.server for address in named]
    return list(dict.fromkeys(filter(None, found))) or [address_of(reachable(settings.host), settings.port)]
