"""The report of a run as one self-contained page."""

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter, Depends, Request, Response

from safescale.gateway.api.openapi.operations import content, problems
from safescale.gateway.api.query import PREFIX, RunName
from safescale.gateway.context import Gateway, GatewayOf
from safescale.gateway.policies import MAY_JUDGE, POLICY_OR_NONE, judged, judged_as_registered
from safescale.gateway.results import benchmark_of, run_named, tables_of_run
from safescale.report.port import RunResults, renderer_of
from safescale.report.registry import run_renderers
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.log import get_logger

router = APIRouter(prefix=PREFIX, tags=["results"])

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
"""The page has its style in itself and no script, and the browser holds it to that."""

_ANSWER = {
    200: content("The page: it opens offline, prints, and loads nothing.", {"text/html": "<!doctype html>..."}),
    **problems(404, 409, 429),
}


@router.get(
    "/runs/{run}/report",
    operation_id="getReport",
    summary="Report of a run",
    response_class=Response,
    responses=_ANSWER,
)
async def get_report(gateway: GatewayOf, run: RunName) -> Response:
    """Return the report that `safescale report` writes, with the judgement of the policy that the run registered."""
    with gateway.reports.take():
        stored = await run_named(gateway, run)
        return await _page(gateway, stored, await judged_as_registered(gateway, stored))


@router.post(
    "/runs/{run}/report",
    operation_id="getReportWithPolicy",
    summary="Report of a run with the judgement of a policy",
    response_class=Response,
    responses={**_ANSWER, **problems(404, 408, 409, 413, 415, 429)},
    dependencies=[Depends(MAY_JUDGE)],
    openapi_extra=POLICY_OR_NONE,
)
async def get_report_with_policy(request: Request, gateway: GatewayOf, run: RunName) -> Response:
    """Return the report with the judgement of the policy in the body, or of the one that the run registered."""
    with gateway.reports.take():
        stored = await run_named(gateway, run)
        return await _page(gateway, stored, await judged(request, gateway, stored.run_id))


async def _page(
    gateway: Gateway, run: orchestration_pb2.Run, policy: scoring_pb2.EvaluatePolicyResponse | None
) -> Response:
    results = RunResults(
        run, await benchmark_of(gateway, run), await tables_of_run(gateway, run.run_id), policy, datetime.now(UTC)
    )
    renderer = renderer_of(run_renderers(), results)
    page = await asyncio.to_thread(renderer.page, results)
    if page.undrawn:
        get_logger("gateway").warning("pictures not drawn", run_id=run.run_id, count=len(page.undrawn))
    return Response(page.html, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})
