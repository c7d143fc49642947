"""`safescale serve`: all four services in this process, or one of a grid, until SIGTERM or Ctrl-C."""

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from safescale.cli.runner import run_async
from safescale.core.errors import InvalidInputError
from safescale.runtime.settings import Settings, load_settings

if TYPE_CHECKING:
    from safescale.hosting import HostOptions

WHAT = ("all", "inference", "retrieval", "orchestration", "scoring")


def serve(
    what: Annotated[
        str, typer.Argument(help="all (the four services in one process), or one of " + ", ".join(WHAT[1:]))
    ],
    host: Annotated[str | None, typer.Option(help="Address to listen on; SAFESCALE_HOST, or 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port, 0 takes a free one; SAFESCALE_PORT, or 50051.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for /metrics; SAFESCALE_METRICS_PORT, or 9464.")
    ] = None,
) -> None:
    """Serve gRPC (with health and reflection) or REST, and /metrics. Unfinished runs are taken up."""
    if what not in WHAT:
        raise InvalidInputError(f"unknown service {what!r}; expected one of {', '.join(WHAT)}")
    settings = load_settings()
    changes = {"host": host, "port": port, "metrics_port": metrics_port}
    settings = settings.model_copy(update={name: value for name, value in changes.items() if value is not None})
    from safescale.hosting import HostOptions

    names = [name for name in HostOptions.services if what in ("all", name)]
    options = HostOptions(settings.host, settings.port, names, resume_on_start=True, metrics_port=settings.metrics_port)
    run_async(_serve(settings, options))


async def _serve(settings: Settings, options: "HostOptions") -> None:
    from safescale.hosting import Host

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        starting = asyncio.ensure_future(stack.enter_async_context(Host(settings, options)))
        told = asyncio.ensure_future(stop.wait())
        # A grid's service waits for Kafka and Elasticsearch: it must end when it is told to, also then.
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        host = starting.result()
        typer.echo(f"gRPC on {host.address}, metrics on {host.metrics_address}")
        await told
        typer.echo("Stopping; work in flight is finished first.")
