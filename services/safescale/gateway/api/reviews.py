"""Answers that a person should read."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import ValidationError

from safescale.core.errors import Defect, InvalidInputError, NotFoundError
from safescale.core.inputs.records import shown, strict_json
from safescale.gateway.access import MayCall
from safescale.gateway.api.idempotency import TAKES_KEY
from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.operations import body as describe_body
from safescale.gateway.api.openapi.schemas import Resolution
from safescale.gateway.api.openapi.schemas_results import ReadingAudit, Review, ReviewPage
from safescale.gateway.api.query import PREFIX, Cursor, PageSize, RunName
from safescale.gateway.clients import ask
from safescale.gateway.config import DEFAULT_PAGE
from safescale.gateway.context import GatewayOf
from safescale.gateway.http import body
from safescale.gateway.messages import plain
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["reviews"])

_BODY = describe_body(
    "How the review is settled. At most 64 KiB.", {body.JSON: examples.RESOLUTION}, Resolution.model_json_schema()
)


MAY_AUDIT = MayCall(lambda services: services.scoring.StartAudit, pb.StartAuditRequest())
MAY_RESOLVE = MayCall(lambda services: services.scoring.ResolveReview, pb.ResolveReviewRequest())


@router.get(
    "/reviews",
    operation_id="listReviews",
    summary="List the reviews",
    responses={200: answer(ReviewPage, "A page, ordered by id."), **problems(404)},
)
async def list_reviews(
    gateway: GatewayOf,
    run: Annotated[
        str, Query(pattern="^[a-z0-9-]{0,64}$", description="Only of this run.", examples=[examples.RUN_ID])
    ] = "",
    settled: Annotated[bool, Query(description="Settled ones too.")] = False,
    page_size: PageSize = DEFAULT_PAGE,
    cursor: Cursor = "",
) -> ReviewPage:
    """Answers without a letter, on which parser and judge disagree, or that an audit drew."""
    request = pb.ListReviewsRequest(run_id=run, page_size=page_size, page_token=cursor, include_resolved=settled)
    found = await ask(gateway.services.scoring.ListReviews, request, gateway.config.deadlines.quick_s)
    items = await asyncio.to_thread(lambda: [Review.model_validate(plain(each)) for each in found.reviews])
    return ReviewPage(items=items, next_cursor=found.next_page_token or None)


@router.post(
    "/reviews/{review_id:path}/resolution",
    operation_id="resolveReview",
    dependencies=[Depends(MAY_RESOLVE), TAKES_KEY],
    summary="Settle a review",
    responses={200: answer(Review, "The settled review."), **problems(404, 408, 409, 413, 415)},
    openapi_extra=_BODY,
)
async def resolve_review(
    request: Request,
    gateway: GatewayOf,
    review_id: Annotated[
        str, Path(min_length=1, max_length=400, description="Its id, slashes and all.", examples=[examples.REVIEW_ID])
    ],
) -> Review:
    """Give the letter that a person reads. It counts in metrics, gate, report and exports from then on.

    A review is settled once: a repeat is answered 409 and names who settled it.
    """
    given = await _resolution(request, gateway)
    message = pb.ResolveReviewRequest(review_id=review_id, reviewer=given.reviewer, note=given.note)
    if given.letter is not None:
        message.letter = given.letter
    settled = await ask(gateway.services.scoring.ResolveReview, message, gateway.config.deadlines.quick_s)
    return Review.model_validate(plain(settled.review))


@router.post(
    "/runs/{run}/audit",
    operation_id="startAudit",
    dependencies=[Depends(MAY_AUDIT), TAKES_KEY],
    summary="Audit the reading of a run",
    status_code=201,
    responses={
        201: answer(ReadingAudit, "Drawn; its answers are on the list of reviews."),
        200: answer(ReadingAudit, "The run has this audit already."),
        **problems(404, 409, 413),
    },
)
async def start_audit(
    response: Response,
    gateway: GatewayOf,
    run: RunName,
    sample: Annotated[int, Query(ge=1, lt=2**31, description="Answers to draw.", examples=[50])],
    seed: Annotated[int, Query(ge=0, lt=2**63, description="Seed of the draw.", examples=[0])] = 0,
) -> ReadingAudit:
    """Draw greedy answers at random for people to read, accepted ones included. A run has one audit."""
    request = pb.StartAuditRequest(run_id=run, sample=sample, seed=seed)
    started = await ask(gateway.services.scoring.StartAudit, request, gateway.config.deadlines.slow_s)
    response.status_code = 201 if started.created else 200
    return ReadingAudit.model_validate(plain(started.audit))


@router.get(
    "/runs/{run}/audit",
    operation_id="getAudit",
    summary="Audit of the reading of a run",
    responses={200: answer(ReadingAudit, "How the audit stands."), **problems(404)},
)
async def get_audit(gateway: GatewayOf, run: RunName) -> ReadingAudit:
    """Return how many of the drawn answers are settled; once all are, the metrics of the run have corrected values."""
    found = await ask(
        gateway.services.scoring.GetAudit, pb.GetAuditRequest(run_id=run), gateway.config.deadlines.quick_s
    )
    if not found.HasField("audit"):
        raise NotFoundError(f"run {run} has no audit of its reading; POST /api/v1/runs/{run}/audit draws one")
    return ReadingAudit.model_validate(plain(found.audit))


def _read(data: bytes) -> Resolution:
    try:
        return Resolution.model_validate(strict_json(data.decode()), strict=True)
    except ValidationError:
        raise
    except ValueError as error:
        defect = Defect("body", None, None, None, f"Invalid JSON: {error}", "one JSON object")
        raise InvalidInputError(f"the body is no resolution: {defect}", defects=[defect]) from error


async def _resolution(request: Request, gateway: GatewayOf) -> Resolution:
    body.media_type(request, [body.JSON])
    data = await body.read_body(request, gateway, gateway.config.limits.review_bytes)
    try:
        return await asyncio.to_thread(_read, data)
    except ValidationError as error:
        defects = [
            Defect("body", None, None, ".".join(map(str, item["loc"])) or None, shown(item["input"]), item["msg"])
            for item in error.errors()
        ]
        raise InvalidInputError(f"the body is no resolution: {defects[0]}", defects=defects) from error
