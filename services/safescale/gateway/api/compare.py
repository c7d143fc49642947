"""A run against a baseline."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.schemas_compare import BASELINE_ID, ComparisonOfRuns
from safescale.gateway.api.query import PREFIX, RUN_NAME, RunName
from safescale.gateway.clients import ask
from safescale.gateway.context import GatewayOf
from safescale.gateway.messages import plain
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["results"])

ModelName = Annotated[str, Query(max_length=200, description="Needed where its run has several and not all are meant.")]


@router.get(
    "/runs/{run}/comparison",
    operation_id="compareRuns",
    summary="Compare a run with a baseline",
    responses={
        200: answer(ComparisonOfRuns, "A row for each pair of models, condition, regime and metric; the flips."),
        **problems(404, 409),
    },
)
async def compare_runs(
    gateway: GatewayOf,
    run: RunName,
    baseline: Annotated[
        str,
        Query(
            description="Run of the baseline; left out for two models of one run.",
            examples=[BASELINE_ID],
            pattern=f"^$|{RUN_NAME}",
        ),
    ] = "",
    model: ModelName = "",
    baseline_model: ModelName = "",
    confidence: Annotated[float, Query(gt=0.5, lt=1, description="Of the two-sided intervals.")] = 0.95,
    flips: Annotated[bool, Query(description="Whether the questions that differ are listed.")] = True,
) -> ComparisonOfRuns:
    """Compare accuracy and every harm on the questions that both answered. Unlike runs are refused (409)."""
    request = pb.CompareRunsRequest(
        candidate_run_id=run,
        baseline_run_id=baseline,
        candidate_model=model,
        baseline_model=baseline_model,
        confidence=confidence,
        without_flips=not flips,
    )
    found = await ask(gateway.services.scoring.CompareRuns, request, gateway.config.deadlines.slow_s)
    return await asyncio.to_thread(lambda: ComparisonOfRuns.model_validate(plain(found)))
