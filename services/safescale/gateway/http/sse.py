"""The events of a run as server-sent events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from safescale.core.errors import SafescaleError
from safescale.gateway.http.problem import problem_of
from safescale.gateway.messages import plain
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

RETRY_MS = 2000
"""Milliseconds after which a browser connects again."""


def event_id(run: pb.Run, update: pb.WatchRunResponse) -> str:
    """Return the id of an event, from the run's state. Every event holds the whole state, so none needs a repeat."""
    cells = update.progress.cells
    counts = (
        sum(cell.completed for cell in cells),
        sum(cell.failed for cell in cells),
        sum(cell.skipped for cell in cells),
    )
    state = pb.RunState.Name(update.state).removeprefix("RUN_STATE_").lower()
    return ".".join(map(str, (run.attempt, state, *counts)))


def has_ended(update: pb.WatchRunResponse) -> bool:
    """Whether nothing more will come of the run by itself."""
    return update.state != pb.RUN_STATE_RUNNING


def event(run: pb.Run, update: pb.WatchRunResponse) -> bytes:
    """Return one event: `progress` while the run continues, `ended` at its end."""
    data = orjson.dumps({"run_id": run.run_id, **plain(update)}).decode()
    name = "ended" if has_ended(update) else "progress"
    return format_sse_event(data_str=data, event=name, id=event_id(run, update))


async def event_stream(
    run: pb.Run, updates: AsyncIterator[pb.WatchRunResponse], stop: asyncio.Event, heartbeat_s: float
) -> AsyncIterator[bytes]:
    """Events until the run ends, `stop` is set or the watch breaks; a comment after each silence of `heartbeat_s`.

    A broken watch is reported as event `problem`; the browser connects again by itself.
    """
    yield format_sse_event(retry=RETRY_MS)
    stopping = asyncio.ensure_future(stop.wait())
    following: asyncio.Future[Any] = asyncio.ensure_future(anext(updates, None))
    try:
        while not stop.is_set():
            await asyncio.wait({following, stopping}, timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                yield KEEPALIVE_COMMENT
                continue
            update = following.result()
            if update is None:
                return
            yield event(run, update)
            following = asyncio.ensure_future(anext(updates, None))
    except SafescaleError as error:
        # The deadline of the watch is no problem: it bounds the life of a connection.
        if error.code != "DEADLINE_EXCEEDED":
            yield format_sse_event(data_str=orjson.dumps(problem_of(error)).decode(), event="problem")
    finally:
        for task in (stopping, following):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, SafescaleError):
                await task
