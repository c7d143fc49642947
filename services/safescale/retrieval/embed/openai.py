"""Vectors from a server of the OpenAI protocol's `/v1/embeddings`: TEI, vLLM, llama.cpp and their kind."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safescale.core.errors import GarbageAnswerError, InvalidInputError
from safescale.retrieval.batches import batched
from safescale.retrieval.chunking import prefix_of_tokens
from safescale.retrieval.embed.embedded import WordPieceTokenizer, read_packaged_tokenizer
from safescale.retrieval.embed.embeddings_client import EmbeddingsClient, RetryPolicy
from safescale.retrieval.embed.embeddings_server import ServerInfo, server_info
from safescale.retrieval.embed.embeddings_wire import read_vectors
from safescale.retrieval.embed.port import Vectors
from safescale.runtime.log import get_logger
from safescale.runtime.settings import Settings

MAX_TEXTS = 32
MAX_CHARACTERS = 256 * 1024
"""Bounds of one request; a server that names a lower number of texts is given that."""

REQUESTS = 4
"""Requests under way at once."""

MAX_TOKENS = 512
"""Taken where neither the server nor a setting says more: what BERT reads."""

PROBE = "dimension"
"""Embedded at the start, to learn how long vectors are."""


@dataclass(frozen=True)
class _Loaded:
    """What is discovered at the start."""

    server: ServerInfo
    tokenizer: WordPieceTokenizer
    max_tokens: int
    dimension: int
    answers_as: str
    revision: str


class OpenAIEmbedder:
    """Embedder by a server. Nothing is asked before `load`.

    The server is expected to be the same as long as this object lives: vectors of another length, or of a model that
    calls itself otherwise, are refused.
    """

    def __init__(self, settings: Settings, retries: RetryPolicy | None = None) -> None:
        """Take up the settings `embeddings*`.

        Raises:
            InvalidInputError: the URL, the bearer token's file or the CA's file cannot be used.

        """
        self._settings = settings
        self._client = EmbeddingsClient(settings, retries or RetryPolicy())
        self._ready: _Loaded | None = None
        self._loading = asyncio.Lock()
        self._slots = asyncio.Semaphore(REQUESTS)
        self._texts_cut = 0
        self._log = get_logger("retrieval")

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._settings.embeddings_model

    @property
    def parallel(self) -> int:
        """Batches that it can work on at once."""
        return REQUESTS

    @property
    def revision(self) -> str:
        """SHA-256 (64 hex digits) of the model's name, what the server says of it, query prefix, tokenizer, limit."""
        return self._loaded().revision

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._loaded().dimension

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads, special tokens included."""
        return self._loaded().max_tokens

    @property
    def texts_cut(self) -> int:
        """Texts that were cut at `max_tokens` so far."""
        return self._texts_cut

    @property
    def tokenizer(self) -> WordPieceTokenizer:
        """The tokenizer that chunks are cut with."""
        return self._loaded().tokenizer

    def _loaded(self) -> _Loaded:
        if self._ready is None:
            raise RuntimeError("the embedder is not loaded yet")
        return self._ready

    async def load(self) -> None:
        """Ask the server what it is and how long its vectors are.

        Raises:
            InvalidInputError: the tokenizer's file cannot be read, or leaves no room for text.
            BackendError: the server refuses, or answers what is not of the protocol.
            DependencyUnavailableError: the server cannot be reached now.

        """
        if self._ready is not None:
            return
        async with self._loading:
            if self._ready is None:
                self._ready = await self._find_out()

    async def _find_out(self) -> _Loaded:
        settings = self._settings
        tokenizer, digest = await asyncio.to_thread(_tokenizer, settings)
        server = await server_info(self._client, settings.embeddings_model)
        max_tokens = settings.embeddings_max_tokens or server.max_tokens or MAX_TOKENS
        if max_tokens <= tokenizer.special_tokens + tokenizer.count(settings.embeddings_query_prefix):
            raise InvalidInputError(
                f"the embedder reads {max_tokens} tokens; expected more than SAFESCALE_EMBEDDINGS_QUERY_PREFIX has"
            )
        answer = await self._client.post("/v1/embeddings", self._body([PROBE]), [PROBE])
        probe, model = read_vectors(answer, 1, None)
        parts = {
            "model": settings.embeddings_model,
            "server": dict(server.identity),
            "answers_as": model,
            "query_prefix": settings.embeddings_query_prefix,
            "tokenizer": digest,
            "max_tokens": max_tokens,
            "dimension": probe.shape[1],
        }
        revision = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return _Loaded(server, tokenizer, max_tokens, probe.shape[1], model, revision)

    def _body(self, texts: Sequence[str]) -> dict[str, object]:
        return {"model": self._settings.embeddings_model, "input": list(texts), "encoding_format": "base64"}

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed passages as vectors, (n, dimension) float32, L2-normalised.

        Raises:
            BackendError: the server refuses, fails, or answers what is not of the protocol.
            DependencyUnavailableError: the server cannot be reached now.

        """
        return await self._embed(texts, "")

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed queries, with the query prefix before each, as vectors, (n, dimension) float32, L2-normalised.

        Raises:
            BackendError: the server refuses, fails, or answers what is not of the protocol.
            DependencyUnavailableError: the server cannot be reached now.

        """
        return await self._embed(texts, self._settings.embeddings_query_prefix)

    async def _embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        await self.load()
        loaded = self._loaded()
        fitting = await asyncio.to_thread(self._fit, [prefix + text for text in texts])
        most = min(MAX_TEXTS, loaded.server.max_texts or MAX_TEXTS)
        requests = batched(fitting, most, MAX_CHARACTERS, len)
        parts = await asyncio.gather(*(self._ask(batch, loaded) for batch in requests))
        return np.concatenate(parts) if parts else np.empty((0, loaded.dimension), dtype=np.float32)

    def _fit(self, texts: Sequence[str]) -> list[str]:
        """Cut texts to what the model can read: servers refuse longer ones or cut them silently."""
        loaded = self._loaded()
        tokenizer = loaded.tokenizer
        room = loaded.max_tokens - tokenizer.special_tokens
        fitting = [prefix_of_tokens(text, tokenizer, room) for text in texts]
        cut = sum(len(after) < len(before) for before, after in zip(texts, fitting, strict=True))
        if cut:
            self._texts_cut += cut
            self._log.warning("texts cut at the embedder's limit", count=cut, tokens=loaded.max_tokens)
        return fitting

    async def _ask(self, texts: Sequence[str], loaded: _Loaded) -> Vectors:
        async with self._slots:
            answer = await self._client.post("/v1/embeddings", self._body(texts), texts)
        vectors, model = read_vectors(answer, len(texts), loaded.dimension)
        if model != loaded.answers_as:
            raise GarbageAnswerError(
                f"the embeddings server answers as model {model!r}, at the start it was {loaded.answers_as!r};"
                " expected one model; start this service again when the change is meant"
            )
        return vectors

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _tokenizer(settings: Settings) -> tuple[WordPieceTokenizer, str]:
    """Return the tokenizer, and what identifies it."""
    path = settings.embeddings_tokenizer_file
    if path is None:
        tokenizer = read_packaged_tokenizer()
        return tokenizer, tokenizer.name
    try:
        definition = path.read_text(encoding="utf-8")
        digest = hashlib.sha256(definition.encode()).hexdigest()
        return WordPieceTokenizer(f"{settings.embeddings_model}@{digest[:12]}", definition), digest
    except Exception as error:  # the library raises plain Exception for a file that it cannot use
        raise InvalidInputError(
            f"SAFESCALE_EMBEDDINGS_TOKENIZER_FILE is {path}; expected a readable tokenizer.json ({error})"
        ) from error
