"""Series of repeated runs: is what is measured again and again getting worse?"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path

from safescale.core.inputs.text_rules import MAX_NAME
from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.schemas_series import SeriesEvidence, SeriesList, SeriesRuns
from safescale.gateway.api.query import PREFIX
from safescale.gateway.clients import ask
from safescale.gateway.context import GatewayOf
from safescale.gateway.messages import plain
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["results"])

SeriesName = Annotated[
    str, Path(min_length=1, max_length=MAX_NAME, description="Name of a series.", examples=[examples.SERIES])
]


@router.get(
    "/series",
    operation_id="listSeries",
    summary="List the series",
    responses={200: answer(SeriesList, "All series, by name."), **problems()},
)
async def list_series(gateway: GatewayOf) -> SeriesList:
    """List the series that runs belong to, each with its newest run."""
    call = gateway.services.orchestration.ListSeries
    found = await ask(call, orchestration_pb2.ListSeriesRequest(), gateway.config.deadlines.quick_s)
    return SeriesList(items=[SeriesRuns.model_validate(plain(each)) for each in found.series])


@router.get(
    "/series/{name:path}",
    operation_id="getSeries",
    summary="Evidence of a series",
    responses={200: answer(SeriesEvidence, "Its evidence, run by run."), **problems(404)},
)
async def get_series(gateway: GatewayOf, name: SeriesName) -> SeriesEvidence:
    """Return the evidence that the runs of a series got worse, valid however often it is looked at."""
    request = pb.GetSeriesRequest(series=name)
    found = await ask(gateway.services.scoring.GetSeries, request, gateway.config.deadlines.slow_s)
    return await asyncio.to_thread(lambda: SeriesEvidence.model_validate(plain(found)))
