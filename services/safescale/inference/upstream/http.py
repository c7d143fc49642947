"""HTTP to model servers: one kept-alive session, bounded answers, failures of the transport as errors of the tree.

A status is no failure here: what 4xx and 5xx mean is for the adapter to say.
"""

import asyncio
import email.utils
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from safescale.core.errors import (
    BackendError,
    BackendTimeoutError,
    BackendUnavailableError,
    GarbageAnswerError,
    InvalidInputError,
)
from safescale.inference.catalog import HttpEndpoint
from safescale.inference.upstream.replica_set import NOT_SENT
from safescale.runtime.settings import read_secret

KEEP_ALIVE_S = 4.0
"""Idle connections are closed before the servers do it (uvicorn after 5 s): a call never meets a closing one."""

CONNECT_TIMEOUT_S = 10.0
MAX_BYTES = 64 * 1024 * 1024

LONGEST_RETRY_AFTER_S = 3600.0

MAX_LINE_BYTES = 8 * 1024 * 1024
"""Longest line of an event stream."""

_UNQUOTING = (
    "Not enough data to satisfy transfer length header.'>",
    "Not enough data to satisfy content length header.'>",
)
"""Ends of the HTTP parser's sentences that quote nothing of the answer."""

Body = bytes | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Connections at most, file of the bearer token, CA certificates (PEM), largest answer in bytes."""

    connections: int
    api_key_file: Path | None = None
    ca_file: Path | None = None
    max_bytes: int = MAX_BYTES


def http_options(endpoint: HttpEndpoint) -> HttpOptions:
    """Options of a catalog's endpoint; some connections are left for calls that take no place (health, info)."""
    return HttpOptions(
        connections=len(endpoint.urls) * endpoint.concurrency + 8,
        api_key_file=Path(endpoint.api_key_file) if endpoint.api_key_file else None,
        ca_file=Path(endpoint.ca_file) if endpoint.ca_file else None,
    )


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer and the seconds from the request to its last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_s: float


class SseParser:
    """Cuts a byte stream into the data of server-sent events; comments and fields other than data are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    @property
    def waiting(self) -> int:
        """Bytes of the line that has not ended yet."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Data of the events that this chunk completes, the lines of one joined by a line feed."""
        # A CR at the end of a chunk may be half of a CRLF, so it waits for the next one.
        text = self._rest + chunk
        held = text.endswith(b"\r")
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if held else b"")
        return [event for line in lines if (event := self._line(line)) is not None]

    def end(self) -> list[bytes]:
        """Data of a last event whose lines are whole but that no blank line ended."""
        events = self.feed(b"\n") if self._rest.endswith(b"\r") else []
        last = self._line(b"")
        return events if last is None else [*events, last]

    def _line(self, line: bytes) -> bytes | None:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return None
        if not self._data:
            return None
        event = b"\n".join(self._data)
        self._data = []
        return event


class HttpStream:
    """An answer that is read while it comes: as server-sent events, or whole when the status tells of an error."""

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
        """The whole body.

        Raises:
            BackendError: as for `HttpClient.post_json`.

        """
        return self._begun + await _bounded(self._response, self._max_bytes)

    async def is_events(self) -> bool:
        """Whether the answer is an event stream, told by how it begins: JSON and pages are none, whatever is stated."""
        while not (start := self._begun.lstrip(b"\xef\xbb\xbf \t\r\n")):
            # Blank lines may be sent to keep the connection open.
            chunk = await self._response.content.readany()
            if not chunk or len(self._begun) > MAX_LINE_BYTES:
                return True
            self._begun += chunk
        return start[:1] not in (b"{", b"[", b"<")

    async def events(self) -> AsyncIterator[bytes]:
        """Data of each event as it comes, `[DONE]` included.

        Raises:
            BackendError: as for `HttpClient.post_json`.

        """
        parser = SseParser()
        size = len(self._begun)
        for event in parser.feed(self._begun):
            yield event
        async for chunk in self._response.content.iter_any():
            size += len(chunk)
            if size > self._max_bytes:
                raise _too_large(self._max_bytes)
            for event in parser.feed(chunk):
                yield event
            if parser.waiting > MAX_LINE_BYTES:
                raise _too_large(MAX_LINE_BYTES)
        for event in parser.end():
            yield event


class HttpClient:
    """One session of an adapter, for all replicas of its model. It follows no redirects and reads no proxy settings."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        # One session whose connections are used again, one whose connections are closed after each answer.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def unavailable_reason(self) -> str:
        """Why no call can be made: a file of the catalog that cannot be read; empty when they can. Asks no server."""
        if self._sessions:
            return ""
        try:
            self._headers()
            self._ssl()
        except InvalidInputError as error:
            return error.message
        return ""

    async def post_json(self, url: str, body: Body, timeout_s: float) -> HttpAnswer:
        """POST JSON; the answer with its status, whatever that is.

        Raises:
            BackendUnavailableError: no connection, or it was cut before the answer was whole.
            BackendTimeoutError: the answer was not there in time.
            GarbageAnswerError: it is not HTTP, or too large.

        """
        return await self._whole("POST", url, _encoded(body), timeout_s)

    async def get(self, url: str, timeout_s: float) -> HttpAnswer:
        """GET; as `post_json`."""
        return await self._whole("GET", url, None, timeout_s)

    async def _whole(self, method: str, url: str, data: bytes | None, timeout_s: float) -> HttpAnswer:
        session = self._opened()
        begin = time.perf_counter()
        try:
            async with session.request(
                method, url, data=data, timeout=_timeout(timeout_s), allow_redirects=False
            ) as response:
                body = await _bounded(response, self._options.max_bytes)
                return HttpAnswer(response.status, response.headers, body, time.perf_counter() - begin)
        except (aiohttp.ClientError, OSError) as error:
            raise _mapped(error, url, timeout_s) from error

    @asynccontextmanager
    async def stream(self, url: str, body: Body, timeout_s: float, *, reuse: bool = True) -> AsyncIterator[HttpStream]:
        """POST JSON for an answer that is read while it comes; `timeout_s` is for the whole of it.

        Without `reuse` the connection is closed after it, for servers that close theirs without saying so.

        Raises:
            BackendError: as for `post_json`, also while it is read.

        """
        session = self._opened(reuse)
        try:
            async with session.request(
                "POST", url, data=_encoded(body), timeout=_timeout(timeout_s), allow_redirects=False
            ) as response:
                yield HttpStream(response, self._options.max_bytes)
        except (aiohttp.ClientError, OSError) as error:
            raise _mapped(error, url, timeout_s) from error

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

    def _opened(self, reuse: bool = True) -> aiohttp.ClientSession:
        if reuse not in self._sessions:
            try:
                headers, context = self._headers(), self._ssl()
            except InvalidInputError as error:
                raise BackendUnavailableError(error.message) from error
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


def retry_after(headers: Mapping[str, str]) -> dict[str, str]:
    """What Retry-After asks for, as details of an error: seconds, given there as a number or a date; empty without."""
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if not value:
        return {}
    try:
        seconds = float(value) if re.fullmatch(r"\d{1,9}(\.\d+)?", value) else _until(value)
    except (ValueError, TypeError, OverflowError):
        return {}
    return {"retry_after_s": f"{min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S):g}"}


def _until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()


def _encoded(body: Body) -> bytes:
    return body if isinstance(body, bytes) else orjson.dumps(body)


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=max(seconds, 0.001), sock_connect=CONNECT_TIMEOUT_S)


async def _bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    length = response.content_length
    if length is not None and length <= max_bytes:
        return await response.read()
    if length is not None:
        raise _too_large(max_bytes)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> GarbageAnswerError:
    return GarbageAnswerError(f"the model server's answer is over {max_bytes:,} bytes")


def _mapped(error: Exception, url: str, timeout_s: float) -> BackendError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return BackendUnavailableError(f"{url}: no connection within {CONNECT_TIMEOUT_S:g} s", details=NOT_SENT)
    if isinstance(error, asyncio.TimeoutError):
        return BackendTimeoutError(f"{url}: no whole answer within {timeout_s:g} s")
    if isinstance(error, aiohttp.ClientResponseError):
        # The parser's own sentence quotes the bytes that it could not read.
        return GarbageAnswerError(f"{url}: the answer is not HTTP ({type(error).__name__})")
    what = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientPayloadError) and not what.endswith(_UNQUOTING):
        what = f"the answer cannot be read to its end ({type(error).__name__})"
    details = NOT_SENT if isinstance(error, aiohttp.ClientConnectorError) else None
    return BackendUnavailableError(f"{url}: {what[:300]}", details=details)
