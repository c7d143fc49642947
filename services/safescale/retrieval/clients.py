"""What retrieval needs of inference: a model's window and its own tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc
from cachetools import LRUCache

from safescale.core.errors import GarbageAnswerError
from safescale.retrieval.batches import batched
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.runtime.grpc.channels import rpc_errors

QUICK_S = 30.0
TOKENIZE_S = 120.0
"""Deadline of a tokenization, in seconds: the model may have to be loaded first."""

MAX_COUNTS = 200_000
"""Counts of chunks that are kept, about 60 MB: several models with a corpus of tens of thousands of chunks each."""

BATCH_TEXTS = 500
BATCH_BYTES = 8 * 1024 * 1024
"""Bounds of one request, below what inference takes."""


@dataclass(frozen=True, slots=True)
class ModelWindow:
    """What packing needs of a model."""

    id: str
    revision: str
    window_tokens: int


class ModelTokenizers:
    """Counts and cuts with the tokenizers of the models under test.

    Counts of chunks are kept by model revision, up to `kept` of all models together; those used longest ago go.
    """

    def __init__(self, inference: Callable[[], grpc.aio.Channel], kept: int = MAX_COUNTS) -> None:
        self._inference = inference
        self._counts: LRUCache[tuple[str, str, str], int] = LRUCache(kept)

    def _stub(self) -> "inference_pb2_grpc.InferenceServiceAsyncStub":
        return inference_pb2_grpc.InferenceServiceStub(self._inference())

    async def model(self, model: str) -> ModelWindow:
        """Return a row of the catalog.

        Raises:
            NotFoundError: the catalog has no such model.

        """
        with rpc_errors():
            response = await self._stub().GetModel(inference_pb2.GetModelRequest(model=model), timeout=QUICK_S)
        return ModelWindow(response.model.id, response.model.revision, response.model.window_tokens)

    async def count(self, model: ModelWindow, text: str) -> int:
        """Count the tokens of a text."""
        return (await self._tokenize(model.id, [text])).token_counts[0]

    async def counts(self, model: ModelWindow, texts: Mapping[str, str]) -> list[int]:
        """Count the tokens of texts given by keys of their content, in order; each is requested once."""
        of_model = (model.id, model.revision)
        found = {key: count for key in texts if (count := self._counts.get((*of_model, key))) is not None}
        missing = {key: text for key, text in texts.items() if key not in found}
        for batch in batched(missing, BATCH_TEXTS, BATCH_BYTES, lambda key: len(missing[key].encode())):
            response = await self._tokenize(model.id, [missing[key] for key in batch])
            for key, count in zip(batch, response.token_counts, strict=True):
                found[key] = count
                self._counts[*of_model, key] = count
        return [found[key] for key in texts]

    async def truncate(self, model: ModelWindow, text: str, limit: int) -> tuple[int, str]:
        """Count the tokens of the whole text; return also its longest prefix with at most `limit` of them.

        Raises:
            GarbageAnswerError: what came back is not a prefix.

        """
        response = await self._tokenize(model.id, [text], limit)
        cut = response.truncated_texts[0]
        if not text.startswith(cut):
            raise GarbageAnswerError(f"the tokenizer of {model.id} cut a text into something that is no prefix of it")
        return response.token_counts[0], cut

    async def _tokenize(
        self, model: str, texts: Sequence[str], limit: int | None = None
    ) -> inference_pb2.TokenizeResponse:
        request = inference_pb2.TokenizeRequest(model=model, texts=texts, truncate_to=limit)
        with rpc_errors():
            response = await self._stub().Tokenize(request, timeout=TOKENIZE_S)
        cut = len(texts) if limit is not None else 0
        if len(response.token_counts) != len(texts) or len(response.truncated_texts) != cut:
            raise GarbageAnswerError(f"the tokenizer of {model} did not answer for every text")
        return response
