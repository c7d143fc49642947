"""Builds the contexts of the retrieval conditions (protocol section 2) and stores each once by its content."""

import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safescale.core.errors import InvalidInputError, NotFoundError
from safescale.core.safety.builders import Builder, MaxContext, Padded, TopK
from safescale.core.safety.conditions import CONDITIONS, Condition, condition
from safescale.retrieval.chunking import prefix_of_tokens
from safescale.retrieval.clients import ModelTokenizers
from safescale.retrieval.corpora import Corpora
from safescale.retrieval.embed.port import ChunkTokenizer, Embedder
from safescale.retrieval.index.port import MAX_RANKED, Chunk
from safescale.retrieval.packing import SEPARATOR, RankedChunks, pack
from safescale.runtime.documents.port import DocumentStore, NewDocument
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.telemetry import Telemetry

CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class Context:
    """A text put before a question: the chunks it holds, in order, and its tokens by the named tokenizer."""

    text: str
    chunk_ids: tuple[str, ...]
    token_count: int
    tokenizer: str
    corpus_id: str

    @property
    def context_id(self) -> str:
        """The SHA-256 (64 hex digits) of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Skipped:
    """The condition does not fit the model; `reason` is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """What a context is built for. `model` bounds max-context conditions and is ignored by the others."""

    corpus_id: str
    query: str
    condition: str
    model: str = ""


class ContextStore:
    """Contexts by the hash of their text. Of one text built in two ways, the record keeps the first way."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def put(self, context: Context) -> None:
        """Store a context unless its text is there."""
        body = {
            "text": context.text,
            "chunk_ids": list(context.chunk_ids),
            "token_count": context.token_count,
            "tokenizer": context.tokenizer,
            "corpus_id": context.corpus_id,
        }
        await self._documents.put_if_absent(NewDocument(CONTEXT, context.context_id, body, group=context.corpus_id))

    async def get(self, context_id: str) -> Context:
        """Read a context.

        Raises:
            NotFoundError: no context has that id.

        """
        document = await self._documents.get(CONTEXT, context_id)
        if document is None:
            raise NotFoundError(f"no context {context_id!r} is stored")
        body = document.body
        return Context(
            body["text"], tuple(body["chunk_ids"]), body["token_count"], body["tokenizer"], body["corpus_id"]
        )


@dataclass(frozen=True)
class BuilderPorts:
    """What the builder works with."""

    corpora: Corpora
    embedder: Embedder
    models: ModelTokenizers
    store: ContextStore
    telemetry: Telemetry


class ContextBuilder:
    """Builds, stores and times contexts."""

    def __init__(self, ports: BuilderPorts) -> None:
        self._ports = ports
        # A run has its few contexts within seconds, often between two scrapes.
        for row in CONDITIONS:
            if type(row.builder) in MAKERS:
                ports.telemetry.at_zero("safescale_retrieval_seconds", {"condition": row.id, "outcome": "ok"})

    async def build(self, request: ContextRequest) -> tuple[Context | Skipped, float]:
        """Build and store a context, or say why the condition is skipped; with the seconds it took.

        Raises:
            SafescaleError: the request is wrong, or something it needs is not there.

        """
        begin = time.perf_counter()
        outcome = "ok"
        try:
            with self._ports.telemetry.span("retrieval", {"condition": request.condition, "model": request.model}):
                built = await self._build(request)
            if isinstance(built, Skipped):
                outcome = "skipped"
            else:
                await self._ports.store.put(built)
        except Exception as error:
            outcome = as_safescale_error(error).reason
            raise
        finally:
            elapsed = time.perf_counter() - begin
            known = any(row.id == request.condition for row in CONDITIONS)
            labels = {"condition": request.condition if known else "unknown", "outcome": outcome}
            self._ports.telemetry.observe("safescale_retrieval_seconds", elapsed, labels)
        return built, elapsed

    async def _build(self, request: ContextRequest) -> Context | Skipped:
        row = _checked(request)
        return await MAKERS[type(row.builder)](self, row.builder, request)

    async def _chunks(self, request: ContextRequest, k: int) -> list[Chunk]:
        return [hit.chunk for hit in await self._ports.corpora.search(request.corpus_id, request.query, k)]

    async def _top_k(self, builder: TopK, request: ContextRequest) -> Context:
        chunks = await self._chunks(request, builder.k)
        text = SEPARATOR.join(chunk.text for chunk in chunks)
        return self._context(text, chunks, request.corpus_id, self._joined_tokens(chunks))

    def _context(self, text: str, chunks: Sequence[Chunk], corpus_id: str, tokens: int) -> Context:
        ids = tuple(chunk.chunk_id for chunk in chunks)
        return Context(text, ids, tokens, self._ports.embedder.tokenizer.name, corpus_id)

    def _joined_tokens(self, chunks: Sequence[Chunk]) -> int:
        """Count the tokens of chunks with separators between."""
        tokenizer = self._ports.embedder.tokenizer
        if not tokenizer.splits_at_space:
            return tokenizer.count(SEPARATOR.join(chunk.text for chunk in chunks))
        # Counting ten chunks takes as long as finding them; each was counted when it was cut.
        return sum(chunk.token_count for chunk in chunks) + (len(chunks) - 1) * tokenizer.count(SEPARATOR)

    async def _padded(self, builder: Padded, request: ContextRequest) -> Context:
        """Repeat the best chunk to the token count that all of them have together."""
        chunks = await self._chunks(request, builder.k)
        best = chunks[0]
        target = self._joined_tokens(chunks)
        text, tokens = (
            repeated(best, target, self._ports.embedder.tokenizer) if len(chunks) > 1 else (best.text, target)
        )
        begun = math.ceil(len(text) / len(best.text + SEPARATOR))
        return self._context(text, [best] * begun, request.corpus_id, tokens)

    async def _max_context(self, builder: MaxContext, request: ContextRequest) -> Context | Skipped:
        models = self._ports.models
        model = await models.model(request.model)
        budget = builder.budget(model.window_tokens)
        if budget is None:
            return Skipped(f"{request.condition} does not fit {model.id}: its window is {model.window_tokens:,} tokens")
        corpora = self._ports.corpora
        ranked = await corpora.rank(request.corpus_id, request.query, MAX_RANKED)
        chunks = RankedChunks(request.corpus_id, [place.chunk_id for place in ranked], corpora.read)
        packed = await pack(chunks, budget, model, models)
        if not packed.text:
            return Skipped(f"{request.condition} does not fit {model.id}: a budget of {budget:,} tokens holds no text")
        return Context(packed.text, tuple(packed.chunk_ids), packed.token_count, model.id, request.corpus_id)


MAKERS: Mapping[type[Builder], Callable[[ContextBuilder, Any, ContextRequest], Awaitable[Context | Skipped]]] = {
    TopK: ContextBuilder._top_k,
    Padded: ContextBuilder._padded,
    MaxContext: ContextBuilder._max_context,
}
"""How the context of each builder that retrieval serves is made."""


def repeated(chunk: Chunk, target: int, tokenizer: ChunkTokenizer) -> tuple[str, int]:
    """Repeat a chunk, separators between, up to `target` tokens (at least the chunk's); return text and tokens."""
    unit = SEPARATOR + chunk.text
    if not tokenizer.splits_at_space:
        copies = target // tokenizer.count(unit) + 2
        text = prefix_of_tokens(SEPARATOR.join([chunk.text] * copies), tokenizer, target)
        return text, tokenizer.count(text)
    # Whole copies have the tokens that they have alone, so that the last one alone has to be read.
    copies, rest = divmod(target - chunk.token_count, chunk.token_count + tokenizer.count(SEPARATOR))
    tail = prefix_of_tokens(unit, tokenizer, rest)
    return chunk.text + unit * copies + tail, target - rest + tokenizer.count(tail)


def _checked(request: ContextRequest) -> Condition:
    for field in ("corpus_id", "query", "condition"):
        if not getattr(request, field).strip():
            raise InvalidInputError(f"{field} is empty; expected a non-empty text")
    row = condition(request.condition)
    if type(row.builder) not in MAKERS:
        served = ", ".join(each.id for each in CONDITIONS if type(each.builder) in MAKERS)
        raise InvalidInputError(f"condition {row.id!r} is not built by retrieval; expected one of {served}")
    if row.builder.per_model and not request.model:
        raise InvalidInputError(f"model is empty; {row.id} needs the model whose tokenizer and window bound it")
    return row
