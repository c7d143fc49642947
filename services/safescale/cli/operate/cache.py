"""`safescale cache`: what the generation cache holds, and removing from it."""

import re
from collections.abc import Mapping
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from safescale.cli.runner import run_async
from safescale.cli.session import session
from safescale.cli.terminal.text import say, terminal
from safescale.core.errors import InvalidInputError
from safescale.rpc.inference.v1 import inference_pb2 as pb
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES: Mapping[str, int] = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

app = typer.Typer(help="Show and trim the answers that are kept so that no model is asked twice.")


@app.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """Show what the generation cache holds, by model; with `trim`, remove answers from it."""
    if context.invoked_subcommand is None:
        run_async(_show(load_settings()))


async def _show(settings: Settings) -> None:
    async with session(settings) as client:
        with rpc_errors():
            cache = await client.inference.GetCache(pb.GetCacheRequest())
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    table.add_column("model")
    table.add_column("answers", justify="right")
    table.add_column("size", justify="right")
    for model in cache.models:
        table.add_row(model.model or "(of version 0.1.0)", f"{model.entry_count:,}", shown_bytes(model.bytes))
    if cache.models:
        terminal().print(table)
    total = sum(model.bytes for model in cache.models)
    bound = f"of {shown_bytes(cache.max_bytes)} that it may hold" if cache.max_bytes else "without a bound"
    say(f"The generation cache holds {shown_bytes(total)} {bound} (SAFESCALE_CACHE_MAX_BYTES).")


@app.command()
def trim(
    model: Annotated[str, typer.Option(help="Only answers of this model; alone, all of them.")] = "",
    older_than: Annotated[str, typer.Option(help="What was stored longer ago: 90m, 12h, 30d.")] = "",
    max_bytes: Annotated[str, typer.Option(help="The oldest, until so much is left: 500MiB, 2GiB, 0.")] = "",
) -> None:
    """Remove answers; what is wanted again is asked again. At least one option is needed."""
    request = pb.TrimCacheRequest(model=model)
    if older_than:
        request.older_than_s = _number("--older-than", older_than, SECONDS)
    if max_bytes:
        request.max_bytes = int(_number("--max-bytes", max_bytes, BYTES))
    if not (model or older_than or max_bytes):
        raise InvalidInputError("nothing says what is to go; expected --model, --older-than or --max-bytes")
    run_async(_trim(load_settings(), request))


async def _trim(settings: Settings, request: pb.TrimCacheRequest) -> None:
    async with session(settings) as client:
        with rpc_errors():
            done = await client.inference.TrimCache(request)
    removed = f"{done.removed_count:,} answers ({shown_bytes(done.removed_bytes)})"
    say(f"Removed {removed}; {shown_bytes(done.bytes)} are left.")


def _number(option: str, text: str, units: Mapping[str, int]) -> float:
    """Return a number with its unit.

    Raises:
        InvalidInputError: it is not a number with a unit, or not above 0 where it is a time.

    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]*)", text.strip())
    unit = found.group(2) if found else ""
    if found is None or unit not in units or (units is SECONDS and not float(found.group(1))):
        names = ", ".join(name for name in units if name)
        raise InvalidInputError(f"{option} is {text!r}; expected a number with one of the units {names}")
    return float(found.group(1)) * units[unit]


def shown_bytes(size: int) -> str:
    """Bytes in the largest unit of which there is one."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= BYTES[unit]:
            return f"{size / BYTES[unit]:.1f} {unit}"
    return f"{size} B"
