"""gRPC face of inference."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc

from safescale.core.errors import InvalidInputError, LimitExceededError, SafescaleError
from safescale.core.safety.answers.reasoning import split_reasoning
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.port import Generation, Sampling
from safescale.inference.cache.bound import Trim
from safescale.inference.catalog import ModelRow
from safescale.inference.cells import usage_of_scores, usage_of_texts
from safescale.inference.engine import Engine
from safescale.inference.identity import ModelIdentity, served_name
from safescale.inference.prompt_requests import GeneratedTexts, PromptRequest
from safescale.rpc.convert import FORMULATIONS
from safescale.rpc.inference.v1 import inference_pb2 as pb
from safescale.rpc.inference.v1 import inference_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

MAX_TEXTS = 1000
MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_COUNT = 100
MAX_CONTINUATIONS = 100
MAX_STOPS = 16
MAX_SEED = 2**31 - 1
REVISION_TIMEOUT_S = 10.0
LOOK_TIMEOUT_S = 2.0


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Checks requests and hands them on."""

    def __init__(self, engine: Engine, look: Callable[[], Awaitable[None]] | None = None) -> None:
        """Take the engine, and what is to be done before models are listed as available."""
        self._engine = engine
        self._look = look

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Ask a model for texts or scores."""
        prompt_request = self._prompt_request(request)
        if request.continuations:
            return await self._score(prompt_request, request)
        sampling = _sampling(request, self._engine.row(request.model))
        texts = await self._engine.texts(prompt_request, [sampling])
        return self._response(request.model, texts)

    async def _score(self, prompt_request: PromptRequest, request: pb.GenerateRequest) -> pb.GenerateResponse:
        continuations = list(request.continuations)
        if len(continuations) > MAX_CONTINUATIONS:
            raise LimitExceededError(f"{len(continuations)} continuations are over the limit of {MAX_CONTINUATIONS}")
        for index, text in enumerate(continuations):
            if not text.strip():
                raise InvalidInputError(f"continuations[{index}] is blank; expected a text to score")
        scored = await self._engine.scores(prompt_request, continuations)
        scores = scored.scores
        return pb.GenerateResponse(
            scores=[pb.ContinuationScore(mean_logprob=item.mean_logprob, tokens=item.tokens) for item in scores.items],
            usage=usage_of_scores(scored),
            elapsed_s=scores.elapsed_s,
            time_to_first_token_s=scores.time_to_first_token_s,
            cached=scored.cached,
            model_revision=scored.revision,
            warnings=sorted(set(scores.warnings)),
        )

    def _response(self, model: str, texts: GeneratedTexts) -> pb.GenerateResponse:
        generation: Generation = texts.generations[0]
        style = self._engine.row(model).style
        outputs = []
        for output in generation.outputs:
            split = split_reasoning(output.text, style, output.reasoning)
            outputs.append(
                pb.Output(
                    text=split.answer,
                    reasoning=split.trace,
                    finish_reason=output.finish_reason,
                    generated_tokens=output.generated_tokens,
                )
            )
        return pb.GenerateResponse(
            outputs=outputs,
            usage=usage_of_texts(texts),
            elapsed_s=generation.elapsed_s,
            time_to_first_token_s=generation.time_to_first_token_s,
            cached=texts.cached[0],
            model_revision=texts.revision,
            warnings=texts.warnings,
        )

    async def GenerateStream(
        self, request: pb.GenerateStreamRequest, context: Context
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        """Ask a model for one text, piece by piece."""
        inner = request.request
        if inner.continuations:
            raise InvalidInputError("request.continuations is set; scores do not stream, expected none")
        if inner.sampling.count > 1:
            raise InvalidInputError(f"request.sampling.count is {inner.sampling.count}; a stream gives one text")
        prompt_request = self._prompt_request(inner)
        sampling = _sampling(inner, self._engine.row(inner.model))
        async for event in self._engine.stream(prompt_request, sampling):
            if isinstance(event, GeneratedTexts):
                yield pb.GenerateStreamResponse(result=self._response(inner.model, event))
            else:
                yield pb.GenerateStreamResponse(text_delta=event)

    def _prompt_request(self, request: pb.GenerateRequest) -> PromptRequest:
        _needed(request.model, "model")
        self._engine.row(request.model)
        if not request.HasField("messages"):
            raise InvalidInputError("messages is missing; expected the prompt")
        if not request.messages.user.strip():
            raise InvalidInputError("messages.user is empty; expected the user message")
        messages = Messages(request.messages.system, request.messages.user)
        expected = ModelIdentity(request.model_revision, request.model_fingerprint)
        return PromptRequest(request.model, messages, request.fresh, expected=expected)

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """Count tokens, cut texts."""
        _needed(request.model, "model")
        if len(request.texts) > MAX_TEXTS:
            raise LimitExceededError(f"{len(request.texts)} texts are over the limit of {MAX_TEXTS}")
        size = sum(len(text.encode()) for text in request.texts)
        if size > MAX_TEXT_BYTES:
            raise LimitExceededError(f"the texts have {size:,} bytes; the limit is {MAX_TEXT_BYTES:,} together")
        limit = request.truncate_to if request.HasField("truncate_to") else None
        tokens = await self._engine.ready(request.model).tokenize(list(request.texts), limit)
        return pb.TokenizeResponse(token_counts=tokens.counts, truncated_texts=tokens.truncated)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Return all rows of the catalog."""
        await self._looked()
        return pb.ListModelsResponse(models=await asyncio.gather(*(self._model(row) for row in self._engine.rows)))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Return one row."""
        _needed(request.model, "model")
        await self._looked()
        return pb.GetModelResponse(model=await self._model(self._engine.row(request.model)))

    async def GetCache(self, request: pb.GetCacheRequest, context: Context) -> pb.GetCacheResponse:
        """Return what the generation cache holds."""
        sizes = await self._engine.keeper.sizes()
        models = [
            pb.CachedModel(model=name, entry_count=of.count, bytes=of.bytes) for name, of in sorted(sizes.items())
        ]
        return pb.GetCacheResponse(models=models, max_bytes=self._engine.keeper.max_bytes)

    async def TrimCache(self, request: pb.TrimCacheRequest, context: Context) -> pb.TrimCacheResponse:
        """Remove answers from the generation cache."""
        if not (math.isfinite(request.older_than_s) and request.older_than_s >= 0):
            raise InvalidInputError(f"older_than_s is {request.older_than_s:g}; expected 0 or more seconds")
        bound = request.max_bytes if request.HasField("max_bytes") else None
        if not request.model and not request.older_than_s and bound is None:
            raise InvalidInputError("nothing says what is to go; expected model, older_than_s or max_bytes")
        keeper = self._engine.keeper
        removed = await keeper.trim(Trim(request.model, request.older_than_s, bound))
        left = sum(size.bytes for size in (await keeper.sizes()).values())
        return pb.TrimCacheResponse(removed_count=removed.count, removed_bytes=removed.bytes, bytes=left)

    async def _looked(self) -> None:
        """Make sure that a model which is listed as available is one whose cells are consumed."""
        if self._look is not None:
            # Where the bus is away, the next look comes soon enough: its topics keep what is published later.
            with suppress(SafescaleError, TimeoutError):
                await asyncio.wait_for(self._look(), LOOK_TIMEOUT_S)

    async def _model(self, row: ModelRow) -> pb.Model:
        backend = self._engine.backend(row.id)
        reason = backend.unavailable_reason()
        found = ModelIdentity(row.revision or "")
        if not reason:
            try:
                # A hash of local weights takes what it takes; a server that does not answer holds up no list.
                async with asyncio.timeout(REVISION_TIMEOUT_S if row.endpoint else None):
                    found = await self._engine.identity(row.id)
            except SafescaleError as error:
                reason = error.message
            except TimeoutError:
                reason = f"its server did not tell its model within {REVISION_TIMEOUT_S:g} s"
        price = row.price_per_million
        return pb.Model(
            id=row.id,
            family=row.family,
            parameters_b=row.parameters_b or 0.0,
            window_tokens=row.served_tokens,
            revision=found.revision,
            fingerprint=found.fingerprint,
            served_model=served_name(row),
            reasoning_style=row.reasoning or "",
            price=pb.Price(prompt=price.prompt, generated=price.generated) if price else None,
            backend=row.backend,
            instruct=row.instruct,
            reasoning=row.reasoning is not None,
            auto_formulation=FORMULATIONS[row.auto_formulation],
            license=row.license,
            available=not reason,
            unavailable_reason=reason,
            supports_scores=backend.capabilities.scores,
            concurrency=backend.capabilities.concurrency,
        )


def _needed(value: str, field: str) -> None:
    if not value:
        raise InvalidInputError(f"{field} is empty; expected a model of the catalog")


def _sampling(request: pb.GenerateRequest, row: ModelRow) -> Sampling:
    if not request.HasField("sampling"):
        raise InvalidInputError("sampling is missing; expected how tokens are drawn, or continuations to score")
    asked = request.sampling
    if not (math.isfinite(asked.temperature) and asked.temperature >= 0):
        raise InvalidInputError(f"sampling.temperature is {asked.temperature:g}; expected 0 or above")
    if not 1 <= asked.max_new_tokens <= row.served_tokens:
        raise InvalidInputError(
            f"sampling.max_new_tokens is {asked.max_new_tokens}; expected 1 to {row.served_tokens}, the model's window"
        )
    count = asked.count or 1
    if count > MAX_COUNT:
        raise LimitExceededError(f"sampling.count {count} is over the limit of {MAX_COUNT}")
    if count > 1 and asked.temperature == 0:
        raise InvalidInputError(f"sampling.count is {count}; at temperature 0 all answers are one, expected 1")
    if asked.seed > MAX_SEED:
        raise InvalidInputError(f"sampling.seed is {asked.seed}; expected at most {MAX_SEED}")
    if len(asked.stop) > MAX_STOPS or not all(asked.stop):
        raise InvalidInputError(f"sampling.stop: expected at most {MAX_STOPS} texts, none of them empty")
    return Sampling(asked.temperature, asked.max_new_tokens, asked.seed, count, tuple(asked.stop))
