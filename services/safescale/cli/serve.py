"""`safescale serve all`: the four services in this process, until SIGTERM or Ctrl-C."""

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from safescale.cli.runner import run_async
from safescale.core.errors import InvalidInputError
from safescale.runtime.settings import Settings, load_settings

if TYPE_CHECKING:
    from safescale.hosting import HostOptions


def serve(
    what: Annotated[str, typer.Argument(help="all: inference, retrieval, orchestration and scoring in one process.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for gRPC; 0 takes a free one.")] = 50051,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for /metrics; SAFESCALE_METRICS_PORT when left out.")
    ] = None,
) -> None:
    """Serve gRPC (with health and reflection) and /metrics. Unfinished runs are taken up."""
    if what != "all":
        raise InvalidInputError(f"unknown service {what!r}; expected all")
    from safescale.hosting import HostOptions

    settings = load_settings()
    options = HostOptions(
        host=host,
        port=port,
        resume_on_start=True,
        metrics_port=settings.metrics_port if metrics_port is None else metrics_port,
    )
    run_async(_serve(settings, options))


async def _serve(settings: Settings, options: "HostOptions") -> None:
    from safescale.hosting import Host

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Host(settings, options) as host:
        typer.echo(f"gRPC on {host.address}, metrics on {host.metrics_address}")
        await stop.wait()
        typer.echo("Stopping; work in flight is finished first.")
