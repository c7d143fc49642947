"""`safescale models`: the model catalog."""

from rich import box
from rich.table import Table

from safescale.cli.runner import run_async
from safescale.cli.session import session
from safescale.cli.terminal.text import terminal
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.inference.v1 import inference_pb2
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings


def models() -> None:
    """List the models that a run spec can name, and whether each can be asked now."""
    run_async(_models(load_settings()))


async def _models(settings: Settings) -> None:
    async with session(settings) as client:
        with rpc_errors():
            response = await client.inference.ListModels(inference_pb2.ListModelsRequest())
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    for heading in ("parameters", "window", "auto", "backend", "licence"):
        table.add_column(heading)
    for model in response.models:
        table.add_row(
            model.id,
            f"{model.parameters_b:g} B" if model.parameters_b else "unknown",
            f"{model.window_tokens:,}",
            formulation_from_proto(model.auto_formulation),
            model.backend,
            model.license,
        )
    console = terminal()
    console.print(table)
    for model in response.models:
        if not model.available:
            console.print(f"{model.id} cannot be asked: {model.unavailable_reason}", highlight=False, soft_wrap=True)
