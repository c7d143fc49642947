"""Requests for texts of one OpenAI-compatible server, in the ways in which it gives them.

What a replica turns out not to do narrows how it is asked from then on, until it was away: how many texts it gives in
one call, and whether it streams with its token counts.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from safescale.core.errors import BackendError
from safescale.core.safety.regimes import sample_seed
from safescale.inference.backends.checks import check_whole
from safescale.inference.backends.llama.stream import Collected
from safescale.inference.backends.openai.client import OpenAIClient, all_or_none, left
from safescale.inference.backends.openai.discovery import DiscoveredServer
from safescale.inference.backends.openai.probe import PROBE_CHOICES
from safescale.inference.backends.openai.wire import STREAMED, Reply, closed, options
from safescale.inference.backends.port import Call, Output, Sampling
from safescale.inference.upstream.replica_set import CallResult, Replica

Drawn = CallResult[tuple[Reply, float]]
"""What one call for samples gave, and its seconds."""


class RunExchange(Protocol):
    """Runs an exchange at a replica, again where that helps."""

    def __call__(self, exchange: Callable[[Replica], Awaitable[tuple[Reply, float]]]) -> Awaitable[Drawn]:
        """Return what the exchange gave."""


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """What the calls of one sampling share: the server as discovered, the call, its encoded prompt, the sampling.

    `choices`: whether the server gives several texts in one call.
    """

    server: DiscoveredServer
    call: Call
    opened: bytes
    sampling: Sampling
    choices: bool = False


class TextRequester:
    """Asks the replicas of one model for texts."""

    def __init__(self, model: str, client: OpenAIClient, path: str) -> None:
        self._model = model
        self._client = client
        self._path = path
        self._most: dict[str, int] = {}
        self._unstreamed: set[str] = set()

    def forget(self, replica: Replica) -> None:
        """Forget what a replica does: what comes back may be another server."""
        self._most.pop(replica.url, None)
        self._unstreamed.discard(replica.url)

    async def one(
        self, replica: Replica, request: SamplingRequest, on_piece: Callable[[str], None] | None = None
    ) -> Collected:
        """Return one text, streamed; in one piece from a server that streams none, or counts no tokens of a stream."""
        server, sampling, call = request.server, request.sampling, request.call
        asked = options(server.dialect, sampling)
        pieces = 0

        def seen(piece: str) -> None:
            nonlocal pieces
            pieces += 1
            if on_piece is not None:
                on_piece(piece)

        if replica.url not in self._unstreamed:
            body = closed(request.opened, {**asked, **STREAMED})
            try:
                text = await self._client.streamed(
                    replica, self._path, body, left(call), seen, reuse=server.dialect.keeps
                )
            except BackendError as error:
                refused = error.details.get("refused") in STREAMED
                # Pieces that are out cannot be taken back.
                if not refused and ("missing" not in error.details or (pieces and on_piece is not None)):
                    raise
                self._unstreamed.add(replica.url)
            else:
                self._check(request, [text.output], *text.answered)
                return text
        reply, elapsed = await self._client.reply(replica, self._path, closed(request.opened, asked), 1, left(call))
        self._check(request, reply.outputs, reply.answered)
        if on_piece is not None:
            on_piece(reply.outputs[0].reasoning + reply.outputs[0].text)
        return Collected(reply.outputs[0], reply.prompt_tokens, elapsed, None, answered=(reply.answered,))

    async def samples(self, request: SamplingRequest, asked: RunExchange) -> list[Drawn]:
        """Draw the answers of a sampling in calls of as many as the server gives at once; `asked` runs an exchange."""
        count = request.sampling.count
        most = min(self._most.values(), default=count) if request.choices else 1
        return await self._drawn(request, asked, (0, count), max(1, min(most, count)))

    async def _drawn(
        self, request: SamplingRequest, asked: RunExchange, span: tuple[int, int], most: int
    ) -> list[Drawn]:
        """Draw the answers of a span of numbers in calls of `most`; of fewer if the server gives no more."""
        begin, end = span
        calls = [self._draw(request, asked, (at, min(at + most, end))) for at in range(begin, end, most)]
        parts = [await calls[0]] if len(calls) == 1 else await all_or_none(*calls)
        return [drawn for part in parts for drawn in part]

    async def _draw(self, request: SamplingRequest, asked: RunExchange, span: tuple[int, int]) -> list[Drawn]:
        server, sampling, count = request.server, request.sampling, span[1] - span[0]
        seeded = {**options(server.dialect, sampling, count), "seed": sample_seed(sampling.seed, span[0])}
        body = closed(request.opened, seeded)

        async def exchange(replica: Replica) -> tuple[Reply, float]:
            reply = await self._client.reply(replica, self._path, body, count, left(request.call))
            self._check(request, reply[0].outputs, reply[0].answered)
            return reply

        try:
            return [await asked(exchange)]
        except BackendError as error:
            fewer = fewer_texts(error, count)
            if not fewer:
                raise
            drawn = await self._drawn(request, asked, span, fewer)
        # Only now is it known that it was their number.
        self._most.update((one.replica.url, fewer) for one in drawn)
        return drawn

    def _check(self, request: SamplingRequest, outputs: Sequence[Output], *answered: str) -> None:
        check_whole(self._model, outputs, request.sampling.max_new_tokens)
        request.server.names.check(self._model, *answered)


def fewer_texts(error: BackendError, count: int) -> int:
    """Return how many texts to request at once after a call for `count` failed; 0 if their number is not to blame."""
    if count == 1:
        return 0
    told = error.details.get("texts", "")
    if told.isdigit() and int(told) < count:
        return max(1, int(told))
    # What was refused as such may be their number, and some servers break over it.
    if "refused" in error.details or error.details.get("repeat") == "once":
        return PROBE_CHOICES if count > PROBE_CHOICES else 1
    return 0
