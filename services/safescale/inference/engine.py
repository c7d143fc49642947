"""Asks models: availability, cache, shared calls, deadlines, retries of transport failures, telemetry."""

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
from safescale.inference.cache.store import Asked, GenerationCache, sampling_key, sampling_keys, scores_key
from safescale.inference.catalog import Catalog, ModelRow
from safescale.inference.checks import check_generations, check_scores
from safescale.inference.generation_metrics import MODEL_LATENCY, Cost, Observer, latency_metric
from safescale.inference.identity import Identity, check_expected, check_unchanged, identity_of
from safescale.inference.prompt_requests import Question, Scored, Texts
from safescale.inference.single_flight import SingleFlight
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.telemetry import Telemetry

TRIES = 3
"""Times that a prompt is asked, whole, while its model changes under it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _New:
    """What was asked now: generations by key, seconds waited, cost."""

    generations: dict[str, Generation]
    waited_s: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class _Asking:
    """A prompt on its way: the backend, what was found to answer there, and the question."""

    backend: Backend
    identity: Identity
    question: Question

    @property
    def key(self) -> Asked:
        """The fixed part of its keys in the cache."""
        return Asked(self.question.model, self.identity.revision, self.identity.fingerprint, self.question.messages)


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
        """Who keeps the cache within its bound."""
        return self._cache.keeper

    def row(self, model: str) -> ModelRow:
        """The row of a model.

        Raises:
            NotFoundError: the catalog has none.

        """
        return self._catalog.row(model)

    def backend(self, model: str) -> Backend:
        """The backend of a model.

        Raises:
            NotFoundError: the catalog has no such model.

        """
        return self._backends[self.row(model).id]

    def ready(self, model: str) -> Backend:
        """The backend of a model that can be asked.

        Raises:
            NotFoundError: the catalog has no such model.
            BackendUnavailableError: it cannot be asked now; the message says why.

        """
        backend = self.backend(model)
        if reason := backend.unavailable_reason():
            raise BackendUnavailableError(f"model {model} is not available: {reason}")
        return backend

    async def identity(self, model: str) -> Identity:
        """What answers under an id of the catalog now, by a look at its servers.

        Raises:
            SafescaleError: it cannot be asked, or its replicas differ.

        """
        backend = self.ready(model)
        return identity_of(self.row(model), await backend.revision(anew=True), backend.capabilities)

    async def texts(self, question: Question, samplings: Sequence[Sampling]) -> Texts:
        """Texts for each sampling of one prompt: from the cache where they are, the others in one exchange.

        Raises:
            ModelChangedError: another model answers than is expected, or it changed at each try.
            SafescaleError: the model cannot be asked or failed beyond its attempts.

        """
        return await self._of_one(question, lambda asking: self._texts(asking, samplings))

    async def _of_one(self, question: Question, work: Callable[[_Asking], Awaitable[T]]) -> T:
        """What comes of a prompt whose answers are all of one revision: asked again, whole, where they may not be."""
        backend = self.ready(question.model)
        for _ in range(TRIES - 1):
            asking = await self._asking(backend, question)
            try:
                return await work(asking)
            except ModelChangedError as error:
                self._observer(question).repeated(error.reason)
        return await work(await self._asking(backend, question))

    async def _texts(self, asking: _Asking, samplings: Sequence[Sampling]) -> Texts:
        question = asking.question
        keys = sampling_keys(asking.key, samplings)
        known = {} if question.fresh else await self._cache.generations(keys)
        missing = {key: sampling for key, sampling in zip(keys, samplings, strict=True) if key not in known}
        cost = self._observer(question).nothing
        waited = 0.0
        if missing:

            async def work() -> _New:
                return await self._generate(asking, missing)

            flight = " ".join([*missing, "fresh" if question.fresh else ""])
            new, joined = await self._flights.run(flight, work)
            known.update(new.generations)
            waited = new.waited_s
            cost = cost if joined else new.cost
        return Texts(
            tuple([known[key] for key in keys]),
            tuple([key not in missing for key in keys]),
            waited,
            asking.identity.revision,
            cost.sent,
            cost.prompt_once,
        )

    async def _generate(self, asking: _Asking, missing: Mapping[str, Sampling]) -> _New:
        question = asking.question
        samplings = list(missing.values())
        call = self._call(question)

        async def attempt() -> Generations:
            with self._span(question):
                answer = await asking.backend.generate(call, samplings)
            check_generations(question.model, answer.items, samplings)
            await self._check_same(asking)
            return answer

        observer = self._observer(question)
        metric = latency_metric(any(sampling.greedy for sampling in samplings))
        answer = await self._attempts.run(asking.backend, (observer, metric), call.deadline, attempt)
        items = [replace(item, warnings=(*item.warnings, *answer.warnings)) for item in answer.items]
        cost = observer.answered(samplings, items)
        new = dict(zip(missing, items, strict=True))
        await self._cache.put_generations(new, replace=question.fresh, model=question.model)
        return _New(new, answer.waited_s, cost)

    async def scores(self, question: Question, continuations: Sequence[str]) -> Scored:
        """Scores of continuations, from the cache where they are.

        Raises:
            FailedPreconditionError: the backend gives no scores.
            ModelChangedError: another model answers than is expected, or it changed at each try.
            SafescaleError: the model cannot be asked or failed beyond its attempts.

        """
        if not self.ready(question.model).capabilities.scores:
            raise FailedPreconditionError(
                f"the backend of {question.model} gives no option scores; use the letter formulation"
            )
        return await self._of_one(question, lambda asking: self._scores(asking, continuations))

    async def _scores(self, asking: _Asking, continuations: Sequence[str]) -> Scored:
        question, revision = asking.question, asking.identity.revision
        key = scores_key(asking.key, continuations)
        nothing = self._observer(question).nothing
        known = None if question.fresh else await self._cache.scores(key)
        if known is not None:
            return Scored(known, True, revision, nothing.sent, nothing.prompt_once)

        async def work() -> tuple[Scores, Cost]:
            return await self._score(asking, continuations, key)

        (scores, cost), joined = await self._flights.run(key + (" fresh" if question.fresh else ""), work)
        cost = nothing if joined else cost
        return Scored(scores, False, revision, cost.sent, cost.prompt_once)

    async def _score(self, asking: _Asking, continuations: Sequence[str], key: str) -> tuple[Scores, Cost]:
        question = asking.question
        call = self._call(question)

        async def attempt() -> Scores:
            with self._span(question):
                answer = await asking.backend.score(call, continuations)
            check_scores(question.model, answer, len(continuations))
            await self._check_same(asking)
            return answer

        observer = self._observer(question)
        scores = await self._attempts.run(asking.backend, (observer, MODEL_LATENCY), call.deadline, attempt)
        cost = observer.scored(scores)
        await self._cache.put_scores(key, scores, replace=question.fresh, model=question.model)
        return scores, cost

    async def stream(self, question: Question, sampling: Sampling) -> AsyncIterator[str | Texts]:
        """One text piece by piece, then the whole; a cached one comes as one piece. Never retried: pieces are out.

        Raises:
            ModelChangedError: another model answers than is expected, or it changed in the middle.
            SafescaleError: the model cannot be asked or failed.

        """
        backend = self.ready(question.model)
        asking = await self._asking(backend, question)
        revision = asking.identity.revision
        key = sampling_key(asking.key, sampling)
        known = None if question.fresh else (await self._cache.generations([key])).get(key)
        observer = self._observer(question)
        if known is not None:
            yield known.outputs[0].reasoning + known.outputs[0].text
            yield Texts((known,), (True,), 0.0, revision, observer.nothing.sent, observer.nothing.prompt_once)
            return
        begin = time.perf_counter()
        whole: Generation | None = None
        try:
            with self._span(question):
                async for event in backend.stream(self._call(question), sampling):
                    if isinstance(event, Generation):
                        whole = event
                    else:
                        yield event
            if whole is None:
                raise GarbageAnswerError(f"{question.model} ended its stream without a result")
            check_generations(question.model, [whole], [sampling])
            await self._check_same(asking)
        except Exception as error:
            if not backend.capabilities.repeats:
                reason = as_safescale_error(error).reason
                observer.failed(latency_metric(sampling.greedy), reason, time.perf_counter() - begin)
            raise
        cost = observer.answered([sampling], [whole])
        await self._cache.put_generations({key: whole}, replace=question.fresh, model=question.model)
        yield Texts((whole,), (False,), 0.0, revision, cost.sent, cost.prompt_once)

    async def _asking(self, backend: Backend, question: Question) -> _Asking:
        """A prompt with what answers it, which is what is expected."""
        identity = await self._patient_identity(backend, question.model)
        try:
            check_expected(question.model, question.expected, identity)
        except ModelChangedError:
            # What is expected may have been looked at later than what was seen here.
            identity = await self.identity(question.model)
            check_expected(question.model, question.expected, identity)
        return _Asking(backend, identity, question)

    async def _check_same(self, asking: _Asking) -> None:
        """See to it, after a call, that what answers is still what answered before it."""
        model = asking.question.model
        check_unchanged(model, asking.identity, await self._patient_identity(asking.backend, model))

    async def _patient_identity(self, backend: Backend, model: str) -> Identity:
        row = self.row(model)
        try:
            revision = await backend.revision()
        except BackendError as error:
            if row.endpoint is None or not error.retryable:
                raise
            # A server that is away is waited for as long as a call would wait for it.
            revision = await AsyncRetrying(
                stop=stop_after_delay(row.endpoint.retry_for_s),
                wait=wait_random_exponential(multiplier=0.5, max=self._policy.max_wait_s),
                retry=retry_if_exception(lambda failed: isinstance(failed, BackendError) and failed.retryable),
                reraise=True,
            )(backend.revision)
        return identity_of(row, revision, backend.capabilities)

    def _span(self, question: Question) -> AbstractContextManager[object]:
        """The trace's part that is the model's, attempt by attempt."""
        return self._telemetry.span("model", {"model": question.model, "condition": question.condition})

    def _call(self, question: Question) -> Call:
        return Call(question.messages, self._policy.timeout_s, time.monotonic() + self._policy.deadline_s)

    def _observer(self, question: Question) -> Observer:
        price = self.row(question.model).price_per_million
        return Observer(self._telemetry, question.model, question.condition, price)

    async def close(self) -> None:
        """End what runs and release the models."""
        await self._flights.close()
        await self._cache.keeper.close()
        await asyncio.gather(*(backend.close() for backend in self._backends.values()))
