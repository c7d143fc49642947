"""Request bodies: read in pieces, within a size and without long silence."""

import asyncio
from collections.abc import AsyncIterator, Collection
from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect

from safescale.gateway.context import Gateway
from safescale.gateway.http.problem import HttpError

JSON = "application/json"
YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
NDJSON = ("application/x-ndjson", "application/jsonl", "application/ndjson")
CSV = "text/csv"
MULTIPART = "multipart/form-data"


def media_type(request: Request, allowed: Collection[str]) -> str:
    """Media type of the body, without parameters.

    Raises:
        HttpError: 415, it is not among `allowed`, or the body is compressed.

    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HttpError(415, "UNSUPPORTED_MEDIA_TYPE", "the body is compressed; expected no Content-Encoding")
    found = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if found not in allowed:
        detail = f"Content-Type is {found!r}; expected {' or '.join(sorted(allowed))}"
        raise HttpError(415, "UNSUPPORTED_MEDIA_TYPE", detail)
    return found


async def body_parts(request: Request, gateway: Gateway, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives.

    Raises:
        HttpError: 413 above `limit` bytes, as soon as that is known; 408 after a long silence; 400 when it is cut.

    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    received = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(gateway.config.deadlines.idle_s):
                part = await anext(stream, None)
        except TimeoutError as error:
            detail = f"nothing of the body came for {gateway.config.deadlines.idle_s:g} s"
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "REQUEST_TIMEOUT", detail, retryable=True) from error
        except ClientDisconnect as error:
            raise HttpError(400, "BODY_CUT", "the connection ended before the body did", retryable=True) from error
        if part is None:
            return
        received += len(part)
        if received > limit:
            raise too_large(limit)
        if part:
            yield part


async def read_body(request: Request, gateway: Gateway, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        HttpError: as `body_parts`, and 400 for an empty one.

    """
    body = bytearray()
    async for part in body_parts(request, gateway, limit):
        body += part
    if not body:
        raise HttpError(400, "INVALID_INPUT", "the body is empty; expected a document")
    return bytes(body)


def too_large(limit: int) -> HttpError:
    """Return the error for a body over its limit."""
    return HttpError(413, "LIMIT_EXCEEDED", f"the body is larger than the limit of {limit:,} bytes")
