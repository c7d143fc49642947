"""llama.cpp's own HTTP server: the cache rule of `llama.backend`, on one slot of one replica for each call.

A call has a slot to itself. First the prompt is evaluated cold; samples and scores then use what the slot holds. So the
numbers are those of the same model in process, provided that the server has one slot and one thread. Each answer says
how much of the prompt the slot held: where that is not the whole, another client was there, and the call starts over.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from safescale.core.errors import BackendError, FailedPreconditionError
from safescale.core.safety.regimes import sample_seed
from safescale.inference.backends.checks import check_whole
from safescale.inference.backends.llama.protocol import LlamaProtocol, too_long
from safescale.inference.backends.llama.stream import Collected
from safescale.inference.backends.messages import CHAT, COMPLETIONS
from safescale.inference.backends.openai.client import OpenAIClient
from safescale.inference.backends.openai.discovery import ASK_TIMEOUT_S, DiscoveredServer
from safescale.inference.backends.openai.wire import STREAMED
from safescale.inference.backends.port import Call, Generation, Sampling, Scores
from safescale.inference.backends.steps import Ask, Steps, field
from safescale.inference.upstream.replica_set import Replica

T = TypeVar("T")

BEGINNINGS = 3
"""Times that a call begins before another client's use of its slot is an error."""


class SlotPool:
    """The slots of each replica, each lent to one call at a time."""

    def __init__(self, client: OpenAIClient, limit: int) -> None:
        self._client = client
        self._limit = limit
        self._free: dict[str, asyncio.Queue[int]] = {}
        self._asking = asyncio.Lock()

    @asynccontextmanager
    async def lease(self, replica: Replica) -> AsyncIterator[int]:
        """Lend a slot of a replica; wait for one."""
        free = await self._of(replica)
        slot = await free.get()
        try:
            yield slot
        finally:
            free.put_nowait(slot)

    def forget(self, replica: Replica) -> None:
        """Forget the number of a replica's slots: what comes back may have another."""
        self._free.pop(replica.url, None)

    async def _of(self, replica: Replica) -> asyncio.Queue[int]:
        async with self._asking:
            if replica.url not in self._free:
                properties = await self._client.get_json(replica, "/props", ASK_TIMEOUT_S)
                total = field(properties, "total_slots")
                count = min(total, self._limit) if type(total) is int and total > 0 else 1
                queue: asyncio.Queue[int] = asyncio.Queue()
                for slot in range(count):
                    queue.put_nowait(slot)
                self._free[replica.url] = queue
            return self._free[replica.url]


class LlamaCall:
    """One call on one slot of one replica."""

    def __init__(
        self, client: OpenAIClient, server: DiscoveredServer, protocol: LlamaProtocol, replica: Replica, slot: int
    ) -> None:
        self._client = client
        self._protocol = protocol
        self._replica = replica
        self._pinned: Mapping[str, Any] = {"model": server.name, "id_slot": slot}
        self._server = server

    async def generate(self, call: Call, samplings: Sequence[Sampling]) -> tuple[Generation, ...]:
        """Generate texts for each sampling: greedy first, since it evaluates the prompt itself."""
        return await self._undisturbed(lambda: self._generated(call, samplings))

    async def _generated(self, call: Call, samplings: Sequence[Sampling]) -> tuple[Generation, ...]:
        done: dict[int, Generation] = {}
        for index, sampling in enumerate(samplings):
            if sampling.greedy:
                done[index] = _generation([await self.text(call, sampling, cold=True)], None)
        primed = None if done else await self.text(call, Sampling(0.0, 1), cold=True)
        for index, sampling in enumerate(samplings):
            if index not in done:
                texts = [
                    await self.text(call, seeded(sampling, number), cold=False) for number in range(sampling.count)
                ]
                done[index] = _generation(texts, primed)
                primed = None
        return tuple(done[index] for index in range(len(samplings)))

    async def stream(self, call: Call, sampling: Sampling, on_piece: Callable[[str], None]) -> Generation:
        """Generate one text, piece by piece. Another client's use of the slot is not noticed by its readers."""
        if sampling.greedy:
            return _generation([await self.text(call, sampling, cold=True, on_piece=on_piece)], None)
        primed = await self.text(call, Sampling(0.0, 1), cold=True)
        return _generation([await self.text(call, seeded(sampling, 0), cold=False, on_piece=on_piece)], primed)

    async def score(self, call: Call, continuations: Sequence[str]) -> Scores:
        """Score texts whose tokens are forced one after the other behind the evaluated prompt."""
        return await self._undisturbed(lambda: self._scored(call, continuations))

    async def _scored(self, call: Call, continuations: Sequence[str]) -> Scores:
        tokens, _ = await self._client.run(self._replica, self._protocol.to_score(continuations), call.timeout_s)
        begin = time.perf_counter()
        primed = await self.text(call, Sampling(0.0, 1), cold=True)
        longest = primed.prompt_tokens + max(len(pieces) for pieces in tokens)
        if 0 < self._server.window < longest:
            raise too_long(self._server.name, longest, self._server.window)
        steps = self._protocol.scores(call.messages, primed.prompt_tokens, tokens)
        items, _ = await self._client.run(
            self._replica, self._watched(steps, primed.prompt_tokens), call.timeout_s, self._server.names
        )
        elapsed = time.perf_counter() - begin
        return Scores(tuple(items), primed.prompt_tokens, elapsed, primed.elapsed_s, 0.0)

    async def text(
        self, call: Call, sampling: Sampling, *, cold: bool, on_piece: Callable[[str], None] | None = None
    ) -> Collected:
        """Generate one text; a warm one on a slot that holds the prompt."""
        ask = self._protocol.ask(call.messages, sampling, cold=cold)
        dialect = self._server.dialect
        drawing = {} if sampling.greedy else dialect.drawing
        body = orjson.dumps({**ask.body, **dialect.always, **drawing, **self._pinned, **STREAMED})
        collected = await self._client.streamed(
            self._replica, ask.path, body, call.timeout_s, on_piece, reuse=dialect.keeps
        )
        self._server.names.check(self._server.name, *collected.answered)
        check_whole(self._server.name, [collected.output], sampling.max_new_tokens)
        if not cold:
            _check_warm(collected.cached_tokens, collected.prompt_tokens)
        return collected

    def _watched(self, steps: Steps[T], prompt_tokens: int) -> Steps[T]:
        """Hold the conversation on this slot, which must hold the prompt at every exchange."""
        try:
            ask = next(steps)
            while True:
                generating = ask.path in (CHAT, COMPLETIONS)
                answer = yield Ask(ask.path, {**ask.body, **self._pinned}) if generating else ask
                if generating:
                    _check_warm(field(answer, "usage", "prompt_tokens_details", "cached_tokens"), prompt_tokens)
                ask = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _undisturbed(self, work: Callable[[], Awaitable[T]]) -> T:
        for _ in range(BEGINNINGS):
            try:
                return await work()
            except _DisturbedError:
                continue
        raise BackendError(
            f"{self._replica.url} does not hold a prompt until its answers are drawn: another client uses its slots "
            "(give this service servers of its own), or the model has a sliding window (start it with --swa-full)"
        )


class _DisturbedError(Exception):
    """The slot does not hold the prompt that was evaluated there."""


def _check_warm(cached: object, prompt_tokens: int) -> None:
    if cached is None:
        raise FailedPreconditionError(
            "this llama.cpp server does not tell what its cache holds (prompt_tokens_details); expected a newer one"
        )
    # The last token of a prompt is always evaluated anew.
    if not isinstance(cached, int) or cached < prompt_tokens - 1:
        raise _DisturbedError


def seeded(sampling: Sampling, index: int) -> Sampling:
    """Return the sampling of one answer, with its own seed."""
    return replace(sampling, seed=sample_seed(sampling.seed, index), count=1)


def _generation(texts: Sequence[Collected], primed: Collected | None) -> Generation:
    before = primed.elapsed_s if primed else 0.0
    elapsed = before + sum(text.elapsed_s for text in texts)
    outputs = tuple(text.output for text in texts)
    first = texts[0].time_to_first_token_s
    first = None if first is None else before + first
    return Generation(outputs, texts[0].prompt_tokens, elapsed, first, len(texts) + (primed is not None))
