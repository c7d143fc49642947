"""How an HTTP exchange fails before its answer is complete; each caller turns a failure into an error of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import aiohttp


class FailureKind(Enum):
    """Where an exchange failed."""

    FILES = auto()
    """A file of the client (key, CA certificates) cannot be used: no request was made."""
    CONNECT_TIMEOUT = auto()
    NOT_CONNECTED = auto()
    CERTIFICATE = auto()
    """The server's certificate is not trusted."""
    TIMEOUT = auto()
    NOT_HTTP = auto()
    TOO_LARGE = auto()
    CUT = auto()
    """The connection broke before the answer was complete."""


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """A failed exchange. `description` and `cause` quote nothing of the answer.

    `cause` is short: the system's words for a connection that was not made, otherwise the name of the exception.
    `limit` is what was exceeded: seconds of a timeout, bytes of an answer that is too large.
    """

    kind: FailureKind
    url: str
    description: str = ""
    cause: str = ""
    limit: float = 0.0

    @property
    def sent(self) -> bool:
        """Whether the server may have seen the request."""
        return self.kind not in (
            FailureKind.FILES, FailureKind.CONNECT_TIMEOUT, FailureKind.NOT_CONNECTED, FailureKind.CERTIFICATE
        )  # fmt: skip


ToError = Callable[[TransportFailure], Exception]
"""Makes the error that a caller raises for a failure."""


class TooLargeError(Exception):
    """An answer exceeds its limit in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"over {limit:,} bytes")
        self.limit = limit


EXCEPTIONS = (aiohttp.ClientError, OSError, TooLargeError)
"""What an exchange of aiohttp raises when it fails; `failure_of` describes each."""

_UNQUOTING = (
    "Not enough data to satisfy transfer length header.'>",
    "Not enough data to satisfy content length header.'>",
)
"""Ends of the HTTP parser's sentences that quote nothing of the answer."""


def failure_of(error: Exception, url: str, connect_timeout_s: float, timeout_s: float) -> TransportFailure:
    """Return the failure that one of `EXCEPTIONS` stands for."""
    name = type(error).__name__
    if isinstance(error, TooLargeError):
        return TransportFailure(FailureKind.TOO_LARGE, url, str(error), name, error.limit)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransportFailure(FailureKind.CONNECT_TIMEOUT, url, cause=name, limit=connect_timeout_s)
    if isinstance(error, asyncio.TimeoutError):
        return TransportFailure(FailureKind.TIMEOUT, url, cause=name, limit=timeout_s)
    if isinstance(error, aiohttp.ClientResponseError):
        # The parser's own sentence quotes the bytes that it could not read.
        return TransportFailure(FailureKind.NOT_HTTP, url, cause=name)
    description = (str(error) or name)[:300]
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return TransportFailure(FailureKind.CERTIFICATE, url, description, name)
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = str(error.os_error.strerror or error.os_error)
        return TransportFailure(FailureKind.NOT_CONNECTED, url, description, reason)
    if isinstance(error, aiohttp.ClientPayloadError) and not str(error).endswith(_UNQUOTING):
        description = f"the answer cannot be read to its end ({name})"
    return TransportFailure(FailureKind.CUT, url, description, name)
