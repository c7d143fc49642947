"""`safescale models`: the model catalog."""

from rich.console import Console
from rich.table import Table

from safescale.cli.runner import run_async
from safescale.cli.session import session
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.inference.v1 import inference_pb2
from safescale.runtime.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings


def models() -> None:
    """List the models that a run spec can name, and whether each can be asked now."""
    run_async(_models(load_settings()))


async def _models(settings: Settings) -> None:
    async with session(settings) as client:
        with rpc_errors():
            response = await client.inference.ListModels(inference_pb2.ListModelsRequest())
    table = Table(title="Models", title_justify="left")
    for heading in ("id", "family", "parameters", "window", "backend", "formulation", "licence", "available"):
        table.add_column(heading, overflow="fold")
    for model in response.models:
        table.add_row(
            model.id,
            model.family,
            f"{model.parameters_b:g} B",
            f"{model.window_tokens:,}",
            model.backend,
            formulation_from_proto(model.auto_formulation),
            model.license,
            "yes" if model.available else f"no: {model.unavailable_reason}",
        )
    Console().print(table)
