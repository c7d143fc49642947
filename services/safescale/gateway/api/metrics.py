"""Metrics of a run."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Annotated

from fastapi import APIRouter, Query

from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.schemas_results import Metric, Metrics, Readings
from safescale.gateway.api.query import PREFIX, RunName
from safescale.gateway.clients import ask
from safescale.gateway.context import GatewayOf
from safescale.gateway.messages import plain
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["results"])

_BY = "Also by slice: subspecialty, question_type or a group of the questions; more than once for several."


def _items(rows: Iterable[pb.MetricRow], wanted: Mapping[str, str]) -> list[Metric]:
    return [
        Metric.model_validate(plain(row))
        for row in rows
        if all(not value or getattr(row, name) == value for name, value in wanted.items())
    ]


@router.get(
    "/runs/{run}/metrics",
    operation_id="getMetrics",
    summary="Metrics of a run",
    responses={200: answer(Metrics, "A row for each model, condition, regime and metric."), **problems(404)},
)
async def get_metrics(
    gateway: GatewayOf,
    run: RunName,
    model: Annotated[str, Query(max_length=200, description="Only this model.", examples=[examples.MODEL["id"]])] = "",
    condition: Annotated[str, Query(max_length=60, description="Only this condition.", examples=["zero_shot"])] = "",
    regime: Annotated[str, Query(max_length=60, description="Only this regime.", examples=["greedy"])] = "",
    metric: Annotated[str, Query(max_length=60, description="Only this metric.", examples=["accuracy"])] = "",
    by: Annotated[
        list[str] | None, Query(max_length=20, description=_BY, examples=[["subspecialty"]]),
    ] = None,
) -> Metrics:  # fmt: skip
    """Every metric with its 95 % interval: exact for shares of questions, a bootstrap for means.

    Counts are of the whole run, whatever is left out of the rows.
    """
    request = pb.GetRunMetricsRequest(run_id=run, slices=by or ())
    found = await ask(gateway.services.scoring.GetRunMetrics, request, gateway.config.deadlines.slow_s)
    wanted = {"model": model, "condition": condition, "regime": regime, "metric": metric}
    return Metrics(
        items=await asyncio.to_thread(_items, found.rows, wanted),
        slice_items=await asyncio.to_thread(_items, found.slice_rows, wanted),
        verdict_count=found.verdict_count,
        failed_count=found.failed_count,
        cost=found.cost if found.HasField("cost") else None,
        planned_count=found.planned_count,
        skipped_count=found.skipped_count,
        cached_count=found.cached_count,
        complete=found.complete,
        missing=list(found.missing),
        warnings=dict(sorted(found.warnings.items())),
        readings=Readings.model_validate(plain(found.readings)),
        reading=found.reading,
    )
