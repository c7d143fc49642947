"""Runs: plan, create, list, show, follow, cancel, retry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from safescale.core.errors import FailedPreconditionError
from safescale.core.inputs.text_rules import MAX_NAME
from safescale.gateway.access import MayCall
from safescale.gateway.api.idempotency import TAKES_KEY, IdempotencyKey, refuse_key
from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import answer, event_content, problems
from safescale.gateway.api.openapi.operations import body as describe_body
from safescale.gateway.api.openapi.schemas import CreatedRun, Plan, RetriedRun, Run, RunPage, RunSummary
from safescale.gateway.api.query import PREFIX, Cursor, PageSize, RunName
from safescale.gateway.clients import ask, follow
from safescale.gateway.config import DEFAULT_PAGE
from safescale.gateway.context import Gateway, GatewayOf
from safescale.gateway.http import body, sse
from safescale.gateway.messages import plain
from safescale.gateway.specs import spec_of
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["runs"])

_SPEC = describe_body(
    "A run spec as `safescale run` takes it, in YAML or JSON, whose `benchmark` and `corpus` are ids or names of "
    "stored ones. At most 256 KiB.",
    {body.JSON: examples.RUN_SPEC, body.YAML[0]: examples.RUN_SPEC_YAML},
)
_SPEC["requestBody"]["content"][body.JSON]["schema"] = {"type": "object"}


OfSeries = Annotated[
    str, Query(max_length=MAX_NAME, description="Only runs of this series.", examples=[examples.SERIES])
]
MAY_CREATE = MayCall(lambda services: services.orchestration.CreateRun, pb.CreateRunRequest())
MAY_PLAN = MayCall(MAY_CREATE.method, pb.CreateRunRequest(validate_only=True), "read")


def _run(run: pb.Run, progress: pb.Progress | None = None) -> Run:
    found = {**plain(run), "progress": None if progress is None else plain(progress)}
    manifest = found["manifest"] or {}
    for model in (*manifest.get("models", ()), manifest.get("judge"), manifest.get("agent")):
        if model is not None:
            # 0 stands for a size that is not known.
            model["parameters_b"] = model["parameters_b"] or None
    return Run.model_validate(found)


def _summary(run: pb.Run) -> RunSummary:
    found: dict[str, Any] = plain(run)
    spec = run.manifest.spec
    return RunSummary(
        **{name: found[name] for name in ("run_id", "state", "digest", "attempt", "created_at", "ended_at")},
        name=spec.name,
        series=spec.series,
        models=list(spec.models),
        conditions=list(spec.conditions),
        question_count=len(run.manifest.question_ids),
    )


async def _get(gateway: Gateway, run: str, *, progress: bool) -> pb.GetRunResponse:
    request = pb.GetRunRequest(run_id=run, without_progress=not progress)
    return await ask(gateway.services.orchestration.GetRun, request, gateway.config.deadlines.quick_s)


@router.post(
    "/runs",
    operation_id="createRun",
    dependencies=[Depends(MAY_CREATE)],
    summary="Create or continue a run",
    status_code=201,
    responses={
        201: answer(CreatedRun, "Created; its cells are being asked."),
        200: answer(CreatedRun, "A run of the same digest is there; it was continued where it had not ended."),
        **problems(408, 409, 413, 415),
    },
    openapi_extra=_SPEC,
)
async def create_run(
    request: Request,
    response: Response,
    gateway: GatewayOf,
    new: Annotated[bool, Query(description="Start another run though one of the same digest exists.")] = False,
    key: IdempotencyKey = "",
) -> CreatedRun:
    """Start a measurement. The same spec again continues it instead of starting another."""
    if new:
        refuse_key(key, "with new=true each request starts another run; leave out new, or the key")
    spec = await spec_of(request, gateway)
    created = await ask(
        gateway.services.orchestration.CreateRun,
        pb.CreateRunRequest(spec=spec, force_new=new),
        gateway.config.deadlines.slow_s,
    )
    response.status_code = 200 if created.resumed else 201
    response.headers["Location"] = f"/api/v1/runs/{created.run.run_id}"
    return CreatedRun(run=_run(created.run), resumed=created.resumed)


@router.post(
    "/plans",
    operation_id="planRun",
    dependencies=[Depends(MAY_PLAN)],
    summary="Check a spec and tell what it will take",
    responses={200: answer(Plan, "What the run will take."), **problems(408, 409, 413, 415)},
    openapi_extra=_SPEC,
)
async def plan_run(request: Request, gateway: GatewayOf) -> Plan:
    """Check everything and store nothing. Each model is asked two short calls to measure its speed."""
    request_of = pb.CreateRunRequest(spec=await spec_of(request, gateway), validate_only=True)
    planned = await ask(gateway.services.orchestration.CreateRun, request_of, gateway.config.deadlines.slow_s)
    existing = planned.run.run_id or None
    return Plan(**plain(planned.plan), digest=planned.run.digest, existing_run=existing)


@router.get(
    "/runs",
    operation_id="listRuns",
    summary="List the runs",
    responses={200: answer(RunPage, "A page, newest first."), **problems()},
)
async def list_runs(
    gateway: GatewayOf, series: OfSeries = "", page_size: PageSize = DEFAULT_PAGE, cursor: Cursor = ""
) -> RunPage:
    """List runs, newest first."""
    request = pb.ListRunsRequest(page_size=page_size, page_token=cursor, series=series)
    found = await ask(gateway.services.orchestration.ListRuns, request, gateway.config.deadlines.quick_s)
    items = await asyncio.to_thread(lambda: [_summary(each) for each in found.runs])
    return RunPage(items=items, next_cursor=found.next_page_token or None)


@router.get(
    "/runs/{run}",
    operation_id="getRun",
    summary="Show a run",
    responses={200: answer(Run, "The run with its manifest and progress."), **problems(404)},
)
async def get_run(gateway: GatewayOf, run: RunName) -> Run:
    """Return a run, what decides its results, and its progress."""
    found = await _get(gateway, run, progress=True)
    return _run(found.run, found.progress)


@router.post(
    "/runs/{run}/cancel",
    operation_id="cancelRun",
    dependencies=[TAKES_KEY],
    summary="Stop a run",
    responses={200: answer(Run, "The run, cancelled now or before."), **problems(404, 409)},
)
async def cancel_run(gateway: GatewayOf, run: RunName) -> Run:
    """Stop a run; what was measured stays, and creating it again continues it."""
    try:
        request = pb.CancelRunRequest(run_id=run)
        cancelled = await ask(gateway.services.orchestration.CancelRun, request, gateway.config.deadlines.slow_s)
    except FailedPreconditionError:
        found = await _get(gateway, run, progress=False)
        if found.run.state != pb.RUN_STATE_CANCELLED:
            raise
        return _run(found.run)
    return _run(cancelled.run)


@router.post(
    "/runs/{run}/retry",
    operation_id="retryRun",
    summary="Ask the failed cells of a run again",
    responses={200: answer(RetriedRun, "The run and how many cells are asked again."), **problems(404, 409)},
)
async def retry_run(
    gateway: GatewayOf,
    run: RunName,
    attempt: Annotated[
        int,
        Query(ge=0, lt=2**31, description="Attempt of the run that failed; a later one is left alone. 0 for any."),
    ] = 0,
    key: IdempotencyKey = "",
) -> RetriedRun:
    """Ask the failed cells again, as a new attempt. The run must have ended."""
    if not attempt:
        refuse_key(key, "a repeat asks cells again that failed again; name the attempt that failed with attempt=N")
    found = await _get(gateway, run, progress=False)
    if attempt > found.run.attempt:
        raise FailedPreconditionError(f"run {found.run.run_id} is at attempt {found.run.attempt}, not {attempt}")
    if attempt and attempt < found.run.attempt:
        return RetriedRun(run=_run(found.run), retried_count=0)
    request = pb.RetryFailedRequest(run_id=found.run.run_id, attempt=attempt)
    try:
        retried = await ask(gateway.services.orchestration.RetryFailed, request, gateway.config.deadlines.slow_s)
    except FailedPreconditionError:
        # Of two equal requests at once the second finds the attempt that the first one began: what it asked for.
        found = await _get(gateway, run, progress=False)
        if not attempt or found.run.attempt <= attempt:
            raise
        return RetriedRun(run=_run(found.run), retried_count=0)
    return RetriedRun(run=_run(retried.run), retried_count=retried.retried_count)


@router.get(
    "/runs/{run}/events",
    operation_id="followRun",
    summary="Follow a run",
    response_class=Response,
    responses={
        200: event_content(
            "Server-sent events: `progress` with the state of the run at each change, `ended` at its end, `problem` "
            "when the watch breaks. Silence is filled with comments.",
            examples.EVENTS,
        ),
        204: {"description": "The run has ended and `Last-Event-ID` is its last event: do not connect again."},
        **problems(404, 429),
    },
)
async def follow_run(
    gateway: GatewayOf,
    run: RunName,
    last_event_id: Annotated[
        str, Header(max_length=200, description="Id of the last event seen.", examples=["1.running.31.0.0"])
    ] = "",
) -> Response:
    """Follow a run until it ends. Every event holds the whole state, so a client that reconnects misses nothing."""
    deadlines = gateway.config.deadlines
    with ExitStack() as stack:
        stack.enter_context(gateway.event_streams.take())
        stored = (await _get(gateway, run, progress=False)).run
        request = pb.WatchRunRequest(run_id=stored.run_id)
        watch = gateway.services.orchestration.WatchRun(request, timeout=deadlines.events_s)
        updates = follow(watch)
        stack.callback(watch.cancel)
        first = await anext(updates)
        if sse.has_ended(first) and last_event_id == sse.event_id(stored, first):
            return Response(status_code=204)
        held = stack.pop_all()

    async def events() -> AsyncIterator[bytes]:
        with held:
            known = last_event_id == sse.event_id(stored, first)
            stream = sse.event_stream(
                stored, updates if known else _after(first, updates), gateway.draining, deadlines.heartbeat_s
            )
            async for part in stream:
                yield part

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _after(
    first: pb.WatchRunResponse, rest: AsyncIterator[pb.WatchRunResponse]
) -> AsyncIterator[pb.WatchRunResponse]:
    yield first
    async for update in rest:
        yield update
