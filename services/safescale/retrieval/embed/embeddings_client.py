"""HTTP to an embeddings server: lost and refused calls are retried within a budget, failures become our errors."""

import asyncio
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from safescale.core.errors import (
    BackendError,
    BackendRefusedError,
    BackendTimeoutError,
    DependencyUnavailableError,
    GarbageAnswerError,
    InvalidInputError,
    SafescaleError,
)
from safescale.runtime.http.client import HttpClient, HttpOptions
from safescale.runtime.http.failures import FailureKind, TransportFailure
from safescale.runtime.http.retry_after import retry_after
from safescale.runtime.log import get_logger
from safescale.runtime.settings import Settings, read_secret

AWAY_STATUS = frozenset({408, 429, 502, 503, 504})
"""The server, or the proxy before it, has no time now: tried again until the budget is used up."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
SAID_CHARACTERS = 200
CONNECT_S = 5.0
CONNECTIONS = 100
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds for all attempts of a call, seconds of one exchange, attempts at a call that the server fails (5xx)."""

    budget_s: float = 20.0
    exchange_s: float = 120.0
    failures: int = 3


class _AwayError(Exception):
    """The server cannot be reached or is overloaded; `pause_s` is the wait that it asked for."""

    def __init__(self, words: str, pause_s: float = 0.0) -> None:
        super().__init__(words)
        self.pause_s = pause_s


class _FailedError(Exception):
    """The server reports that it failed; `body` is its answer."""

    def __init__(self, words: str, body: bytes) -> None:
        super().__init__(words)
        self.body = body


class EmbeddingsClient:
    """Calls to one server. Connections are kept for the next call."""

    def __init__(self, settings: Settings, retries: RetryPolicy) -> None:
        """Take up the settings `embeddings*`.

        Raises:
            InvalidInputError: the URL, the bearer token's file or the CA's file cannot be used.

        """
        self._root = _root(settings.embeddings)
        _check_ca_file(settings.embeddings_ca_file, self._root)
        # Read now, so that a file that cannot be used is found at the start.
        read_secret(settings.embeddings_api_key_file)
        options = HttpOptions(
            CONNECTIONS,
            settings.embeddings_api_key_file,
            settings.embeddings_ca_file,
            MAX_ANSWER_BYTES,
            CONNECT_S,
        )
        self._http = HttpClient(options, self._error)
        self._retries = retries
        self._log = get_logger("retrieval")

    async def get(self, path: str) -> Any:
        """Get the JSON at a path; None where the server does not know the path or gives no JSON.

        Raises:
            BackendError: the server refuses our token, or fails.
            DependencyUnavailableError: the server cannot be reached now.

        """
        status, body = await self._call(path, None)
        if status in (401, 403):
            raise _refused(status, body, ())
        try:
            return orjson.loads(body) if status == 200 else None
        except orjson.JSONDecodeError:
            return None

    async def post(self, path: str, body: Mapping[str, Any], texts: Sequence[str]) -> Any:
        """Post to a path and return the JSON of its answer. `texts` are what no message may repeat.

        Raises:
            BackendError: the server refuses, fails, or answers no JSON.
            DependencyUnavailableError: the server cannot be reached now.

        """
        status, answer = await self._call(path, orjson.dumps(body), texts)
        if status != 200:
            raise _refused(status, answer, texts)
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise GarbageAnswerError("the embeddings server answered garbage: expected JSON") from error

    async def _call(self, path: str, body: bytes | None, texts: Sequence[str] = ()) -> tuple[int, bytes]:
        """Return the status (no 5xx) and body of an answer."""
        end = time.monotonic() + self._retries.budget_s
        tries = failures = 0
        while True:
            tries += 1
            try:
                return await self._exchange(path, body)
            except _AwayError as error:
                cause: Exception = error
                over: SafescaleError = DependencyUnavailableError(
                    f"the embeddings server {self._root} cannot be used now ({tries} tries): {error}"
                )
                asked = error.pause_s
            except _FailedError as error:
                failures += 1
                message = _server_message(error.body, texts)
                words = f"the embeddings server failed ({tries} tries): {error}{message and f', {message}'}"
                cause, over, asked = error, BackendError(words), 0.0
                if failures >= self._retries.failures:
                    raise over from error
            pause = max(asked, random.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries, 10)))
            if time.monotonic() + pause > end:
                raise over from cause
            if tries == 1:
                self._log.warning("embeddings are asked for again", method=path, reason=type(cause).__name__)
            await asyncio.sleep(pause)

    async def _exchange(self, path: str, body: bytes | None) -> tuple[int, bytes]:
        url, timeout_s = self._root + path, self._retries.exchange_s
        if body is None:
            answer = await self._http.get(url, timeout_s)
        else:
            answer = await self._http.post_json(url, body, timeout_s)
        if answer.status in AWAY_STATUS:
            raise _AwayError(f"status {answer.status}", retry_after(answer.headers) or 0.0)
        if answer.status >= 500 or answer.status == 424:  # 424: what TEI says of a failed inference
            raise _FailedError(f"status {answer.status}", answer.body)
        return answer.status, answer.body

    def _error(self, failure: TransportFailure) -> Exception:
        match failure.kind:
            case FailureKind.FILES:
                return InvalidInputError(failure.description)
            case FailureKind.CONNECT_TIMEOUT:
                return _AwayError("no connection in time")
            case FailureKind.NOT_CONNECTED:
                return _AwayError(f"no connection: {failure.cause}")
            case FailureKind.CERTIFICATE:
                return BackendError(
                    f"the certificate of the embeddings server {self._root} is not trusted; expected its CA in the file"
                    " that SAFESCALE_EMBEDDINGS_CA_FILE names"
                )
            case FailureKind.TIMEOUT:
                return BackendTimeoutError(f"the embeddings server did not answer within {failure.limit:g} s")
            case FailureKind.NOT_HTTP:
                return GarbageAnswerError("the embeddings server answered garbage: expected HTTP")
            case FailureKind.TOO_LARGE:
                return GarbageAnswerError(f"the embeddings server answered more than {int(failure.limit):,} bytes")
            case FailureKind.CUT:
                return _AwayError(f"the connection broke ({failure.cause})")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def _root(setting: str) -> str:
    """Return the URL of the server without the protocol's path, which is added to each call."""
    url = setting.strip().rstrip("/").removesuffix("/v1")
    try:
        split = urlsplit(url)
        usable = split.scheme in ("http", "https") and split.hostname and not split.username and split.port != 0
    except ValueError:
        usable = False
    if not usable or split.query or split.fragment:
        raise InvalidInputError(f"SAFESCALE_EMBEDDINGS is {setting!r}; expected http(s)://host:port")
    return url


def _check_ca_file(path: Path | None, root: str) -> None:
    if path is None:
        return
    if not root.startswith("https"):
        raise InvalidInputError(
            f"SAFESCALE_EMBEDDINGS_CA_FILE is {path}, but SAFESCALE_EMBEDDINGS is not https; expected both"
        )
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(
            f"SAFESCALE_EMBEDDINGS_CA_FILE is {path}; expected a readable file of PEM certificates"
        ) from error


def _refused(status: int, body: bytes, texts: Sequence[str]) -> BackendRefusedError:
    hint = {
        401: "; expected a valid token in the file that SAFESCALE_EMBEDDINGS_API_KEY_FILE names",
        403: "; expected a token with the right to ask in the file that SAFESCALE_EMBEDDINGS_API_KEY_FILE names",
        404: "; expected SAFESCALE_EMBEDDINGS to name a server of /v1/embeddings, and"
        " SAFESCALE_EMBEDDINGS_MODEL a model that it has",
        413: "; expected texts that it can read: is SAFESCALE_EMBEDDINGS_TOKENIZER_FILE that of the model?",
    }.get(status, "")
    message = _server_message(body, texts)
    return BackendRefusedError(f"the embeddings server refused with status {status}{message and f', {message}'}{hint}")


def _server_message(body: bytes, texts: Sequence[str]) -> str:
    """Return the message of a refusal, unless it repeats the request: that may be a patient's."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    found = answer.get("error", answer) if isinstance(answer, Mapping) else ""
    message = found.get("message", "") if isinstance(found, Mapping) else found
    if not isinstance(message, str) or any(text[:16] in message for text in texts if text.strip()):
        return ""
    return " ".join(message.split())[:SAID_CHARACTERS]
