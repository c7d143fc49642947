"""The model catalog."""

from typing import Annotated

from fastapi import APIRouter, Path

from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.schemas import Model, ModelList
from safescale.gateway.api.query import PREFIX
from safescale.gateway.clients import ask
from safescale.gateway.context import GatewayOf
from safescale.gateway.messages import plain
from safescale.rpc.inference.v1 import inference_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["models"])


@router.get(
    "/models",
    operation_id="listModels",
    summary="List the models",
    responses={200: answer(ModelList, "The catalog."), **problems()},
)
async def list_models(gateway: GatewayOf) -> ModelList:
    """All rows of the catalog, and whether each model can be asked now."""
    found = await ask(gateway.services.inference.ListModels, pb.ListModelsRequest(), gateway.config.deadlines.slow_s)
    return ModelList(items=[_model(each) for each in found.models])


def _model(row: pb.Model) -> Model:
    # 0 stands for a size that is not known.
    return Model.model_validate({**plain(row), "parameters_b": row.parameters_b or None})


@router.get(
    "/models/{model:path}",
    operation_id="getModel",
    summary="Read a model",
    responses={200: answer(Model, "The row."), **problems(404)},
)
async def get_model(
    gateway: GatewayOf,
    model: Annotated[
        str, Path(min_length=1, max_length=200, description="Catalog id.", examples=[examples.MODEL["id"]])
    ],
) -> Model:
    """One row of the catalog."""
    found = await ask(
        gateway.services.inference.GetModel, pb.GetModelRequest(model=model), gateway.config.deadlines.slow_s
    )
    return _model(found.model)
