"""Which requests are still wanted: those made up to the end of a run that stopped are not."""

from cachetools import LRUCache
from google.protobuf.message import DecodeError

from safescale.core.errors import InvalidInputError
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.port import Bus, Message, Subscription

MAX_RUNS = 100_000
"""Runs whose end is remembered. Of one that is forgotten, cells are asked that nobody waits for."""


class RunEnds:
    """When runs stopped, as orchestration announces it to every process of inference."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._ended_at: LRUCache[str, int] = LRUCache(MAX_RUNS)
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Read the ends that are announced already, and follow those to come.

        Raises:
            BusUnavailableError: they cannot be read.

        """
        self._subscription = await self._bus.follow(topics.RUN_ENDED, self._on_ended)

    async def _on_ended(self, message: Message) -> None:
        try:
            event = events_pb2.RunEnded.FromString(message.value)
        except DecodeError as error:
            raise InvalidInputError("the message is not a RunEnded") from error
        known = self._ended_at.get(event.run_id, 0)
        self._ended_at[event.run_id] = max(known, event.ended_at.ToNanoseconds())

    def wants(self, request: events_pb2.GenerationRequested) -> bool:
        """Return False for a request that was made before its run ended.

        A run that was taken up again has made its requests anew. One without a time, as an earlier version may have
        made it, is wanted.
        """
        if not request.HasField("requested_at"):
            return True
        return request.requested_at.ToNanoseconds() > self._ended_at.get(request.cell.run_id, 0)

    async def stop(self) -> None:
        """Follow no more."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.stop()
