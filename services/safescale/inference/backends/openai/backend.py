"""Models behind OpenAI-compatible servers: vLLM, SGLang, llama.cpp's own, TGI in that mode, and others.

Greedy is streamed, for the time to its first token. The samples follow it, so that they find its prompt in the server's
prefix cache: as n choices of one call where the server gives them, else as a call for each, all at once. llama.cpp is
asked in a way of its own (`llama_slots`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from safescale.core.errors import (
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    FailedPreconditionError,
)
from safescale.inference.backends.checks import check_prompt
from safescale.inference.backends.confirm import confirmed
from safescale.inference.backends.llama.protocol import LlamaProtocol
from safescale.inference.backends.llama.stream import Collected
from safescale.inference.backends.messages import CHAT, COMPLETIONS
from safescale.inference.backends.openai.client import OpenAIClient, left
from safescale.inference.backends.openai.counting import PromptCounter
from safescale.inference.backends.openai.dialect import unscored, untokenised
from safescale.inference.backends.openai.discovery import DiscoveredServer, Discovery, with_hint
from safescale.inference.backends.openai.llama_slots import LlamaCall, SlotPool, seeded
from safescale.inference.backends.openai.probe import Probe, Ways
from safescale.inference.backends.openai.scores import SCORINGS, ScoredTexts
from safescale.inference.backends.openai.texts import Drawn, SamplingRequest, TextRequester
from safescale.inference.backends.openai.tokens import ServedModel, tgi_tokens, tokens
from safescale.inference.backends.openai.wire import opening
from safescale.inference.backends.port import (
    Call,
    Capabilities,
    Generation,
    Generations,
    Sampling,
    Scores,
    Tokens,
)
from safescale.inference.backends.steps import Steps
from safescale.inference.catalog import HttpEndpoint, ModelRow
from safescale.inference.upstream.http import http_options, model_client
from safescale.inference.upstream.replica_set import CallResult, Replica, ReplicaSet, replica_set_options
from safescale.runtime.telemetry import Telemetry

T = TypeVar("T")

TOKENIZE_TIMEOUT_S = 60.0


K = TypeVar("K", Generations, Scores)


@dataclass(frozen=True, slots=True)
class _CompletedOpenaiCall(Generic[K]):
    """What a call gave, the replicas that answered (at least one), the fewest tokens reported of the prompt."""

    value: K
    replicas: tuple[Replica, ...]
    prompt_tokens: int


class OpenAIBackend:
    """One model of the catalog at the replicas of its endpoint. They are discovered at the first use."""

    def __init__(self, row: ModelRow, telemetry: Telemetry) -> None:
        endpoint = _endpoint(row)
        self._row = row
        self._path = CHAT if row.instruct else COMPLETIONS
        self._http = model_client(http_options(endpoint))
        self._client = OpenAIClient(row.id, self._http)
        self._replica_set = ReplicaSet(row.id, replica_set_options(endpoint), telemetry)
        self._discovery = Discovery(row, self._client, self._replica_set)
        self._probe = Probe(row, self._client, self._replica_set)
        self._slots = SlotPool(self._client, endpoint.concurrency)
        self._protocol = LlamaProtocol(row.id, row.instruct)
        self._texts = TextRequester(row.id, self._client, self._path)
        self._counter = PromptCounter(self._client, self._protocol, row)
        self._concurrency = endpoint.concurrency * len(endpoint.urls)

    @property
    def capabilities(self) -> Capabilities:
        """Cells at once as the catalog says; scores unless the server is known to give none."""
        known = self._discovery.known
        scores = known is None or known.dialect.scores != ""
        fingerprint = "" if known is None else known.fingerprint
        return Capabilities(scores, self._concurrency, fingerprint, repeats=True)

    def unavailable_reason(self) -> str:
        """Return why no call can be made: a file that the catalog names cannot be read. Asks no server."""
        return self._http.unavailable_reason()

    async def revision(self, *, refresh: bool = False) -> str:
        """Return the catalog's revision, else what the server reports of its weights: at least its name for them."""
        server = await (self._discovery.refresh() if refresh else self._discovery.server())
        return server.revision

    async def _exchange_checked(
        self,
        exchange: Callable[[Replica], Awaitable[T]],
        server: DiscoveredServer,
        call: Call,
        prefer: Replica | None = None,
    ) -> CallResult[T]:
        async def checked(replica: Replica) -> T:
            try:
                await self._discovery.check(replica, server)
                return await exchange(replica)
            except BackendUnavailableError:
                self._away(replica)
                raise
            except BackendRefusedError as error:
                if server.hint and type(error) is BackendRefusedError:
                    raise BackendRefusedError(with_hint(error.message, server), details=error.details) from error
                raise

        try:
            return await self._replica_set.call(checked, call.deadline, prefer, bounded=True)
        except BackendUnavailableError:
            self._discovery.away(None)
            raise

    def _away(self, replica: Replica) -> None:
        self._discovery.away(replica)
        self._slots.forget(replica)
        self._texts.forget(replica)

    async def generate(self, call: Call, samplings: Sequence[Sampling]) -> Generations:
        """Ask one prompt for texts, once per sampling: greedy first."""
        return await self._confirmed(call, lambda server: self._generated(server, call, samplings))

    async def _confirmed(
        self, call: Call, work: Callable[[DiscoveredServer], Awaitable["_CompletedOpenaiCall[K]"]]
    ) -> K:
        """Return what the work gives, once its servers are confirmed; work again where one went away before that."""
        server = await self._discovery.server()
        done = await confirmed(lambda: work(server), lambda done: self._confirm(done.replicas, server))
        counted = await self._counter.count(server, done.replicas[0], call)
        warnings = check_prompt(self._row.id, call.messages, done.prompt_tokens, counted)
        return replace(done.value, warnings=warnings)

    async def _confirm(self, replicas: Sequence[Replica], server: DiscoveredServer) -> None:
        try:
            await self._discovery.confirm(replicas, server)
        except (BackendUnavailableError, BackendOverloadedError, BackendTimeoutError):
            for replica in replicas:
                self._away(replica)
            raise

    async def _generated(
        self, server: DiscoveredServer, call: Call, samplings: Sequence[Sampling]
    ) -> "_CompletedOpenaiCall[Generations]":
        ways = await self._ways(server, samplings)
        if server.dialect.name == "llamacpp":
            served = await self._pinned(server, call, lambda one: one.generate(call, samplings))
            items, leased_s = served.value
            return _CompletedOpenaiCall(
                Generations(items, served.waited_s + leased_s), (served.replica,), items[0].prompt_tokens
            )
        opened = opening(server.name, call.messages, instruct=self._row.instruct)
        done: dict[int, Generation] = {}
        waited = 0.0
        replicas: list[Replica] = []
        for index, sampling in enumerate(samplings):
            if sampling.greedy:
                text = await self._greedy(server, SamplingRequest(server, call, opened, sampling))
                done[index] = _generation(text.value)
                replicas.append(text.replica)
                waited += text.waited_s
        for index, sampling in enumerate(samplings):
            if index not in done:
                prefer = replicas[0] if replicas else None
                request = SamplingRequest(server, call, opened, sampling, ways.choices)
                replies = await self._samples(server, request, prefer)
                done[index] = _together(replies)
                replicas += [reply.replica for reply in replies]
                waited += max(reply.waited_s for reply in replies)
        items = tuple(done[index] for index in range(len(samplings)))
        return _CompletedOpenaiCall(Generations(items, waited), tuple(dict.fromkeys(replicas)), _fewest(items))

    async def _ways(self, server: DiscoveredServer, samplings: Sequence[Sampling]) -> Ways:
        """Return how several samples are drawn there; asks nothing when none are."""
        if all(sampling.greedy or sampling.count == 1 for sampling in samplings):
            return Ways()
        ways = await self._probe.ways(server)
        if ways.unsampled:
            raise FailedPreconditionError(f"the server of {self._row.id} cannot be sampled: {ways.unsampled}")
        return ways

    async def _greedy(self, server: DiscoveredServer, request: SamplingRequest) -> CallResult[Collected]:
        return await self._exchange_checked(lambda replica: self._texts.one(replica, request), server, request.call)

    async def _samples(self, server: DiscoveredServer, request: SamplingRequest, prefer: Replica | None) -> list[Drawn]:
        return await self._texts.samples(
            request, lambda exchange: self._exchange_checked(exchange, server, request.call, prefer)
        )

    async def stream(self, call: Call, sampling: Sampling) -> AsyncIterator[str | Generation]:
        """Ask for one text: its pieces as they come, then the whole generation."""
        server = await self._discovery.server()
        await self._ways(server, [sampling])
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        running = asyncio.create_task(self._streamed(server, call, sampling, pieces.put_nowait))
        running.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _streamed(
        self, server: DiscoveredServer, call: Call, sampling: Sampling, on_piece: Callable[[str], None]
    ) -> Generation:
        async with self._replica_set.lease(call.deadline) as lease:
            generation = await self._piecewise(server, call, sampling, (lease.replica, on_piece))
        await self._discovery.confirm([lease.replica], server)
        counted = await self._counter.count(server, lease.replica, call)
        warnings = check_prompt(self._row.id, call.messages, generation.prompt_tokens, counted)
        return replace(generation, warnings=warnings)

    async def _piecewise(
        self, server: DiscoveredServer, call: Call, sampling: Sampling, to: tuple[Replica, Callable[[str], None]]
    ) -> Generation:
        replica, on_piece = to
        await self._discovery.check(replica, server)
        if server.dialect.name == "llamacpp":
            one = self._on_slot(server, call, replica, lambda slot: slot.stream(call, sampling, on_piece))
            return (await one)[0]
        first = sampling if sampling.greedy else seeded(sampling, 0)
        opened = opening(server.name, call.messages, instruct=self._row.instruct)
        return _generation(await self._texts.one(replica, SamplingRequest(server, call, opened, first), on_piece))

    async def _pinned(
        self, server: DiscoveredServer, call: Call, work: Callable[[LlamaCall], Awaitable[T]]
    ) -> CallResult[tuple[T, float]]:
        """Work on one slot of one replica; return also the seconds waited for the slot."""
        return await self._exchange_checked(lambda replica: self._on_slot(server, call, replica, work), server, call)

    async def _on_slot(
        self, server: DiscoveredServer, call: Call, replica: Replica, work: Callable[[LlamaCall], Awaitable[T]]
    ) -> tuple[T, float]:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with self._slots.lease(replica) as slot:
            leased_s = loop.time() - begin
            one = LlamaCall(self._client, server, self._protocol, replica, slot)
            return await self._in_time(call, work(one)), leased_s

    async def _in_time(self, call: Call, work: Awaitable[T]) -> T:
        """Do work of several exchanges within the time of one."""
        try:
            async with asyncio.timeout(left(call)):
                return await work
        except TimeoutError as error:
            raise BackendTimeoutError(f"{self._row.id} did not answer within {call.timeout_s:g} s") from error

    async def score(self, call: Call, continuations: Sequence[str]) -> Scores:
        """Score texts by the log-probabilities of their tokens behind the prompt.

        Raises:
            FailedPreconditionError: the server gives none.

        """
        return await self._confirmed(call, lambda server: self._scored(server, call, continuations))

    async def _scored(
        self, server: DiscoveredServer, call: Call, continuations: Sequence[str]
    ) -> "_CompletedOpenaiCall[Scores]":
        if server.dialect.scores == "forced":
            pinned = await self._pinned(server, call, lambda one: one.score(call, continuations))
            scores, leased_s = pinned.value
            scores = replace(scores, waited_s=pinned.waited_s + leased_s)
            return _CompletedOpenaiCall(scores, (pinned.replica,), scores.prompt_tokens)
        scoring = SCORINGS.get(server.dialect.scores)
        if scoring is None:
            raise unscored(self._row.id, server.dialect.name)

        async def exchange(replica: Replica) -> tuple[ScoredTexts, float]:
            steps = scoring(self._served(server), call.messages, continuations)
            return await self._in_time(call, self._client.run(replica, steps, call.timeout_s, server.names))

        served = await self._exchange_checked(exchange, server, call)
        scored, elapsed = served.value
        scores = Scores(scored.items, scored.prompt_tokens, elapsed, None, served.waited_s, len(continuations))
        return _CompletedOpenaiCall(scores, (served.replica,), scored.prompt_tokens)

    def _served(self, server: DiscoveredServer) -> ServedModel:
        return ServedModel(self._row.id, server.name, self._row.instruct)

    async def tokenize(self, texts: Sequence[str], truncate_to: int | None) -> Tokens:
        """Count tokens; with a limit also the longest prefixes within it.

        Raises:
            FailedPreconditionError: the server does not tokenise for others.

        """
        server = await self._discovery.server()

        def steps() -> Steps[Tokens]:
            if server.dialect.tokens == "pieces":
                return self._protocol.tokens(texts, truncate_to)
            way = tgi_tokens if server.dialect.tokens == "tgi" else tokens
            return way(self._served(server), texts, truncate_to)

        if not server.dialect.tokens:
            raise untokenised(self._row.id, server.dialect.name)
        deadline = asyncio.get_running_loop().time() + 10 * TOKENIZE_TIMEOUT_S
        served = await self._replica_set.call(
            lambda replica: self._client.run(replica, steps(), TOKENIZE_TIMEOUT_S), deadline, aside=True
        )
        return served.value[0]

    async def close(self) -> None:
        """Let the calls that wait for a lease fail, close the connections."""
        await self._replica_set.close()
        await self._http.close()


def _endpoint(row: ModelRow) -> HttpEndpoint:
    if row.endpoint is None:
        raise ValueError(f"{row.id} has no endpoint")
    return row.endpoint


def _generation(text: Collected) -> Generation:
    return Generation((text.output,), text.prompt_tokens, text.elapsed_s, text.time_to_first_token_s)


def _fewest(items: Sequence[Generation]) -> int:
    return min(item.prompt_tokens for item in items)


def _together(replies: Sequence[Drawn]) -> Generation:
    outputs = tuple(output for served in replies for output in served.value[0].outputs)
    elapsed = max(served.value[1] for served in replies)
    fewest = min(served.value[0].prompt_tokens for served in replies)
    return Generation(outputs, fewest, elapsed, None, len(replies))
