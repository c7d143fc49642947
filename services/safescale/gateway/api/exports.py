"""Verdicts of a run as a file that is written while it is read."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from safescale.core.errors import InvalidInputError
from safescale.formats.streaming import MEDIA_TYPES, Format, Table, writer_of
from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import content, problems
from safescale.gateway.api.query import PREFIX, RunName
from safescale.gateway.context import GatewayOf
from safescale.gateway.results import run_named, verdicts_of
from safescale.rpc.runs import state_of

router = APIRouter(prefix=PREFIX, tags=["results"])

STATE = "X-Run-State"
"""Header with the state of the run: an export of one that has not completed lacks cells."""


@router.get(
    "/runs/{run}/export",
    operation_id="exportRun",
    summary="Export the verdicts of a run",
    response_class=Response,
    responses={
        200: content(
            "The file. Should something break on the way, the connection ends without the last chunk.",
            {
                MEDIA_TYPES["csv"]: examples.CSV_LINES,
                MEDIA_TYPES["jsonl"]: '{"cell": {"run_id": "demo-4f1c2a9b"}}\n',
                MEDIA_TYPES["parquet"]: "PAR1...",
            },
        ),
        **problems(404, 409),
    },
)
async def export_run(
    gateway: GatewayOf,
    run: RunName,
    form: Annotated[Format, Query(alias="format", description="csv, jsonl or parquet.")] = "csv",
    table: Annotated[
        Table, Query(description="verdicts: a row for each cell; answers: a row for each answer. jsonl has verdicts.")
    ] = "verdicts",
) -> Response:
    """Export the verdicts as `safescale export` writes them, with settled reviews applied.

    The header `X-Run-State` says whether the run has completed; `/metrics` says what is missing of it.
    """
    if form == "jsonl" and table != "verdicts":
        raise InvalidInputError("query: table = answers; expected verdicts for jsonl, which holds whole verdicts")
    stored = await run_named(gateway, run)
    run_id = stored.run_id
    parts = writer_of(form, table)(verdicts_of(gateway, run_id))
    # The first part before the head: an immediate failure sets the status.
    first = await anext(parts)
    name = f"{run_id}-{table}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', STATE: state_of(stored)}
    return StreamingResponse(_whole(first, parts), media_type=MEDIA_TYPES[form], headers=headers)


async def _whole(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part
