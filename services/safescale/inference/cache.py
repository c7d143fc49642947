"""The generation cache: what a model answered, under a key of all that can change an answer and nothing else.

In the key: model and revision of its weights, the server's fingerprint, the rendered messages, prompt version, sampling
with its seed, or the continuations. Not in it: timeouts, retries, run, condition.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safescale.core.prompts import PROMPT_VERSION, Messages
from safescale.inference.backends.port import Generation, Output, Sampling, Score, Scores
from safescale.runtime.documents.port import DocumentStore, NewDocument

KIND = "generation"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who was asked what: the fixed part of a key."""

    model: str
    revision: str
    fingerprint: str
    messages: Messages


def sampling_key(asked: Asked, sampling: Sampling) -> str:
    """Key of the texts of one sampling, 64 hex digits. Greedy has no seed."""
    parameters: dict[str, Any] = {
        "temperature": float(sampling.temperature),
        "max_new_tokens": sampling.max_new_tokens,
        "stop": list(sampling.stop),
    }
    if not sampling.greedy:
        parameters.update(seed=sampling.seed, count=sampling.count)
    return _key(asked, {"sampling": parameters})


def scores_key(asked: Asked, continuations: Sequence[str]) -> str:
    """Key of the scores of these continuations, 64 hex digits."""
    return _key(asked, {"continuations": list(continuations)})


def _key(asked: Asked, rest: Mapping[str, Any]) -> str:
    body = {**asdict(asked), "prompt_version": PROMPT_VERSION, **rest}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class GenerationCache:
    """Generations and scores in the document store. Seconds are those of the call that was really made."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def generations(self, keys: Sequence[str]) -> dict[str, Generation]:
        """Stored generations by key; missing ones are left out."""
        found = await self._documents.get_many(KIND, keys)
        return {key: _generation(document.body) for key, document in found.items()}

    async def put_generation(self, key: str, generation: Generation) -> None:
        """Store a generation, in place of an older one."""
        await self._documents.put(NewDocument(KIND, key, asdict(generation)))

    async def scores(self, key: str) -> Scores | None:
        """Stored scores; None when there are none."""
        document = await self._documents.get(KIND, key)
        return None if document is None else _scores(document.body)

    async def put_scores(self, key: str, scores: Scores) -> None:
        """Store scores, in place of older ones."""
        await self._documents.put(NewDocument(KIND, key, asdict(scores)))


def _generation(body: Mapping[str, Any]) -> Generation:
    outputs = tuple(Output(**output) for output in body["outputs"])
    return Generation(outputs, body["prompt_tokens"], body["elapsed_s"], body["time_to_first_token_s"])


def _scores(body: Mapping[str, Any]) -> Scores:
    items = tuple(Score(**score) for score in body["items"])
    # A cached answer waited for nothing, whatever the first one did.
    return Scores(items, body["prompt_tokens"], body["elapsed_s"], body["time_to_first_token_s"], 0.0)
