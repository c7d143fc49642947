"""`safescale serve`: all four services in this process, one part of a grid, or a model; until SIGTERM or Ctrl-C."""

import asyncio
import gc
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from safescale.cli.runner import run_async
from safescale.runtime.settings import Settings, load_settings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Serve until SIGTERM or Ctrl-C; work in flight is finished first.",
)

HostOption = Annotated[str | None, typer.Option(help="Address to listen on; SAFESCALE_HOST, or 127.0.0.1.")]
PortOption = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port, 0 takes a free one; SAFESCALE_PORT when left out.")
]
MetricsPortOption = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port for /metrics; SAFESCALE_METRICS_PORT when left out.")
]

PARTS = {
    "all": "The four services in one process: gRPC with health and reflection, and /metrics.",
    "inference": "Inference alone, as part of a grid.",
    "retrieval": "Retrieval alone, as part of a grid.",
    "orchestration": "Orchestration alone, as part of a grid. Unfinished runs are taken up.",
    "scoring": "Scoring alone, as part of a grid.",
}
GATEWAY_PORT = 8080


class RunningPart(Protocol):
    """Something that serves, as a person sees it."""

    @property
    def description(self) -> str:
        """Where it answers, in a line."""


def _settings(**changes: object) -> Settings:
    given = {name: value for name, value in changes.items() if value is not None}
    return load_settings().model_copy(update=given)


def _part(name: str) -> Callable[..., None]:
    def serve(host: HostOption = None, port: PortOption = None, metrics_port: MetricsPortOption = None) -> None:
        from safescale.app.host import Host, HostOptions

        settings = _settings(host=host, port=port, metrics_port=metrics_port)
        names = [each for each in HostOptions.services if name in ("all", each)]
        options = HostOptions(
            settings.host, settings.port, names, resume_on_start=True, metrics_port=settings.metrics_port
        )
        run_async(_until_stopped(Host(settings, options)))

    return serve


for _name, _help in PARTS.items():
    app.command(_name, help=_help)(_part(_name))


@app.command()
def gateway(
    host: HostOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; SAFESCALE_PORT, or 8080.")] = None,
) -> None:
    """REST over the four services, which the settings name: /api/v1, /healthz, /readyz and /metrics."""
    from safescale.app.host import gateway_host

    settings = _settings(host=host, port=port)
    if "port" not in settings.model_fields_set:
        settings = settings.model_copy(update={"port": GATEWAY_PORT})
    run_async(_until_stopped(gateway_host(settings)))


@app.command("model-server")
def model_server(
    model: Annotated[str, typer.Option(help="Catalog id of an embedded model.")] = "smollm2-135m-instruct",
    host: HostOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; SAFESCALE_PORT, or 8080.")] = None,
    slots: Annotated[int, typer.Option(min=1, help="Calls at once.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the computation.")] = 1,
    context: Annotated[
        int | None, typer.Option(min=256, help="Tokens of each slot; the catalog's when left out.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File with the bearer token that callers need.")] = None,
    request_log: Annotated[
        Path | None, typer.Option(help="File that gets a line of JSON, without texts, per call.")
    ] = None,
) -> None:
    """Serve a model of the catalog OpenAI-compatibly with llama.cpp, for machines without a model server."""
    from safescale.app.host import model_server_host

    settings = _settings(host=host, port=port)
    if "port" not in settings.model_fields_set:
        settings = settings.model_copy(update={"port": GATEWAY_PORT})
    options = {"slots": slots, "threads": threads, "context": context, "api_key_file": api_key_file}
    run_async(_until_stopped(model_server_host(settings, model, request_log=request_log, **options)))


async def _until_stopped(serving: AbstractAsyncContextManager[Any]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        starting = asyncio.ensure_future(stack.enter_async_context(serving))
        stopped = asyncio.ensure_future(stop.wait())
        # A grid's service waits for Kafka and Elasticsearch: it must stop on a signal even then.
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        running: RunningPart = starting.result()
        typer.echo(running.description)
        # What is allocated now lives to the end: the garbage collector need not walk through it again.
        gc.collect()
        gc.freeze()
        await stopped
        typer.echo("Stopping; work in flight is finished first.")
