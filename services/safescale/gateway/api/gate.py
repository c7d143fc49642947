"""Does a run meet a policy?"""

from fastapi import APIRouter, Depends, Request

from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.schemas_results import GateResult
from safescale.gateway.api.query import PREFIX, RunName
from safescale.gateway.context import GatewayOf
from safescale.gateway.messages import plain
from safescale.gateway.policies import MAY_JUDGE, POLICY_BODY, judged
from safescale.gateway.results import run_named

router = APIRouter(prefix=PREFIX, tags=["results"])


@router.post(
    "/runs/{run}/gate",
    operation_id="judgeRun",
    summary="Judge a run by a policy",
    responses={
        200: answer(GateResult, "The judgement; `passed` tells it, whichever it is."),
        **problems(404, 408, 413, 415),
    },
    dependencies=[Depends(MAY_JUDGE)],
    openapi_extra=POLICY_BODY,
)
async def judge_run(request: Request, gateway: GatewayOf, run: RunName) -> GateResult:
    """Judge a run as `safescale gate` does. A run with failed cells passes no policy; nothing passes by absence."""
    run_id = (await run_named(gateway, run)).run_id
    response = await judged(request, gateway, run_id)
    failed = sum(not result.passed for result in response.results)
    return GateResult(**plain(response), run_id=run_id, failed_requirements=failed)
