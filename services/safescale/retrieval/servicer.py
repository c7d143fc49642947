"""gRPC face of retrieval: checks requests and hands them on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from safescale.core.errors import InvalidInputError, LimitExceededError
from safescale.core.inputs.corpus import CorpusDocument
from safescale.retrieval.contexts import Context, ContextBuilder, ContextRequest, ContextStore, Skipped
from safescale.retrieval.corpora import Corpora, Corpus, Hit
from safescale.retrieval.embed.port import Embedder
from safescale.retrieval.ingest import IncomingCorpus, IngestLimits
from safescale.rpc.retrieval.v1 import retrieval_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2_grpc

Call = grpc.aio.ServicerContext[Any, Any]

MAX_HITS = 1000
MAX_QUERY_BYTES = 64 * 1024
MAX_CONTEXT_BYTES = 4 * 1024 * 1024


class RetrievalServicer(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Answers the calls of the retrieval service."""

    def __init__(
        self,
        corpora: Corpora,
        builder: ContextBuilder,
        store: ContextStore,
        embedder: Embedder,
        limits: IngestLimits,
    ) -> None:
        self._corpora = corpora
        self._builder = builder
        self._store = store
        self._embedder = embedder
        self._limits = limits

    async def IngestCorpus(
        self, request_iterator: AsyncIterator[pb.IngestCorpusRequest], context: Call
    ) -> pb.IngestCorpusResponse:
        """Store, chunk, embed and index a corpus."""
        incoming: IncomingCorpus | None = None
        async for request in request_iterator:
            part = request.WhichOneof("part")
            if incoming is None:
                if part != "header":
                    raise InvalidInputError(f"the first message has {part or 'nothing'}; expected header")
                incoming = IncomingCorpus(request.header.name, self._limits)
            elif part == "document":
                found = request.document
                incoming.add(CorpusDocument(found.id, found.title, found.text))
            else:
                raise InvalidInputError(f"a later message has {part or 'nothing'}; expected document")
        if incoming is None:
            raise InvalidInputError("no message came; expected header, then documents")
        corpus, created = await self._corpora.ingest(incoming.name, incoming.finish())
        return pb.IngestCorpusResponse(corpus=corpus_message(corpus), created=created)

    async def Search(self, request: pb.SearchRequest, context: Call) -> pb.SearchResponse:
        """Rank the chunks of a corpus."""
        _need("corpus_id", request.corpus_id)
        _check_query(request.query)
        if not request.k:
            raise InvalidInputError(f"k is 0; expected 1 to {MAX_HITS:,}")
        if request.k > MAX_HITS:
            raise LimitExceededError(f"k is {request.k:,}; the limit is {MAX_HITS:,}")
        hits = await self._corpora.search(request.corpus_id, request.query, request.k)
        return pb.SearchResponse(hits=[hit_message(hit) for hit in hits])

    async def BuildContext(self, request: pb.BuildContextRequest, context: Call) -> pb.BuildContextResponse:
        """Build and store the context of one question under one condition."""
        _check_query(request.query)
        wanted = ContextRequest(request.corpus_id, request.query, request.condition, request.model)
        built, elapsed = await self._builder.build(wanted)
        if isinstance(built, Skipped):
            return pb.BuildContextResponse(skipped_reason=built.reason, elapsed_s=elapsed)
        return pb.BuildContextResponse(context=context_message(built, with_text=False), elapsed_s=elapsed)

    async def PutContext(self, request: pb.PutContextRequest, context: Call) -> pb.PutContextResponse:
        """Store a text that was made elsewhere."""
        _need("text", request.text)
        _limit("text", request.text, MAX_CONTEXT_BYTES)
        await self._embedder.load()
        tokenizer = self._embedder.tokenizer
        tokens = await asyncio.to_thread(tokenizer.count, request.text)
        made = Context(request.text, tuple(request.chunk_ids), tokens, tokenizer.name, request.corpus_id)
        await self._store.put(made)
        return pb.PutContextResponse(context=context_message(made, with_text=False))

    async def GetContext(self, request: pb.GetContextRequest, context: Call) -> pb.GetContextResponse:
        """Read a stored context with its text."""
        _need("context_id", request.context_id)
        found = await self._store.get(request.context_id)
        return pb.GetContextResponse(context=context_message(found, with_text=True))

    async def ListCorpora(self, request: pb.ListCorporaRequest, context: Call) -> pb.ListCorporaResponse:
        """List the corpora."""
        return pb.ListCorporaResponse(corpora=[corpus_message(corpus) for corpus in await self._corpora.all()])


def _need(field: str, value: str) -> None:
    if not value.strip():
        raise InvalidInputError(f"{field} is empty; expected a non-empty text")


def _limit(field: str, value: str, limit: int) -> None:
    size = len(value.encode())
    if size > limit:
        raise LimitExceededError(f"{field} has {size:,} bytes; expected at most {limit:,}")


def _check_query(query: str) -> None:
    _need("query", query)
    _limit("query", query, MAX_QUERY_BYTES)


def corpus_message(corpus: Corpus) -> pb.Corpus:
    """Return the message of a corpus."""
    return pb.Corpus(
        corpus_id=corpus.corpus_id,
        name=corpus.name,
        document_count=corpus.document_count,
        chunk_count=corpus.chunk_count,
        embedder=corpus.embedder,
    )


def hit_message(hit: Hit) -> pb.Hit:
    """Return the message of a ranked chunk."""
    return pb.Hit(
        chunk_id=hit.chunk.chunk_id,
        document_id=hit.chunk.document_id,
        title=hit.chunk.title,
        text=hit.chunk.text,
        score=hit.score,
        token_count=hit.chunk.token_count,
        lexical_rank=hit.lexical_rank,
        dense_rank=hit.dense_rank,
    )


def context_message(context: Context, *, with_text: bool) -> pb.Context:
    """Return the message of a context, with or without its text."""
    return pb.Context(
        context_id=context.context_id,
        text=context.text if with_text else "",
        chunk_ids=context.chunk_ids,
        token_count=context.token_count,
        tokenizer=context.tokenizer,
        corpus_id=context.corpus_id,
    )
