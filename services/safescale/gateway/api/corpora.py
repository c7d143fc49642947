"""Corpora: upload as a stream, check, list."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

import grpc
from fastapi import APIRouter, Depends, Query, Request, Response

from safescale.core.inputs.corpus import CorpusDocument, CorpusReader, corpus_error, no_documents
from safescale.core.inputs.records import Source
from safescale.gateway.access import MayCall
from safescale.gateway.api.idempotency import TAKES_KEY
from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.operations import body as describe_body
from safescale.gateway.api.openapi.schemas import Corpus, CorpusCheck, CorpusList, DefectItem, StoredCorpus
from safescale.gateway.api.query import PREFIX
from safescale.gateway.clients import ask, error_of
from safescale.gateway.context import Gateway, GatewayOf
from safescale.gateway.http import body
from safescale.gateway.http.lines import whole_lines
from safescale.gateway.messages import plain
from safescale.rpc.retrieval.v1 import retrieval_pb2 as pb

router = APIRouter(prefix=PREFIX, tags=["corpora"])

MAX_DEFECTS = 100
"""Defects after which a body is read no further."""

_BODY = describe_body(
    "JSONL with `id`, `title` and `text`. At most 1 GiB; it is read as a stream.",
    {body.NDJSON[0]: examples.DOCUMENT_LINE},
)

MAY_INGEST = MayCall(lambda services: services.retrieval.IngestCorpus, ())
MAY_CHECK = MayCall(MAY_INGEST.method, MAY_INGEST.request, "read")

Name = Annotated[str, Query(min_length=1, max_length=200, description="Name for people.", examples=["radiology-mini"])]


async def _documents(
    request: Request, gateway: Gateway, reader: CorpusReader, name: str
) -> AsyncIterator[CorpusDocument]:
    """Yield the documents of a body as they arrive, until there are too many defects."""
    body.media_type(request, body.NDJSON)
    limits = gateway.config.limits
    pieces = body.body_parts(request, gateway, limits.corpus_bytes)
    async for lines in whole_lines(pieces, limits.line_bytes):
        for document in await asyncio.to_thread(reader.read, Source(name, lines.data), lines.first):
            yield document
        if len(reader.defects) >= MAX_DEFECTS:
            return


@router.post(
    "/corpora",
    operation_id="ingestCorpus",
    dependencies=[Depends(MAY_INGEST), TAKES_KEY],
    summary="Ingest a corpus",
    status_code=201,
    responses={
        201: answer(StoredCorpus, "Stored, chunked, embedded and indexed."),
        200: answer(StoredCorpus, "The same documents were there already; nothing changed."),
        **problems(408, 413, 415, 429),
    },
    openapi_extra=_BODY,
)
async def ingest_corpus(
    request: Request, response: Response, gateway: GatewayOf, name: Name = "corpus"
) -> StoredCorpus:
    """Hand a corpus on to retrieval as it arrives. Nothing is stored when a document has a defect.

    The answer comes when all is indexed, which takes long for a large corpus. Should the connection end before, send
    the same corpus again: what was embedded is not embedded again.
    """
    with gateway.uploads.take():
        stored = await _ingest(request, gateway, name)
    response.status_code = 201 if stored.created else 200
    return StoredCorpus(corpus=Corpus.model_validate(plain(stored.corpus)), created=stored.created)


async def _ingest(request: Request, gateway: Gateway, name: str) -> pb.IngestCorpusResponse:
    reader = CorpusReader()
    call = gateway.services.retrieval.IngestCorpus(timeout=gateway.config.deadlines.ingest_s)
    try:
        await _send(call, pb.IngestCorpusRequest(header=pb.IngestHeader(name=name)))
        async for document in _documents(request, gateway, reader, name):
            # After a defect the rest is read for its defects alone.
            if not reader.defects and not await _send(call, _part(document)):
                break
        if reader.defects or not (reader.document_count or call.done()):
            raise corpus_error(reader.defects or [no_documents(name)])
        if not call.done():
            await call.done_writing()
        found: pb.IngestCorpusResponse = await call
        return found
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error
    finally:
        # Without effect on a call that has ended; one that has not must not store half a corpus.
        call.cancel()


async def _send(call: grpc.aio.StreamUnaryCall[pb.IngestCorpusRequest, pb.IngestCorpusResponse], part: object) -> bool:
    """Whether the service still listens; where not, the end of the call says why."""
    try:
        await call.write(part)  # type: ignore[arg-type]
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return False
    return True


def _part(document: CorpusDocument) -> pb.IngestCorpusRequest:
    return pb.IngestCorpusRequest(document=pb.Document(id=document.id, title=document.title, text=document.text))


@router.post(
    "/validations/corpus",
    operation_id="validateCorpus",
    dependencies=[Depends(MAY_CHECK)],
    summary="Check a corpus without storing it",
    responses={200: answer(CorpusCheck, "What is wrong with it, if anything."), **problems(408, 413, 415, 429)},
    openapi_extra=_BODY,
)
async def validate_corpus(request: Request, gateway: GatewayOf, name: Name = "corpus") -> CorpusCheck:
    """List the first 100 defects of a corpus."""
    reader = CorpusReader()
    with gateway.uploads.take():
        async for _ in _documents(request, gateway, reader, name):
            pass
    found = list(reader.defects)[:MAX_DEFECTS]
    if not found and not reader.document_count:
        found = [no_documents(name)]
    defects = [DefectItem(**asdict(each)) for each in found]
    return CorpusCheck(valid=not defects, defects=defects, document_count=reader.document_count)


@router.get(
    "/corpora",
    operation_id="listCorpora",
    summary="List the corpora",
    responses={200: answer(CorpusList, "All of them."), **problems()},
)
async def list_corpora(gateway: GatewayOf) -> CorpusList:
    """All corpora, ordered by id."""
    call = gateway.services.retrieval.ListCorpora
    found = await ask(call, pb.ListCorporaRequest(), gateway.config.deadlines.quick_s)
    return CorpusList(items=[Corpus.model_validate(plain(each)) for each in found.corpora])
