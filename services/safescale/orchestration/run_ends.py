"""Announces on the bus that runs stopped, so that nobody works on for them."""

import asyncio
import time

from safescale.orchestration.store import RunStore
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus import topics
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.port import Bus, Message
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.log import get_logger

STOPPED = (pb.RUN_STATE_CANCELLED, pb.RUN_STATE_FAILED)
"""States in which requests of a run may still wait. A completed run has an outcome for each."""


class RunEndAnnouncer:
    """Publishes the ends of runs. What cannot be published now is kept for the next try: no end waits for the bus."""

    def __init__(self, bus: Bus, store: RunStore, messages_kept_s: float | None) -> None:
        self._bus = bus
        self._store = store
        self._kept_s = messages_kept_s
        # A bus that keeps messages for ever is that of this process: it holds nothing that an earlier one requested.
        self._earlier_announced = messages_kept_s is None
        self._unpublished: dict[str, Message] = {}
        self._publishing: asyncio.Task[None] | None = None

    def add(self, run: pb.Run) -> None:
        """Begin to announce the end of a run; nothing where it runs or is complete."""
        if run.state in STOPPED:
            self._unpublished[run.run_id] = _announcement(run)
            self._begin()

    async def look(self) -> None:
        """Begin to publish what is not published yet; at first also what an earlier process may have left."""
        if self._kept_s is not None and not self._earlier_announced:
            for run in await self._store.stopped_since(time.time() - self._kept_s):
                self.add(run)
            self._earlier_announced = True
        self._begin()

    def _begin(self) -> None:
        if self._unpublished and (self._publishing is None or self._publishing.done()):
            self._publishing = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        while batch := dict(self._unpublished):
            try:
                await self._bus.publish_many(list(batch.values()))
            except Exception as error:
                reason = as_safescale_error(error).reason
                get_logger("orchestration").warning("ends of runs not announced yet", count=len(batch), reason=reason)
                return
            for run_id, message in batch.items():
                if self._unpublished[run_id] is message:
                    del self._unpublished[run_id]

    async def stop(self) -> None:
        """Stop publishing; the next process announces what this one did not."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)


def _announcement(run: pb.Run) -> Message:
    event = events_pb2.RunEnded(run_id=run.run_id, state=run.state, ended_at=run.ended_at, attempt=run.attempt)
    return event_message(topics.RUN_ENDED, run.run_id, event, run.run_id, run.attempt)
