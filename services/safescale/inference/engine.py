"""Query models, with availability, cache, shared calls, deadlines, retries of transport failures and telemetry."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from safescale.core.errors import (
    BackendError,
    BackendUnavailableError,
    FailedPreconditionError,
    GarbageAnswerError,
    ModelChangedError,
)
from safescale.inference.attempts import Attempts, CallPolicy
from safescale.inference.backends.port import Backend, Call, Generation, Generations, Sampling, Scores
from safescale.inference.cache.bound import CacheKeeper
from safescale.inference.cache.store import GenerationCache, GenerationKey, sampling_key, sampling_keys, scores_key
from safescale.inference.catalog import Catalog, ModelRow
from safescale.inference.checks import check_generations, check_scores
from safescale.inference.generation_metrics import MODEL_LATENCY, Cost, Observer, latency_metric
from safescale.inference.identity import ModelIdentity, check_expected, check_unchanged, identity_of
from safescale.inference.prompt_requests import GeneratedTexts, PromptRequest, ScoredContinuations
from safescale.inference.single_flight import SingleFlight
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.telemetry import Telemetry

TRIES = 3
"""Attempts at a whole prompt while its model changes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _NewTexts:
    """New answers: generations by key, seconds waited, cost."""

    generations: dict[str, Generation]
    waited_s: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class _PreparedRequest:
    """A request with its backend and the identity of the model that answers there."""

    backend: Backend
    identity: ModelIdentity
    request: PromptRequest

    @property
    def key(self) -> GenerationKey:
        """The part that all its cache keys share."""
        return GenerationKey(
            self.request.model, self.identity.revision, self.identity.fingerprint, self.request.messages
        )


class Engine:
    """The models of the catalog behind one interface."""

    def __init__(
        self,
        catalog: Catalog,
        backends: Mapping[str, Backend],
        cache: GenerationCache,
        telemetry: Telemetry,
        policy: CallPolicy,
    ) -> None:
        self._catalog = catalog
        self._backends = backends
        self._cache = cache
        self._telemetry = telemetry
        self._policy = policy
        self._attempts = Attempts(policy)
        self._flights = SingleFlight()

    @property
    def rows(self) -> Sequence[ModelRow]:
        """The rows of the catalog, ordered by id."""
        return [self._catalog.rows[name] for name in sorted(self._catalog.rows)]

    @property
    def keeper(self) -> CacheKeeper:
        """The keeper that holds the cache within its bound."""
        return self._cache.keeper

    def row(self, model: str) -> ModelRow:
        """Return the row of a model.

        Raises:
            NotFoundError: the catalog does not have the model.

        """
        return self._catalog.row(model)

    def backend(self, model: str) -> Backend:
        """Return the backend of a model.

        Raises:
            NotFoundError: the catalog has no such model.

        """
        return self._backends[self.row(model).id]

    def ready(self, model: str) -> Backend:
        """Return the backend of a model that is available.

        Raises:
            NotFoundError: the catalog has no such model.
            BackendUnavailableError: it is not available now; the message says why.

        """
        backend = self.backend(model)
        if reason := backend.unavailable_reason():
            raise BackendUnavailableError(f"model {model} is not available: {reason}")
        return backend

    async def identity(self, model: str) -> ModelIdentity:
        """Return the identity of the model that answers under an id of the catalog, checked at its servers now.

        Raises:
            SafescaleError: it is not available, or its replicas differ.

        """
        backend = self.ready(model)
        return identity_of(self.row(model), await backend.revision(refresh=True), backend.capabilities)

    async def texts(self, request: PromptRequest, samplings: Sequence[Sampling]) -> GeneratedTexts:
        """Return the texts of each sampling of one prompt: cached ones from the cache, all others in one exchange.

        Raises:
            ModelChangedError: another model answers than is expected, or it changed at each try.
            SafescaleError: the model cannot be asked or failed beyond its attempts.

        """
        return await self._of_one(request, lambda prepared: self._texts(prepared, samplings))

    async def _of_one(self, request: PromptRequest, work: Callable[[_PreparedRequest], Awaitable[T]]) -> T:
        """Run `work`, whose answers must all come from one revision; repeat it as a whole if the model changed."""
        backend = self.ready(request.model)
        for _ in range(TRIES - 1):
            prepared = await self._prepare(backend, request)
            try:
                return await work(prepared)
            except ModelChangedError as error:
                self._observer(request).repeated(error.reason)
        return await work(await self._prepare(backend, request))

    async def _texts(self, prepared: _PreparedRequest, samplings: Sequence[Sampling]) -> GeneratedTexts:
        request = prepared.request
        keys = sampling_keys(prepared.key, samplings)
        known = {} if request.fresh else await self._cache.generations(keys)
        missing = {key: sampling for key, sampling in zip(keys, samplings, strict=True) if key not in known}
        cost = self._observer(request).nothing
        waited = 0.0
        if missing:

            async def work() -> _NewTexts:
                return await self._generate(prepared, missing)

            flight = " ".join([*missing, "fresh" if request.fresh else ""])
            new, joined = await self._flights.run(flight, work)
            known.update(new.generations)
            waited = new.waited_s
            cost = cost if joined else new.cost
        return GeneratedTexts(
            tuple([known[key] for key in keys]),
            tuple([key not in missing for key in keys]),
            waited,
            prepared.identity.revision,
            cost.sent,
            cost.prompt_once,
        )

    async def _generate(self, prepared: _PreparedRequest, missing: Mapping[str, Sampling]) -> _NewTexts:
        request = prepared.request
        samplings = list(missing.values())
        call = self._call(request)

        async def attempt() -> Generations:
            with self._span(request):
                answer = await prepared.backend.generate(call, samplings)
            check_generations(request.model, answer.items, samplings)
            await self._check_same(prepared)
            return answer

        observer = self._observer(request)
        metric = latency_metric(any(sampling.greedy for sampling in samplings))
        answer = await self._attempts.run(prepared.backend, (observer, metric), call.deadline, attempt)
        items = [replace(item, warnings=(*item.warnings, *answer.warnings)) for item in answer.items]
        cost = observer.answered(samplings, items)
        new = dict(zip(missing, items, strict=True))
        await self._cache.put_generations(new, replace=request.fresh, model=request.model)
        return _NewTexts(new, answer.waited_s, cost)

    async def scores(self, request: PromptRequest, continuations: Sequence[str]) -> ScoredContinuations:
        """Return the scores of continuations, from the cache if it has them.

        Raises:
            FailedPreconditionError: the backend gives no scores.
            ModelChangedError: another model answers than is expected, or it changed at each try.
            SafescaleError: the model cannot be asked or failed beyond its attempts.

        """
        if not self.ready(request.model).capabilities.scores:
            raise FailedPreconditionError(
                f"the backend of {request.model} gives no option scores; use the letter formulation"
            )
        return await self._of_one(request, lambda prepared: self._scores(prepared, continuations))

    async def _scores(self, prepared: _PreparedRequest, continuations: Sequence[str]) -> ScoredContinuations:
        request, revision = prepared.request, prepared.identity.revision
        key = scores_key(prepared.key, continuations)
        nothing = self._observer(request).nothing
        known = None if request.fresh else await self._cache.scores(key)
        if known is not None:
            return ScoredContinuations(known, True, revision, nothing.sent, nothing.prompt_once)

        async def work() -> tuple[Scores, Cost]:
            return await self._score(prepared, continuations, key)

        (scores, cost), joined = await self._flights.run(key + (" fresh" if request.fresh else ""), work)
        cost = nothing if joined else cost
        return ScoredContinuations(scores, False, revision, cost.sent, cost.prompt_once)

    async def _score(self, prepared: _PreparedRequest, continuations: Sequence[str], key: str) -> tuple[Scores, Cost]:
        request = prepared.request
        call = self._call(request)

        async def attempt() -> Scores:
            with self._span(request):
                answer = await prepared.backend.score(call, continuations)
            check_scores(request.model, answer, len(continuations))
            await self._check_same(prepared)
            return answer

        observer = self._observer(request)
        scores = await self._attempts.run(prepared.backend, (observer, MODEL_LATENCY), call.deadline, attempt)
        cost = observer.scored(scores)
        await self._cache.put_scores(key, scores, replace=request.fresh, model=request.model)
        return scores, cost

    async def stream(self, request: PromptRequest, sampling: Sampling) -> AsyncIterator[str | GeneratedTexts]:
        """Yield one text in pieces, then the whole; a cached text as one piece. Never retried: pieces were delivered.

        Raises:
            ModelChangedError: another model answers than is expected, or it changed during the stream.
            SafescaleError: the model is not available or failed.

        """
        backend = self.ready(request.model)
        prepared = await self._prepare(backend, request)
        revision = prepared.identity.revision
        key = sampling_key(prepared.key, sampling)
        known = None if request.fresh else (await self._cache.generations([key])).get(key)
        observer = self._observer(request)
        if known is not None:
            yield known.outputs[0].reasoning + known.outputs[0].text
            yield GeneratedTexts((known,), (True,), 0.0, revision, observer.nothing.sent, observer.nothing.prompt_once)
            return
        begin = time.perf_counter()
        whole: Generation | None = None
        try:
            with self._span(request):
                async for event in backend.stream(self._call(request), sampling):
                    if isinstance(event, Generation):
                        whole = event
                    else:
                        yield event
            if whole is None:
                raise GarbageAnswerError(f"{request.model} ended its stream without a result")
            check_generations(request.model, [whole], [sampling])
            await self._check_same(prepared)
        except Exception as error:
            if not backend.capabilities.repeats:
                reason = as_safescale_error(error).reason
                observer.failed(latency_metric(sampling.greedy), reason, time.perf_counter() - begin)
            raise
        cost = observer.answered([sampling], [whole])
        await self._cache.put_generations({key: whole}, replace=request.fresh, model=request.model)
        yield GeneratedTexts((whole,), (False,), 0.0, revision, cost.sent, cost.prompt_once)

    async def _prepare(self, backend: Backend, request: PromptRequest) -> _PreparedRequest:
        """Return a request with the identity of the model that answers it; check that it is the expected one."""
        identity = await self._patient_identity(backend, request.model)
        try:
            check_expected(request.model, request.expected, identity)
        except ModelChangedError:
            # The expectation may be newer than the identity last seen here.
            identity = await self.identity(request.model)
            check_expected(request.model, request.expected, identity)
        return _PreparedRequest(backend, identity, request)

    async def _check_same(self, prepared: _PreparedRequest) -> None:
        """Check after a call that the same model answers as before it."""
        model = prepared.request.model
        check_unchanged(model, prepared.identity, await self._patient_identity(prepared.backend, model))

    async def _patient_identity(self, backend: Backend, model: str) -> ModelIdentity:
        row = self.row(model)
        try:
            revision = await backend.revision()
        except BackendError as error:
            if row.endpoint is None or not error.retryable:
                raise
            # Wait for an unavailable server as long as a call would.
            revision = await AsyncRetrying(
                stop=stop_after_delay(row.endpoint.retry_for_s),
                wait=wait_random_exponential(multiplier=0.5, max=self._policy.max_wait_s),
                retry=retry_if_exception(lambda failed: isinstance(failed, BackendError) and failed.retryable),
                reraise=True,
            )(backend.revision)
        return identity_of(row, revision, backend.capabilities)

    def _span(self, request: PromptRequest) -> AbstractContextManager[object]:
        """Return the trace span of one attempt at the model."""
        return self._telemetry.span("model", {"model": request.model, "condition": request.condition})

    def _call(self, request: PromptRequest) -> Call:
        return Call(request.messages, self._policy.timeout_s, time.monotonic() + self._policy.deadline_s)

    def _observer(self, request: PromptRequest) -> Observer:
        price = self.row(request.model).price_per_million
        return Observer(self._telemetry, request.model, request.condition, price)

    async def close(self) -> None:
        """Cancel running calls and release the models."""
        await self._flights.close()
        await self._cache.keeper.close()
        await asyncio.gather(*(backend.close() for backend in self._backends.values()))
