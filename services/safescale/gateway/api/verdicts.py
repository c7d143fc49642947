"""Verdicts of a run, page by page."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from safescale.core.errors import InvalidInputError
from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.schemas_results import Verdict, VerdictPage
from safescale.gateway.api.query import PREFIX, Cursor, PageSize, RunName
from safescale.gateway.clients import ask
from safescale.gateway.config import DEFAULT_PAGE
from safescale.gateway.context import GatewayOf
from safescale.gateway.messages import plain
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["results"])

MAX_CALLS = 20
"""Pages of the service that one filtered page may take; what is not reached then is behind the cursor."""

OutcomeName = Literal[
    "correct", "wrong", "high_risk_error", "unsafe_answer", "contradiction", "abstention", "unread", "failed"
]
RegimeName = Literal["greedy", "majority"]


def has_outcome(verdict: pb.Verdict, outcome: OutcomeName, regime: RegimeName) -> bool:
    """Whether a verdict has an outcome in a regime. `wrong` is a letter that is not the correct one.

    A failed cell has no other outcome, unless its judge failed and the letter was read all the same. `unread` are those
    without a letter in which nobody could read an answer: of a greedy answer that is no abstention, as in the metrics.
    """
    field: Literal["greedy_outcome", "majority_outcome"] = f"{regime}_outcome"  # type: ignore[assignment]
    found = getattr(verdict, field)
    failed = verdict.HasField("failure")
    if outcome == "failed" or not verdict.HasField(field) or (failed and found.abstention):
        return failed and outcome == "failed"
    answers = [verdict.greedy] if regime == "greedy" else verdict.samples
    unread = found.abstention and any(not answer.read_by for answer in answers)
    if outcome == "unread":
        return unread
    if outcome == "abstention" and regime == "greedy":
        return found.abstention and not unread
    if outcome == "wrong":
        return not (found.correct or found.abstention)
    return bool(getattr(found, outcome))


@dataclass(frozen=True)
class VerdictFilter:
    """Which verdicts are listed."""

    model: Annotated[str, Query(max_length=200, description="Only this model.", examples=[examples.MODEL["id"]])] = ""
    condition: Annotated[str, Query(max_length=60, description="Only this condition.", examples=["zero_shot"])] = ""
    failed: Annotated[bool, Query(description="Only failed cells.")] = False
    outcome: Annotated[
        OutcomeName | None, Query(description="Only cells of this outcome.", examples=["high_risk_error"])
    ] = None
    regime: Annotated[RegimeName, Query(description="Whose outcome `outcome` means.")] = "greedy"

    def takes(self, verdict: pb.Verdict) -> bool:
        """Whether a verdict is of the outcome; the service saw to the rest."""
        return self.outcome is None or has_outcome(verdict, self.outcome, self.regime)


@router.get(
    "/runs/{run}/verdicts",
    operation_id="listVerdicts",
    summary="List the verdicts of a run",
    responses={200: answer(VerdictPage, "A page, ordered by key."), **problems(404)},
)
async def list_verdicts(
    gateway: GatewayOf,
    run: RunName,
    wanted: Annotated[VerdictFilter, Depends()],
    page_size: PageSize = DEFAULT_PAGE,
    cursor: Cursor = "",
) -> VerdictPage:
    """List the newest verdict of each cell. By `outcome` a page may be short, even empty: follow the cursor."""
    if wanted.failed and wanted.outcome not in (None, "failed"):
        found = f"failed = true with outcome = {wanted.outcome}"
        raise InvalidInputError(f"query: {found}; a failed cell has no other outcome")
    request = pb.ListVerdictsRequest(
        run_id=run,
        page_token=cursor,
        model=wanted.model,
        condition=wanted.condition,
        failed_only=wanted.failed or wanted.outcome == "failed",
    )
    verdicts: list[pb.Verdict] = []
    for _ in range(MAX_CALLS):
        # Asked for what is still missing, so that the service's own token continues behind the last verdict seen.
        request.page_size = page_size - len(verdicts)
        page = await ask(gateway.services.scoring.ListVerdicts, request, gateway.config.deadlines.quick_s)
        verdicts += filter(wanted.takes, page.verdicts)
        request.page_token = page.next_page_token
        if not page.next_page_token or len(verdicts) == page_size:
            break
    # In a thread: a page of a thousand verdicts with their texts takes long enough to hold up others.
    items = await asyncio.to_thread(lambda: [Verdict.model_validate(plain(each)) for each in verdicts])
    return VerdictPage(items=items, next_cursor=request.page_token or None)
