"""Asks models: availability, cache, shared calls, retries of transport failures, telemetry of each attempt."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from safescale.core.errors import (
    BackendError,
    BackendTimeoutError,
    BackendUnavailableError,
    FailedPreconditionError,
    GarbageAnswerError,
)
from safescale.core.prompts import Messages
from safescale.inference.backends.port import Backend, Call, Generation, Sampling, Scores
from safescale.inference.cache import Asked, GenerationCache, sampling_key, scores_key
from safescale.inference.catalog import Catalog, ModelRow
from safescale.inference.flight import SingleFlight
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.telemetry import Telemetry

CALLS = "rpc"
"""Stands for the condition in metrics of calls that belong to no cell (a judge, an agent, a caller)."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Seconds for one exchange, attempts after transport failures, longest wait between two attempts in seconds."""

    timeout_s: float = 600.0
    attempts: int = 3
    max_wait_s: float = 8.0


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt for a model; `fresh` passes by the cache on reading; `condition` is for metrics alone."""

    model: str
    messages: Messages
    fresh: bool = False
    condition: str = CALLS


@dataclass(frozen=True, slots=True)
class Texts:
    """One generation per sampling, with what came from the cache, the seconds waited and the revision."""

    generations: tuple[Generation, ...]
    cached: tuple[bool, ...]
    waited_s: float
    revision: str


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores, whether they came from the cache, and the revision."""

    scores: Scores
    cached: bool
    revision: str


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
        keys = [sampling_key(asked, sampling) for sampling in samplings]
        known = {} if question.fresh else await self._cache.generations(keys)
        missing = {key: sampling for key, sampling in zip(keys, samplings, strict=True) if key not in known}
        waited = 0.0
        if missing:

            async def work() -> tuple[dict[str, Generation], float]:
                return await self._generate(backend, question, missing)

            flight = " ".join([*missing, "fresh" if question.fresh else ""])
            (new, waited), _ = await self._flights.run(flight, work)
            known |= new
        return Texts(
            tuple(known[key] for key in keys), tuple(key not in missing for key in keys), waited, asked.revision
        )

    async def _generate(
        self, backend: Backend, question: Question, missing: Mapping[str, Sampling]
    ) -> tuple[dict[str, Generation], float]:
        samplings = list(missing.values())
        call = Call(question.messages, self._policy.timeout_s)

        async def attempt() -> tuple[tuple[Generation, ...], float]:
            answer = await backend.generate(call, samplings)
            _check_generations(question.model, answer.items, samplings)
            return answer.items, answer.waited_s

        metric = _metric(any(sampling.greedy for sampling in samplings))
        items, waited = await self._attempts(question, metric, attempt)
        for sampling, generation in zip(samplings, items, strict=True):
            self._observe_latency(question, _metric(sampling.greedy), "ok", generation.elapsed_s)
            if sampling.greedy and generation.time_to_first_token_s is not None:
                self._observe_first_token(question, generation.time_to_first_token_s)
        generated = sum(generation.generated_tokens for generation in items)
        self._count_tokens(question, items[0].prompt_tokens, generated)
        new = dict(zip(missing, items, strict=True))
        for key, generation in new.items():
            await self._cache.put_generation(key, generation)
        return new, waited

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
            return Scored(known, True, asked.revision)

        async def work() -> Scores:
            return await self._score(backend, question, continuations, key)

        scores, _ = await self._flights.run(key + (" fresh" if question.fresh else ""), work)
        return Scored(scores, False, asked.revision)

    async def _score(self, backend: Backend, question: Question, continuations: Sequence[str], key: str) -> Scores:
        call = Call(question.messages, self._policy.timeout_s)

        async def attempt() -> Scores:
            answer = await backend.score(call, continuations)
            _check_scores(question.model, answer, len(continuations))
            return answer

        metric = _metric(True)
        scores = await self._attempts(question, metric, attempt)
        self._observe_latency(question, metric, "ok", scores.elapsed_s)
        if scores.time_to_first_token_s is not None:
            self._observe_first_token(question, scores.time_to_first_token_s)
        self._count_tokens(question, scores.prompt_tokens, scores.scored_tokens)
        await self._cache.put_scores(key, scores)
        return scores

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
            yield Texts((known,), (True,), 0.0, asked.revision)
            return
        begin = time.perf_counter()
        whole: Generation | None = None
        try:
            async for event in backend.stream(Call(question.messages, self._policy.timeout_s), sampling):
                if isinstance(event, Generation):
                    whole = event
                else:
                    yield event
            if whole is None:
                raise GarbageAnswerError(f"{question.model} ended its stream without a result")
            _check_generations(question.model, [whole], [sampling])
        except Exception as error:
            outcome = as_safescale_error(error).reason
            self._observe_latency(question, _metric(sampling.greedy), outcome, time.perf_counter() - begin)
            raise
        self._observe_latency(question, _metric(sampling.greedy), "ok", whole.elapsed_s)
        self._count_tokens(question, whole.prompt_tokens, whole.generated_tokens)
        await self._cache.put_generation(key, whole)
        yield Texts((whole,), (False,), 0.0, asked.revision)

    async def _asked(self, backend: Backend, question: Question) -> Asked:
        revision = await backend.revision()
        return Asked(question.model, revision, backend.capabilities.fingerprint, question.messages)

    async def _attempts(self, question: Question, metric: str, attempt: Callable[[], Awaitable[T]]) -> T:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._policy.attempts),
            wait=wait_random_exponential(multiplier=0.5, max=self._policy.max_wait_s),
            retry=retry_if_exception(_worth_another_try),
            before_sleep=lambda state: self._count_retry(question, state),
            reraise=True,
        )

        async def timed() -> T:
            begin = time.perf_counter()
            try:
                return await attempt()
            except Exception as error:
                outcome = as_safescale_error(error).reason
                self._observe_latency(question, metric, outcome, time.perf_counter() - begin)
                raise

        return await retrying(timed)

    def _count_retry(self, question: Question, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        reason = as_safescale_error(error).reason if error else "INTERNAL"
        self._telemetry.count("safescale_generation_retries_total", 1, {"model": question.model, "reason": reason})

    def _observe_latency(self, question: Question, metric: str, outcome: str, seconds: float) -> None:
        labels = {"model": question.model, "condition": question.condition, "outcome": outcome}
        self._telemetry.observe(metric, seconds, labels)

    def _observe_first_token(self, question: Question, seconds: float) -> None:
        labels = {"model": question.model, "condition": question.condition}
        self._telemetry.observe("safescale_time_to_first_token_seconds", seconds, labels)

    def _count_tokens(self, question: Question, prompt: int, generated: int) -> None:
        labels = {"model": question.model, "condition": question.condition}
        self._telemetry.count("safescale_tokens_total", prompt, {**labels, "kind": "prompt"})
        self._telemetry.count("safescale_tokens_total", generated, {**labels, "kind": "generated"})
        price = self.row(question.model).price_per_million
        if price is not None:
            cost = (prompt * price.prompt + generated * price.generated) / 1e6
            self._telemetry.count("safescale_cost_total", cost, labels)

    async def close(self) -> None:
        """End what runs and release the models."""
        await self._flights.close()
        await asyncio.gather(*(backend.close() for backend in self._backends.values()))


def _metric(greedy: bool) -> str:
    return "safescale_model_latency_seconds" if greedy else "safescale_samples_latency_seconds"


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
