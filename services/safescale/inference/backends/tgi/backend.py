"""Text Generation Inference: instruct rows through its chat, base rows through `/generate`.

The first text of a call is streamed, which measures the time to the first token and leaves the prompt in the server's
prefix cache. The others follow together as seeded calls to the same replica: TGI's chat ignores `n`, and `best_of`
takes no seed. Every exchange goes through `ReplicaSet`, which repeats what failed on the way.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from safescale.core.errors import BackendUnavailableError, InvalidInputError, SafescaleError
from safescale.core.safety.regimes import sample_seed
from safescale.inference.backends.checks import check_prompt
from safescale.inference.backends.confirm import confirmed
from safescale.inference.backends.messages import continuation, plain_prompt
from safescale.inference.backends.port import (
    Call,
    Capabilities,
    Generation,
    Generations,
    Sampling,
    Score,
    Scores,
    Tokens,
)
from safescale.inference.backends.tgi import wire
from safescale.inference.backends.tgi.errors import cut_answer, too_long
from safescale.inference.backends.tgi.scores import chat_prefix, continuation_score
from safescale.inference.backends.tgi.server import ASIDE_TIMEOUT_S, CHAT, GENERATE_STREAM, TgiServer, Timed
from safescale.inference.backends.tgi.stop_sequences import StopGate
from safescale.inference.backends.tgi.tokens import bytes_of_tokens, count
from safescale.inference.backends.tgi.watch import Watch
from safescale.inference.catalog import ModelRow
from safescale.inference.upstream.http import http_options
from safescale.inference.upstream.replica_set import CallResult, Replica, ReplicaSet, replica_set_options
from safescale.runtime.telemetry import Telemetry

UNCHECKED_TOKENS = 1024
"""New tokens above which TGI no longer refuses a prompt that leaves no room for them."""

INFO_FRESH_S = 10.0
"""Seconds for which a server is assumed to serve what it served before; no model is loaded faster."""

ASIDE_CALLS = 4
"""Calls at once to each replica for that. They need no lease among the generations, which can take minutes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _One:
    """The request of one exchange: answer number `index` of sampling number `place`."""

    place: int
    sampling: Sampling
    index: int

    @property
    def single(self) -> Sampling:
        """The sampling of this answer alone."""
        if self.sampling.greedy:
            return self.sampling
        return replace(self.sampling, seed=sample_seed(self.sampling.seed, self.index), count=1)


@dataclass(frozen=True, slots=True)
class _Scored:
    """The score of one continuation, the tokens of the prompt before it, the seconds of the exchange."""

    score: Score
    prompt_tokens: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class _CompletedTgiCall(Generic[T]):
    """What a call gave, the replicas that answered (at least one), the fewest tokens reported of the prompt."""

    value: T
    replicas: tuple[Replica, ...]
    prompt_tokens: int | None


class TgiBackend:
    """One model of the catalog behind replicas of TGI."""

    def __init__(self, row: ModelRow, telemetry: Telemetry) -> None:
        if row.endpoint is None:
            raise ValueError(f"{row.id} has no endpoint")
        self._row = row
        self._server = TgiServer(row.id, http_options(row.endpoint))
        options = replica_set_options(row.endpoint)
        self._retry_for_s = options.retry_for_s
        self._replica_set = ReplicaSet(row.id, options, telemetry)
        self._asides = ReplicaSet(f"{row.id}:aside", replace(options, concurrency=ASIDE_CALLS), telemetry)
        self._watch = Watch(row, self._server, INFO_FRESH_S, self._replica_set.bound)
        concurrency = row.endpoint.concurrency * len(row.endpoint.urls)
        self._concurrency = concurrency

    @property
    def capabilities(self) -> Capabilities:
        """Scores by the log-probabilities of the prompt, for a TGI that gives them."""
        # TGI's versions, which decide answers too, are part of the revision as well: only the servers know them.
        return Capabilities(True, self._concurrency, self._watch.fingerprint, repeats=True)

    def unavailable_reason(self) -> str:
        """Return why the servers cannot be asked: a file of the row that cannot be read. Asks none."""
        return self._server.unavailable_reason()

    async def revision(self, *, refresh: bool = False) -> str:
        """Return the weights' revision of the catalog or the servers, and TGI's versions: `b179c9 (tgi 3.3.6)`."""
        if not self._watch.known:
            deadline = time.monotonic() + ASIDE_TIMEOUT_S + self._retry_for_s
            await self._asides.call(self._watched(self._seen), deadline)
            await self._watch.look_at(self._replica_set.replicas)
        elif refresh:
            await self._watch.look_at(self._replica_set.replicas)
        return self._watch.served_revision()

    async def _identity(self) -> tuple[str, str]:
        await self.revision()
        return self._watch.identity

    async def _seen(self, replica: Replica) -> None:
        await self._watch.look_at([replica], away=True)

    async def generate(self, call: Call, samplings: Sequence[Sampling]) -> Generations:
        """Ask one prompt for texts: greedy first, or the first sample; the others together behind it."""
        if not any(sampling.count for sampling in samplings):
            return Generations((), 0.0)
        before = await self._identity()
        done = await confirmed(
            lambda: self._generated(call, samplings), lambda done: self._watch.confirm(done.replicas, before)
        )
        warnings = await self._check_prompt(call, done)
        return replace(done.value, warnings=warnings)

    async def _generated(self, call: Call, samplings: Sequence[Sampling]) -> "_CompletedTgiCall[Generations]":
        asked = [
            _One(place, sampling, index) for place, sampling in enumerate(samplings) for index in range(sampling.count)
        ]
        waited = await self._check_room(call, samplings)
        asked.sort(key=lambda one: not one.sampling.greedy)
        first, *others = asked
        done = {first: await self._text(call, first, None)}
        behind = await _together(self._text(call, one, done[first].replica) for one in others)
        done.update(zip(others, behind, strict=True))
        waited += done[first].waited_s + max((text.waited_s for text in behind), default=0.0)
        items = [self._generation(place, sampling, first, done) for place, sampling in enumerate(samplings)]
        replicas = tuple(dict.fromkeys(served.replica for served in done.values()))
        reported = [text.value.answer.prompt_tokens for text in done.values()]
        fewest = min((tokens for tokens in reported if tokens is not None), default=None)
        return _CompletedTgiCall(Generations(tuple(items), waited), replicas, fewest)

    async def _check_prompt(self, call: Call, done: "_CompletedTgiCall[Any]") -> tuple[str, ...]:
        """Compare the tokens that were reported of a prompt with those that its server counts."""
        if done.prompt_tokens is None:
            return ()
        try:
            counted: int | None = len((await self._prompt(done.replicas[0], call))[1])
        except SafescaleError:
            # A check that fails must not fail the answer.
            counted = None
        return check_prompt(self._row.id, call.messages, done.prompt_tokens, counted)

    def _generation(
        self, place: int, sampling: Sampling, first: _One, done: Mapping[_One, CallResult[Timed]]
    ) -> Generation:
        texts = {one: served.value for one, served in done.items() if one.place == place}
        alone = texts[first].elapsed_s if first in texts else 0.0
        together = max((text.elapsed_s for one, text in texts.items() if one != first), default=0.0)
        ordered = [texts[one] for one in sorted(texts, key=lambda one: one.index)]
        return Generation(
            outputs=tuple(wire.output(text.answer, sampling.stop, sampling.max_new_tokens) for text in ordered),
            # The first text is streamed, and streams report it.
            prompt_tokens=done[first].value.answer.prompt_tokens or 0,
            prompt_calls=len(ordered),
            elapsed_s=alone + together,
            time_to_first_token_s=ordered[0].first_token_s if sampling.greedy or first in texts else None,
        )

    async def _text(self, call: Call, one: _One, prefer: Replica | None) -> CallResult[Timed]:
        streamed = prefer is None or one.sampling.greedy

        async def exchange(replica: Replica) -> Timed:
            info = await self._watch.info(replica)
            path, body = self._request(call, one.single, info)
            if streamed:
                stream_body = wire.chat_stream_body(body) if self._row.instruct else body
                text = await self._server.streamed(replica, path, stream_body, call.timeout_s)
            elif self._row.instruct:
                text = await self._server.chat(replica, body, call.timeout_s)
            else:
                text = await self._server.generate(replica, body, call.timeout_s)
            self._check(text.answer, one.sampling, info)
            return text

        return await self._replica_set.call(self._watched(exchange), call.deadline, prefer)

    def _request(self, call: Call, single: Sampling, info: wire.Info) -> tuple[str, dict[str, Any]]:
        # More stop texts than the server takes are no loss: the text is cut here in any case.
        stops = single.stop[: info.max_stop_sequences]
        if self._row.instruct:
            return CHAT, wire.chat_body(call.messages, self._row.served_model, single, stops)
        prompt = plain_prompt(call.messages)
        return GENERATE_STREAM, wire.generate_body(prompt, self._row.served_model, single, stops)

    def _check(self, answer: wire.TgiAnswer, sampling: Sampling, info: wire.Info) -> None:
        """Refuse a text that the server ended before the tokens requested: it does not answer the question."""
        if answer.finish_reason == "length" and answer.generated_tokens < sampling.max_new_tokens:
            raise cut_answer(self._row.id, answer, sampling.max_new_tokens, info)

    async def _check_room(self, call: Call, samplings: Sequence[Sampling]) -> float:
        """Refuse what does not fit, which TGI would cut silently; return the seconds waited for the check."""
        new = max(sampling.max_new_tokens for sampling in samplings)
        if new <= UNCHECKED_TOKENS:
            return 0.0

        async def exchange(replica: Replica) -> tuple[int, wire.Info]:
            info = await self._watch.info(replica)
            return len((await self._prompt(replica, call))[1]), info

        served = await self._replica_set.call(self._watched(exchange), call.deadline, aside=True)
        prompt, info = served.value
        if prompt > info.max_input_tokens:
            raise too_long(self._row.id, prompt, info.max_input_tokens, "--max-input-tokens")
        if prompt + new > info.max_total_tokens:
            raise too_long(self._row.id, prompt, info.max_total_tokens, "--max-total-tokens", new)
        return served.waited_s

    async def _prompt(self, replica: Replica, call: Call) -> tuple[str, tuple[wire.Token, ...]]:
        """Return the prompt as the model reads it, and its tokens."""
        if self._row.instruct:
            rendered = await self._server.rendered(replica, call.messages, self._row.served_model, call.timeout_s)
            return rendered.text, rendered.tokens
        prompt = plain_prompt(call.messages)
        return prompt, await self._server.tokens(replica, prompt, call.timeout_s)

    async def stream(self, call: Call, sampling: Sampling) -> AsyncIterator[str | Generation]:
        """Ask for one text: its pieces as they come, then the whole. Not repeated."""
        before = await self._identity()
        await self._check_room(call, [sampling])
        gate = StopGate(sampling.stop)
        begin = time.perf_counter()
        first: float | None = None
        answer: wire.TgiAnswer | None = None
        async with self._replica_set.lease(call.deadline) as lease:
            info = await self._watched(self._watch.info)(lease.replica)
            path, body = self._request(call, _One(0, sampling, 0).single, info)
            body = wire.chat_stream_body(body) if self._row.instruct else body
            begin = time.perf_counter()
            async with aclosing(self._server.stream(lease.replica, path, body, call.timeout_s)) as events:
                async for event in events:
                    if isinstance(event, wire.TgiAnswer):
                        answer = event
                        continue
                    first = first if first is not None else time.perf_counter() - begin
                    if text := gate.feed(event.text):
                        yield text
            answer = self._server.whole(answer)
            elapsed = time.perf_counter() - begin
            self._check(answer, sampling, info)
        await self._watch.confirm([lease.replica], before)
        output = wire.output(answer, sampling.stop, sampling.max_new_tokens)
        done = _CompletedTgiCall(output, (lease.replica,), answer.prompt_tokens)
        warnings = await self._check_prompt(call, done)
        if text := gate.rest(output.text):
            yield text
        yield Generation((output,), answer.prompt_tokens or 0, elapsed, first, warnings=warnings)

    async def score(self, call: Call, continuations: Sequence[str]) -> Scores:
        """Score texts as the end of a prompt, each in a call of its own, all at once."""
        texts = [continuation(text, instruct=self._row.instruct) for text in continuations]
        if not all(texts):
            raise InvalidInputError("an empty continuation cannot be scored")
        before = await self._identity()
        done = await confirmed(
            lambda: self._scores(call, texts), lambda done: self._watch.confirm(done.replicas, before)
        )
        return done.value

    async def _scores(self, call: Call, texts: Sequence[str]) -> "_CompletedTgiCall[Scores]":
        prefix = self._watched(lambda replica: self._prefix(replica, call))
        found = await self._replica_set.call(prefix, call.deadline, aside=True)
        served = await _together(self._scored(call, found.value, text, found.replica) for text in texts)
        scored = [one.value for one in served]
        scores = Scores(
            items=tuple(one.score for one in scored),
            prompt_tokens=scored[0].prompt_tokens,
            elapsed_s=max(one.elapsed_s for one in scored),
            time_to_first_token_s=None,
            waited_s=found.waited_s + max(one.waited_s for one in served),
            prompt_calls=len(scored),
        )
        return _CompletedTgiCall(scores, tuple(dict.fromkeys(one.replica for one in served)), scores.prompt_tokens)

    async def _prefix(self, replica: Replica, call: Call) -> str:
        await self._watch.info(replica)
        if not self._row.instruct:
            return plain_prompt(call.messages)
        rendered = await self._server.rendered(replica, call.messages, self._row.served_model, call.timeout_s)
        return await chat_prefix(
            lambda text: self._server.tokens(replica, text, call.timeout_s), rendered, self._row.id
        )

    async def _scored(self, call: Call, prefix: str, text: str, prefer: Replica) -> CallResult[_Scored]:
        async def exchange(replica: Replica) -> _Scored:
            await self._watch.info(replica)
            tokens = await self._server.tokens(replica, prefix + text, call.timeout_s)
            prefill, elapsed = await self._server.prefill(
                replica, prefix + text, self._row.served_model, call.timeout_s
            )
            score = continuation_score(prefix, tokens, prefill, self._row.id)
            return _Scored(score, len(tokens) - score.tokens, elapsed)

        return await self._replica_set.call(self._watched(exchange), call.deadline, prefer)

    async def tokenize(self, texts: Sequence[str], truncate_to: int | None) -> Tokens:
        """Count tokens, without those that the tokenizer adds; with a limit also the longest prefixes within it."""
        found = await _together(self._tokens(text) for text in texts)
        counts = tuple(count(tokens) for tokens in found)
        if truncate_to is None:
            return Tokens(counts, ())
        cut = await _together(
            self._prefix_within(text, tokens, truncate_to) for text, tokens in zip(texts, found, strict=True)
        )
        return Tokens(counts, tuple(cut))

    async def _tokens(self, text: str) -> tuple[wire.Token, ...]:
        if not text:
            return ()

        async def exchange(replica: Replica) -> tuple[wire.Token, ...]:
            await self._watch.info(replica)
            return await self._server.tokens(replica, text, ASIDE_TIMEOUT_S)

        deadline = time.monotonic() + ASIDE_TIMEOUT_S
        return (await self._asides.call(self._watched(exchange), deadline)).value

    async def _prefix_within(self, text: str, tokens: Sequence[wire.Token], limit: int) -> str:
        if count(tokens) <= limit:
            return text
        # A prefix can have more tokens than it had inside the text: try shorter ones.
        for keep in range(limit, 0, -1):
            prefix = bytes_of_tokens(text, tokens, keep)
            if count(await self._tokens(prefix)) <= limit:
                return prefix
        return ""

    def _watched(self, exchange: Callable[[Replica], Awaitable[T]]) -> Callable[[Replica], Awaitable[T]]:
        """Wrap an exchange: a replica that fails in it is asked again what it serves, as it may come back changed."""

        async def watched(replica: Replica) -> T:
            try:
                return await exchange(replica)
            except BackendUnavailableError:
                self._watch.forget(replica)
                raise

        return watched

    async def close(self) -> None:
        """Let those that wait fail, and close all connections."""
        await self._replica_set.close()
        await self._asides.close()
        await self._server.close()


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of concurrent coroutines; the first failure cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]
