"""Asks models: availability, cache, shared calls, deadlines, retries of transport failures, telemetry."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from safescale.core.errors import (
    BackendError,
    BackendTimeoutError,
    BackendUnavailableError,
    FailedPreconditionError,
    GarbageAnswerError,
)
from safescale.core.prompts import Messages
from safescale.inference.backends.port import Backend, Call, Generation, Generations, Sampling, Scores
from safescale.inference.cache import Asked, GenerationCache, sampling_key, sampling_keys, scores_key
from safescale.inference.catalog import Catalog, ModelRow
from safescale.inference.flight import SingleFlight
from safescale.inference.observed import MODEL_LATENCY, Observer, latency_metric
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.telemetry import Telemetry

CALLS = "rpc"
"""Stands for the condition in metrics of calls that belong to no cell (a judge, an agent, a caller)."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Seconds for one exchange and for all about one prompt, waits and retries included.

    `attempts` after transport failures and `max_wait_s` between two are for backends that do not repeat by themselves.
    """

    timeout_s: float = 600.0
    attempts: int = 3
    max_wait_s: float = 8.0
    deadline_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt for a model; `fresh` passes by the cache on reading; `condition` is for metrics alone."""

    model: str
    messages: Messages
    fresh: bool = False
    condition: str = CALLS


@dataclass(frozen=True, slots=True)
class Texts:
    """One generation per sampling, with what came from the cache, the seconds waited, the revision and the cost.

    `cost` is of what was asked now, by the catalog's price; None where it has none.
    """

    generations: tuple[Generation, ...]
    cached: tuple[bool, ...]
    waited_s: float
    revision: str
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores, whether they came from the cache, the revision, and the cost as in `Texts`."""

    scores: Scores
    cached: bool
    revision: str
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class _New:
    """What was asked now: generations by key, seconds waited, cost."""

    generations: dict[str, Generation]
    waited_s: float
    cost: float | None


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
        self._flights = SingleFlight()

    @property
    def rows(self) -> Sequence[ModelRow]:
        """The rows of the catalog, ordered by id."""
        return [self._catalog.rows[name] for name in sorted(self._catalog.rows)]

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

    async def texts(self, question: Question, samplings: Sequence[Sampling]) -> Texts:
        """Texts for each sampling of one prompt: from the cache where they are, the others in one exchange.

        Raises:
            SafescaleError: the model cannot be asked or failed beyond its attempts.

        """
        backend = self.ready(question.model)
        asked = await self._asked(backend, question)
        keys = sampling_keys(asked, samplings)
        known = {} if question.fresh else await self._cache.generations(keys)
        missing = {key: sampling for key, sampling in zip(keys, samplings, strict=True) if key not in known}
        cost = self._nothing(question)
        waited = 0.0
        if missing:

            async def work() -> _New:
                return await self._generate(backend, question, missing)

            flight = " ".join([*missing, "fresh" if question.fresh else ""])
            new, joined = await self._flights.run(flight, work)
            known.update(new.generations)
            waited = new.waited_s
            cost = cost if joined else new.cost
        return Texts(
            tuple([known[key] for key in keys]),
            tuple([key not in missing for key in keys]),
            waited,
            asked.revision,
            cost,
        )

    async def _generate(self, backend: Backend, question: Question, missing: Mapping[str, Sampling]) -> _New:
        samplings = list(missing.values())
        call = self._call(question)

        async def attempt() -> Generations:
            with self._span(question):
                answer = await backend.generate(call, samplings)
                _check_generations(question.model, answer.items, samplings)
            return answer

        observer = self._observer(question)
        metric = latency_metric(any(sampling.greedy for sampling in samplings))
        answer = await self._attempts(backend, (observer, metric), call.deadline, attempt)
        cost = observer.answered(samplings, answer.items)
        new = dict(zip(missing, answer.items, strict=True))
        await self._cache.put_generations(new, replace=question.fresh)
        return _New(new, answer.waited_s, cost)

    async def scores(self, question: Question, continuations: Sequence[str]) -> Scored:
        """Scores of continuations, from the cache where they are.

        Raises:
            FailedPreconditionError: the backend gives no scores.
            SafescaleError: the model cannot be asked or failed beyond its attempts.

        """
        backend = self.ready(question.model)
        if not backend.capabilities.scores:
            raise FailedPreconditionError(
                f"the backend of {question.model} gives no option scores; use the letter formulation"
            )
        asked = await self._asked(backend, question)
        key = scores_key(asked, continuations)
        known = None if question.fresh else await self._cache.scores(key)
        if known is not None:
            return Scored(known, True, asked.revision, self._nothing(question))

        async def work() -> tuple[Scores, float | None]:
            return await self._score(backend, question, continuations, key)

        (scores, cost), joined = await self._flights.run(key + (" fresh" if question.fresh else ""), work)
        return Scored(scores, False, asked.revision, self._nothing(question) if joined else cost)

    async def _score(
        self, backend: Backend, question: Question, continuations: Sequence[str], key: str
    ) -> tuple[Scores, float | None]:
        call = self._call(question)

        async def attempt() -> Scores:
            with self._span(question):
                answer = await backend.score(call, continuations)
                _check_scores(question.model, answer, len(continuations))
            return answer

        observer = self._observer(question)
        scores = await self._attempts(backend, (observer, MODEL_LATENCY), call.deadline, attempt)
        cost = observer.scored(scores)
        await self._cache.put_scores(key, scores, replace=question.fresh)
        return scores, cost

    async def stream(self, question: Question, sampling: Sampling) -> AsyncIterator[str | Texts]:
        """One text piece by piece, then the whole; a cached one comes as one piece. Never retried: pieces are out.

        Raises:
            SafescaleError: the model cannot be asked or failed.

        """
        backend = self.ready(question.model)
        asked = await self._asked(backend, question)
        key = sampling_key(asked, sampling)
        known = None if question.fresh else (await self._cache.generations([key])).get(key)
        if known is not None:
            yield known.outputs[0].reasoning + known.outputs[0].text
            yield Texts((known,), (True,), 0.0, asked.revision, self._nothing(question))
            return
        observer = self._observer(question)
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
            _check_generations(question.model, [whole], [sampling])
        except Exception as error:
            if not backend.capabilities.repeats:
                reason = as_safescale_error(error).reason
                observer.failed(latency_metric(sampling.greedy), reason, time.perf_counter() - begin)
            raise
        cost = observer.answered([sampling], [whole])
        await self._cache.put_generations({key: whole}, replace=question.fresh)
        yield Texts((whole,), (False,), 0.0, asked.revision, cost)

    async def _asked(self, backend: Backend, question: Question) -> Asked:
        try:
            revision = await backend.revision()
        except BackendError as error:
            endpoint = self.row(question.model).endpoint
            if endpoint is None or not error.retryable:
                raise
            # A server that is away is waited for as long as a call would wait for it.
            revision = await AsyncRetrying(
                stop=stop_after_delay(endpoint.retry_for_s),
                wait=wait_random_exponential(multiplier=0.5, max=self._policy.max_wait_s),
                retry=retry_if_exception(lambda failed: isinstance(failed, BackendError) and failed.retryable),
                reraise=True,
            )(backend.revision)
        return Asked(question.model, revision, backend.capabilities.fingerprint, question.messages)

    def _span(self, question: Question) -> AbstractContextManager[object]:
        """The trace's part that is the model's, attempt by attempt."""
        return self._telemetry.span("model", {"model": question.model, "condition": question.condition})

    def _call(self, question: Question) -> Call:
        return Call(question.messages, self._policy.timeout_s, time.monotonic() + self._policy.deadline_s)

    def _observer(self, question: Question) -> Observer:
        price = self.row(question.model).price_per_million
        return Observer(self._telemetry, question.model, question.condition, price)

    def _nothing(self, question: Question) -> float | None:
        """Cost of an answer that was there already, or that another caller asked for."""
        return None if self.row(question.model).price_per_million is None else 0.0

    async def _attempts(
        self,
        backend: Backend,
        seen: tuple[Observer, str],
        deadline: float,
        attempt: Callable[[], Awaitable[T]],
    ) -> T:
        scope = asyncio.timeout(deadline - time.monotonic())
        try:
            async with scope:
                # A backend that repeats by itself tells its attempts apart in metrics of its own; seen from here, they
                # and their waits would count as latency.
                if backend.capabilities.repeats:
                    return await attempt()
                return await self._retried(seen, attempt)
        except TimeoutError as error:
            if not scope.expired():
                raise
            message = f"{seen[0].model} gave no answer within {self._policy.deadline_s:g} s, waits and retries included"
            raise BackendTimeoutError(message) from error

    async def _retried(self, seen: tuple[Observer, str], attempt: Callable[[], Awaitable[T]]) -> T:
        observer, metric = seen
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._policy.attempts),
            wait=wait_random_exponential(multiplier=0.5, max=self._policy.max_wait_s),
            retry=retry_if_exception(_worth_another_try),
            before_sleep=lambda state: observer.repeated(_reason(state)),
            reraise=True,
        )

        async def timed() -> T:
            begin = time.perf_counter()
            try:
                return await attempt()
            except Exception as error:
                observer.failed(metric, as_safescale_error(error).reason, time.perf_counter() - begin)
                raise

        return await retrying(timed)

    async def close(self) -> None:
        """End what runs and release the models."""
        await self._flights.close()
        await asyncio.gather(*(backend.close() for backend in self._backends.values()))


def _reason(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome else None
    return as_safescale_error(error).reason if error else "INTERNAL"


def _worth_another_try(error: BaseException) -> bool:
    # A call that timed out has had all its time; only what may have failed on the way is repeated.
    return isinstance(error, BackendError) and error.retryable and not isinstance(error, BackendTimeoutError)


def _check_generations(model: str, items: Sequence[Generation], samplings: Sequence[Sampling]) -> None:
    if len(items) != len(samplings):
        raise GarbageAnswerError(f"{model} gave {len(items)} answers to {len(samplings)} requests")
    for generation, sampling in zip(items, samplings, strict=True):
        if len(generation.outputs) != sampling.count:
            raise GarbageAnswerError(f"{model} gave {len(generation.outputs)} of {sampling.count} texts")
        if not generation.elapsed_s > 0:
            raise GarbageAnswerError(f"{model} answered without a duration")


def _check_scores(model: str, scores: Scores, count: int) -> None:
    if len(scores.items) != count:
        raise GarbageAnswerError(f"{model} gave {len(scores.items)} of {count} scores")
    for score in scores.items:
        if score.tokens < 1 or not math.isfinite(score.mean_logprob) or score.mean_logprob > 0:
            raise GarbageAnswerError(f"{model} gave a score that is no mean log-probability")
    if not scores.elapsed_s > 0:
        raise GarbageAnswerError(f"{model} answered without a duration")
