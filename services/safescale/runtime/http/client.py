"""The HTTP client of the services: kept-alive sessions, bounded answers, the caller's errors for failed exchanges.

A status is no failure here: what 4xx and 5xx mean is for the caller to decide.
"""

import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from safescale.core.errors import InvalidInputError
from safescale.runtime.http.failures import (
    EXCEPTIONS,
    FailureKind,
    ToError,
    TooLargeError,
    TransportFailure,
    failure_of,
)
from safescale.runtime.http.sse import SseParser
from safescale.runtime.settings import read_secret

KEEP_ALIVE_S = 4.0
"""Idle connections are closed before the servers do it (uvicorn after 5 s): a call never meets a closing one."""

CONNECT_TIMEOUT_S = 10.0
MAX_BYTES = 64 * 1024 * 1024

MAX_LINE_BYTES = 8 * 1024 * 1024
"""Longest line of an event stream."""

Body = bytes | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Bounds of connections, of an answer and of the time to connect; files of the bearer token and of the CA (PEM)."""

    connections: int
    api_key_file: Path | None = None
    ca_file: Path | None = None
    max_bytes: int = MAX_BYTES
    connect_timeout_s: float = CONNECT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer and the seconds from the request to its last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_s: float


class HttpStream:
    """An answer that is read while it comes: as server-sent events, or whole when the status is an error."""

    def __init__(self, response: aiohttp.ClientResponse, max_bytes: int) -> None:
        self._response = response
        self._max_bytes = max_bytes
        self._begun = b""

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers; names in any case."""
        return self._response.headers

    async def body(self) -> bytes:
        """Return the whole body. Failures are raised by `HttpClient.stream`."""
        return self._begun + await _bounded(self._response, self._max_bytes)

    async def is_events(self) -> bool:
        """Return whether the answer is an event stream. Its beginning decides: JSON and pages are not one."""
        while not (start := self._begun.lstrip(b"\xef\xbb\xbf \t\r\n")):
            # Blank lines may be sent to keep the connection open.
            chunk = await self._response.content.readany()
            if not chunk or len(self._begun) > MAX_LINE_BYTES:
                return True
            self._begun += chunk
        return start[:1] not in (b"{", b"[", b"<")

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the data of each event as it comes, `[DONE]` included. Failures are raised by `HttpClient.stream`."""
        parser = SseParser()
        size = len(self._begun)
        for event in parser.feed(self._begun):
            yield event
        async for chunk in self._response.content.iter_any():
            size += len(chunk)
            if size > self._max_bytes:
                raise TooLargeError(self._max_bytes)
            for event in parser.feed(chunk):
                yield event
            if parser.waiting > MAX_LINE_BYTES:
                raise TooLargeError(MAX_LINE_BYTES)
        for event in parser.end():
            yield event


class HttpClient:
    """Sessions with servers that share a key and certificates. Follows no redirects, reads no proxy settings.

    Every method raises, for a failure of the transport, what `to_error` makes of it.
    """

    def __init__(self, options: HttpOptions, to_error: ToError) -> None:
        self._options = options
        self._to_error = to_error
        # One session whose connections are used again, one whose connections are closed after each answer.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def unavailable_reason(self) -> str:
        """Return why no call can be made: a file that cannot be used; empty when calls can be. Asks no server."""
        if self._sessions:
            return ""
        try:
            self._headers()
            self._ssl()
        except InvalidInputError as error:
            return error.message
        return ""

    async def post_json(self, url: str, body: Body, timeout_s: float) -> HttpAnswer:
        """Post JSON and return the answer, whatever its status."""
        return await self._exchange("POST", url, _encoded(body), timeout_s)

    async def get(self, url: str, timeout_s: float) -> HttpAnswer:
        """Get the answer of a URL, whatever its status."""
        return await self._exchange("GET", url, None, timeout_s)

    async def _exchange(self, method: str, url: str, data: bytes | None, timeout_s: float) -> HttpAnswer:
        session = self._open(url)
        begin = time.perf_counter()
        try:
            async with session.request(
                method, url, data=data, timeout=self._timeout(timeout_s), allow_redirects=False
            ) as response:
                body = await _bounded(response, self._options.max_bytes)
                return HttpAnswer(response.status, response.headers, body, time.perf_counter() - begin)
        except EXCEPTIONS as error:
            raise self._to_error(failure_of(error, url, self._options.connect_timeout_s, timeout_s)) from error

    @asynccontextmanager
    async def stream(self, url: str, body: Body, timeout_s: float, *, reuse: bool = True) -> AsyncIterator[HttpStream]:
        """Post JSON for an answer that is read while it comes; `timeout_s` bounds all of it.

        Without `reuse` the connection is closed afterwards, for servers that close theirs without saying so.
        """
        session = self._open(url, reuse)
        try:
            async with session.request(
                "POST", url, data=_encoded(body), timeout=self._timeout(timeout_s), allow_redirects=False
            ) as response:
                yield HttpStream(response, self._options.max_bytes)
        except EXCEPTIONS as error:
            raise self._to_error(failure_of(error, url, self._options.connect_timeout_s, timeout_s)) from error

    def _headers(self) -> dict[str, str]:
        # A compressed answer costs time on a local network, and its size is unknown before it is unpacked.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "safescale"}
        if token := read_secret(self._options.api_key_file):
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _ssl(self) -> ssl.SSLContext | bool:
        path = self._options.ca_file
        if path is None:
            return True
        try:
            return ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInputError(f"the CA file {path} cannot be read; expected certificates in PEM") from error

    def _timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=max(seconds, 0.001), sock_connect=self._options.connect_timeout_s)

    def _open(self, url: str, reuse: bool = True) -> aiohttp.ClientSession:
        if reuse not in self._sessions:
            try:
                headers, context = self._headers(), self._ssl()
            except InvalidInputError as error:
                raise self._to_error(TransportFailure(FailureKind.FILES, url, error.message)) from error
            kept: dict[str, Any] = {"keepalive_timeout": KEEP_ALIVE_S} if reuse else {"force_close": True}
            connector = aiohttp.TCPConnector(limit=self._options.connections, ssl=context, **kept)
            self._sessions[reuse] = aiohttp.ClientSession(
                connector=connector,
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._sessions[reuse]

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def _encoded(body: Body) -> bytes:
    return body if isinstance(body, bytes) else orjson.dumps(body)


async def _bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    length = response.content_length
    if length is not None and length <= max_bytes:
        return await response.read()
    if length is not None:
        raise TooLargeError(max_bytes)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise TooLargeError(max_bytes)
    return bytes(body)
