"""llama.cpp in this process: a pool of instances, each with one slot, one thread and a cache of its own.

The cache rule, which makes answers a function of the call alone. A call has one instance to itself. First the prompt is
evaluated cold, that is whole, whatever the instance held (greedy is asked in this way; without greedy, one token). Then
samples and scores use the evaluated prompt: each goes on from the prompt's last token, since all that follows it is
dropped. So an answer does not depend on the instance, on its order, nor on what was asked before.
"""

import asyncio
import importlib.metadata
import importlib.util
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safescale.core.errors import BackendUnavailableError, ModelChangedError
from safescale.core.safety.prompts import Messages
from safescale.core.safety.regimes import sample_seed
from safescale.inference.backends.llama.pool import InstanceLimiter, InstancePool
from safescale.inference.backends.llama.protocol import too_long
from safescale.inference.backends.llama.server import LlamaConfig, LlamaServer
from safescale.inference.backends.llama.stream import Collected
from safescale.inference.backends.llama.weights import State, Weights, weights_of
from safescale.inference.backends.port import (
    Call,
    Capabilities,
    Generation,
    Generations,
    Output,
    Sampling,
    Scores,
    Tokens,
)
from safescale.inference.catalog import ModelRow

LIBRARY = "xllamacpp"


@dataclass(frozen=True)
class EmbeddedOptions:
    """`instances` of the model at most; `limiter` bounds the instances of all models that work at once."""

    instances: int
    limiter: InstanceLimiter
    cache_dir: Path


class EmbeddedBackend:
    """One model of the catalog in this process, loaded at its first use."""

    def __init__(self, row: ModelRow, options: EmbeddedOptions) -> None:
        self._row = row
        self._weights: Weights = weights_of(row, options.cache_dir)
        self._digest = row.revision
        self._digest_lock = asyncio.Lock()
        self._pool = InstancePool(row.id, self._open, options.instances, options.limiter)
        self._instances = options.instances
        self._version = _version()
        self._digested: State | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Scores by forced tokens; as many cells at once as there are instances."""
        if not self._version:
            # Installed since the start, perhaps.
            self._version = _version()
        fingerprint = f"{LIBRARY} {self._version or 'absent'}, context {self._row.served_tokens}"
        return Capabilities(scores=True, concurrency=self._instances, fingerprint=fingerprint)

    def unavailable_reason(self) -> str:
        """Why the model cannot be asked: llama.cpp or the weights are not installed. Loads nothing."""
        if importlib.util.find_spec(LIBRARY) is None:
            return f"the package {LIBRARY} is not installed (extra: embedded)"
        return self._weights.missing()

    async def revision(self, *, refresh: bool = False) -> str:
        """SHA-256 (hex) of the weights: the catalog's, or computed once."""
        # Weights that are loaded stay what they are; a file that was replaced before is noticed when it is loaded.
        del refresh
        async with self._digest_lock:
            if self._digest is None:
                self._digested = self._weights.state()
                self._digest = await asyncio.to_thread(self._weights.compute_digest)
            return self._digest

    def _open(self) -> LlamaServer:
        if reason := self.unavailable_reason():
            raise BackendUnavailableError(reason)
        row = self._row
        if self._digested not in (None, self._weights.state()):
            # Told again from what is there now, which is what is loaded then.
            self._digest, self._digested = row.revision, None
            raise ModelChangedError(f"the weights of {row.id} were replaced after their revision was told")
        return LlamaServer(LlamaConfig(row.id, self._weights.file(), row.served_tokens, row.instruct))

    async def generate(self, call: Call, samplings: Sequence[Sampling]) -> Generations:
        """Ask one prompt for texts: it is evaluated once; greedy first, then the samples."""

        def work(server: LlamaServer, stop: threading.Event) -> tuple[Generation, ...]:
            return _generate(server, call.messages, samplings, stop)

        items, waited = await self._pool.run(work, call.timeout_s)
        return Generations(items, waited)

    async def stream(self, call: Call, sampling: Sampling) -> AsyncIterator[str | Generation]:
        """Ask for one text: its pieces as they come, then the whole generation."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def push(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def work(server: LlamaServer, stop: threading.Event) -> Generation:
            primed = None if sampling.greedy else server.prime(call.messages, stop)
            seeded = sampling if primed is None else _seeded(sampling, 0)
            text = server.text(call.messages, seeded, cold=primed is None, stop=stop, on_piece=push)
            return _generation([text], primed)

        running = asyncio.create_task(self._pool.run(work, call.timeout_s))
        running.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            generation, _ = await running
            yield generation
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def score(self, call: Call, continuations: Sequence[str]) -> Scores:
        """Score texts by forcing their tokens one after the other behind the evaluated prompt."""

        def work(server: LlamaServer, stop: threading.Event) -> Scores:
            return self._score(server, call.messages, continuations, stop)

        scores, waited = await self._pool.run(work, call.timeout_s)
        return replace(scores, waited_s=waited)

    def _score(self, server: LlamaServer, messages: Messages, texts: Sequence[str], stop: threading.Event) -> Scores:
        tokens = server.run(server.protocol.to_score(texts), stop)
        begin = time.perf_counter()
        primed = server.prime(messages, stop)
        longest = primed.prompt_tokens + max(len(pieces) for pieces in tokens)
        if longest > self._row.served_tokens:
            raise too_long(self._row.id, longest, self._row.served_tokens)
        items = server.run(server.protocol.scores(messages, primed.prompt_tokens, tokens), stop)
        elapsed = time.perf_counter() - begin
        return Scores(tuple(items), primed.prompt_tokens, elapsed, primed.elapsed_s, 0.0)

    async def tokenize(self, texts: Sequence[str], truncate_to: int | None) -> Tokens:
        """Count tokens; with a limit also the longest prefixes within it. Works beside generations."""
        server = await self._pool.any()
        return await asyncio.to_thread(server.run, server.protocol.tokens(texts, truncate_to), threading.Event())

    async def close(self) -> None:
        """Let calls in flight end at their next token and free the instances."""
        await self._pool.close()


def _version() -> str:
    try:
        return importlib.metadata.version(LIBRARY)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _seeded(sampling: Sampling, index: int) -> Sampling:
    return replace(sampling, seed=sample_seed(sampling.seed, index), count=1)


def _generate(
    server: LlamaServer, messages: Messages, samplings: Sequence[Sampling], stop: threading.Event
) -> tuple[Generation, ...]:
    done: dict[int, Generation] = {}
    # Greedy evaluates the prompt cold itself, so it leaves behind what the samples need.
    for index, sampling in enumerate(samplings):
        if sampling.greedy:
            done[index] = _generation([server.text(messages, sampling, cold=True, stop=stop)], None)
    primed: Collected | None = None
    if not done:
        primed = server.prime(messages, stop)
    for index, sampling in enumerate(samplings):
        if index not in done:
            seeded = [_seeded(sampling, number) for number in range(sampling.count)]
            texts = [server.text(messages, one, cold=False, stop=stop) for one in seeded]
            generation = _generation(texts, primed)
            # The prompt was evaluated for another sampling, and is not again.
            done[index] = generation if primed else replace(generation, prompt_calls=0)
            primed = None
    return tuple(done[index] for index in range(len(samplings)))


def _generation(texts: Sequence[Collected], primed: Collected | None) -> Generation:
    before = primed.elapsed_s if primed else 0.0
    outputs: tuple[Output, ...] = tuple(text.output for text in texts)
    elapsed = before + sum(text.elapsed_s for text in texts)
    first = texts[0].time_to_first_token_s
    return Generation(outputs, texts[0].prompt_tokens, elapsed, None if first is None else before + first)
