"""`safescale health`: whether a server is ready, for health checks of containers."""

import asyncio
import urllib.error
import urllib.request
from typing import Annotated

import typer

from safescale.cli.runner import run_async
from safescale.core.errors import InvalidInputError, ServiceUnavailableError

DEADLINE_S = 5.0


def health(
    address: Annotated[
        str | None, typer.Option(help="host:port of gRPC; 127.0.0.1 and SAFESCALE_PORT when left out.")
    ] = None,
    http: Annotated[str | None, typer.Option(help="URL that answers 200 when ready, such as the gateway's.")] = None,
) -> None:
    """Exit with 0 when the server says that it is ready, else with 1 and a sentence."""
    if http is not None:
        _ask_http(http)
    else:
        run_async(_ask_grpc(address))
    typer.echo("ready")


def _ask_http(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise InvalidInputError(f"--http is {url!r}; expected a URL with http:// or https://")
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:  # noqa: S310
            status = response.status
    except (OSError, urllib.error.URLError) as error:
        raise ServiceUnavailableError(f"{url} is not ready: {error}") from error
    if status != 200:
        raise ServiceUnavailableError(f"{url} is not ready: it answered {status}")


async def _ask_grpc(address: str | None) -> None:
    from safescale.cli.session import wait_serving
    from safescale.runtime.channels import connect
    from safescale.runtime.settings import LOOPBACK, load_settings

    target = address or f"{LOOPBACK}:{load_settings().port}"
    channel = connect(target)
    try:
        await asyncio.wait_for(wait_serving(channel, target), 2 * DEADLINE_S)
    finally:
        await channel.close()
