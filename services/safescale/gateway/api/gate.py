"""Does a run meet a policy, and what can a policy decide?"""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from safescale.core.decisions.policy import Verdict
from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.schemas_gate import GateResult, PolicyPlan
from safescale.gateway.api.query import PREFIX, RUN_NAME, RunName
from safescale.gateway.clients import ask
from safescale.gateway.context import GatewayOf
from safescale.gateway.messages import plain
from safescale.gateway.policies import (
    MAY_JUDGE,
    MAY_PLAN_POLICY,
    POLICY_BODY,
    POLICY_OR_NONE,
    judged,
    policy_text,
)
from safescale.gateway.results import run_named
from safescale.rpc.policies import verdict_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["results"])


@router.post(
    "/runs/{run}/gate",
    operation_id="judgeRun",
    summary="Judge a run by a policy",
    responses={
        200: answer(GateResult, "The judgement; `verdict` tells it, whichever it is."),
        **problems(404, 408, 409, 413, 415),
    },
    dependencies=[Depends(MAY_JUDGE)],
    openapi_extra=POLICY_OR_NONE,
)
async def judge_run(
    request: Request,
    gateway: GatewayOf,
    run: RunName,
    baseline: Annotated[
        str,
        Query(
            description="Run that the policy compares with; without it the last of the series that passed.",
            pattern=f"^$|{RUN_NAME}",
        ),
    ] = "",
) -> GateResult:
    """Judge a run as `safescale gate` does. A run with failed cells passes no policy; nothing passes by absence."""
    run_id = (await run_named(gateway, run)).run_id
    response = await judged(request, gateway, run_id, baseline)
    verdicts = [verdict_of(result) for result in response.results]
    counts = Counter(verdicts)
    results = [
        {**plain(result), "verdict": verdict} for result, verdict in zip(response.results, verdicts, strict=True)
    ]
    return GateResult(
        **{**plain(response), "results": results, "verdict": verdict_of(response)},
        run_id=run_id,
        failed_requirements=len(verdicts) - counts[Verdict.PASS],
        insufficient_requirements=counts[Verdict.INSUFFICIENT],
    )


@router.post(
    "/policies/plan",
    operation_id="planPolicy",
    summary="Tell what a policy can decide by a number of questions",
    responses={200: answer(PolicyPlan, "Each requirement, and what it takes."), **problems(408, 413, 415)},
    dependencies=[Depends(MAY_PLAN_POLICY)],
    openapi_extra=POLICY_BODY,
)
async def plan_policy(
    request: Request,
    gateway: GatewayOf,
    questions: Annotated[int, Query(ge=1, le=1_000_000, description="Questions that would be asked.", examples=[200])],
) -> PolicyPlan:
    """Tell as `safescale plan --policy` does which requirements so many questions can decide. Nothing is stored."""
    message = pb.PlanPolicyRequest(policy=await policy_text(request, gateway), question_count=questions)
    planned = await ask(gateway.services.scoring.PlanPolicy, message, gateway.config.deadlines.quick_s)
    return PolicyPlan(**plain(planned))
