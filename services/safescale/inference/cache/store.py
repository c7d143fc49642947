"""The generation cache: what a model answered, under a key of all that can change an answer and nothing else.

In the key: model and revision of its weights, the fingerprint of all else that decides (`identity`), the rendered
messages, prompt version, sampling with its seed, or the continuations. Not in it: timeouts, retries, run, condition.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from safescale.core.errors import InvalidInputError
from safescale.core.safety.prompts import PROMPT_VERSION, Messages
from safescale.inference.backends.port import Generation, Output, Sampling, Score, Scores
from safescale.inference.cache.bound import KIND, CacheKeeper
from safescale.runtime.documents.port import Body, DocumentStore

KEY_VERSION = 2
"""Raised where keys come to hold more: what is stored under an older key may be of another adapter or template."""


@dataclass(frozen=True, slots=True)
class GenerationKey:
    """The fixed part of a key: the model as it answers, and the prompt."""

    model: str
    revision: str
    fingerprint: str
    messages: Messages


def sampling_key(key: GenerationKey, sampling: Sampling) -> str:
    """Return the key of the texts of one sampling, 64 hex digits. Greedy has no seed."""
    return sampling_keys(key, [sampling])[0]


def sampling_keys(key: GenerationKey, samplings: Sequence[Sampling]) -> list[str]:
    """Return the key of each sampling, as `sampling_key`; the prompt, which can be long, is hashed once for all.

    Raises:
        InvalidInputError: the prompt is not valid Unicode text.

    """
    # A key is the hash of one canonical JSON array: what is the same for all samplings, and the sampling.
    begin = hashlib.sha256(b"[" + _canonical(_fixed(key)) + b",")
    keys = []
    for sampling in samplings:
        parameters: dict[str, Any] = {
            "temperature": float(sampling.temperature),
            "max_new_tokens": sampling.max_new_tokens,
            "stop": sampling.stop,
        }
        if not sampling.greedy:
            parameters.update(seed=sampling.seed, count=sampling.count)
        whole = begin.copy()
        whole.update(_canonical(parameters) + b"]")
        keys.append(whole.hexdigest())
    return keys


def scores_key(key: GenerationKey, continuations: Sequence[str]) -> str:
    """Return the key of the scores of these continuations, 64 hex digits.

    Raises:
        InvalidInputError: the prompt or a continuation is not valid Unicode text.

    """
    body = {**_fixed(key), "continuations": list(continuations)}
    return hashlib.sha256(_canonical(body)).hexdigest()


def _fixed(key: GenerationKey) -> dict[str, Any]:
    return {
        "fingerprint": key.fingerprint,
        "messages": {"system": key.messages.system, "user": key.messages.user},
        "model": key.model,
        "prompt_version": PROMPT_VERSION,
        "revision": key.revision,
        "version": KEY_VERSION,
    }


def _canonical(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidInputError("the prompt cannot be encoded; expected valid Unicode text") from error


class GenerationCache:
    """Generations and scores in the document store. Seconds are those of the call that was really made."""

    def __init__(self, documents: DocumentStore, keeper: CacheKeeper | None = None) -> None:
        """Take the store, and who keeps the cache within its bound (default: none)."""
        self._documents = documents
        self.keeper = keeper or CacheKeeper(documents)

    async def generations(self, keys: Sequence[str]) -> dict[str, Generation]:
        """Return stored generations by key, in one exchange; missing ones are left out."""
        found = await self._documents.get_many(KIND, keys)
        return {key: _generation(document.body) for key, document in found.items()}

    async def put_generations(self, generations: Mapping[str, Generation], *, replace: bool, model: str = "") -> None:
        """Store generations under their keys; with `replace` in place of older ones, else only where none is."""
        await self._put({key: _generation_body(value) for key, value in generations.items()}, replace, model)

    async def scores(self, key: str) -> Scores | None:
        """Return stored scores; None when there are none."""
        document = await self._documents.get(KIND, key)
        return None if document is None else _scores(document.body)

    async def put_scores(self, key: str, scores: Scores, *, replace: bool, model: str = "") -> None:
        """Store scores; with `replace` in place of older ones, else only where none are."""
        await self._put({key: _scores_body(scores)}, replace, model)

    async def _put(self, bodies: Mapping[str, Body], replace: bool, model: str) -> None:
        documents = [self.keeper.document(key, body, model) for key, body in bodies.items()]
        if replace:
            await asyncio.gather(*(self._documents.put(document) for document in documents))
        else:
            await self._documents.put_many_if_absent(documents)
        self.keeper.stored(sum(len(orjson.dumps(document.body)) for document in documents))


def _generation_body(generation: Generation) -> Body:
    return {
        "outputs": [
            {
                "text": output.text,
                "reasoning": output.reasoning,
                "finish_reason": output.finish_reason,
                "generated_tokens": output.generated_tokens,
            }
            for output in generation.outputs
        ],
        "prompt_tokens": generation.prompt_tokens,
        "elapsed_s": generation.elapsed_s,
        "time_to_first_token_s": generation.time_to_first_token_s,
        "prompt_calls": generation.prompt_calls,
        "warnings": list(generation.warnings),
    }


def _generation(body: Mapping[str, Any]) -> Generation:
    outputs = tuple(Output(**output) for output in body["outputs"])
    return Generation(
        outputs,
        body["prompt_tokens"],
        body["elapsed_s"],
        body["time_to_first_token_s"],
        body["prompt_calls"],
        tuple(body["warnings"]),
    )


def _scores_body(scores: Scores) -> Body:
    return {
        "items": [{"mean_logprob": item.mean_logprob, "tokens": item.tokens} for item in scores.items],
        "prompt_tokens": scores.prompt_tokens,
        "elapsed_s": scores.elapsed_s,
        "time_to_first_token_s": scores.time_to_first_token_s,
        "waited_s": scores.waited_s,
        "prompt_calls": scores.prompt_calls,
        "warnings": list(scores.warnings),
    }


def _scores(body: Mapping[str, Any]) -> Scores:
    items = tuple(Score(**score) for score in body["items"])
    # A cached answer waited for nothing, whatever the first one did.
    return Scores(
        items,
        body["prompt_tokens"],
        body["elapsed_s"],
        body["time_to_first_token_s"],
        0.0,
        body["prompt_calls"],
        tuple(body["warnings"]),
    )
