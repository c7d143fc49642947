"""The connection to Elasticsearch: built from the settings, tried again while refused, its errors in our tree."""

import asyncio
import contextlib
import logging
import random
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from elastic_transport import OrjsonSerializer
from elasticsearch import ApiError, AsyncElasticsearch, TransportError
from elasticsearch import ConnectionError as ElasticConnectionError
from elasticsearch.exceptions import ConnectionTimeout, SerializationError

from safescale.core.errors import InvalidInputError, SafescaleError, StorageError, StorageUnavailableError
from safescale.runtime.log import get_logger
from safescale.runtime.settings import Settings, read_secret
from safescale.runtime.telemetry import Telemetry

BUDGET_S = 30.0
"""A refused call is made again for this many seconds; the last try is still awaited."""

ATTEMPT_S = 20.0
"""Deadline of one exchange in seconds."""

PING_S = 5.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0

RETRIED_STATUS = frozenset({408, 429, 502, 503, 504})
BLOCKED = "cluster_block_exception"
"""Type of the error of an index that is not written for now: while it is copied, or its disk is full."""

APPLY_HINT = "`safescale indices apply` creates what is missing"

REPEATED = re.compile(r",? request: \[|\.? Preview of field's value")
LONGEST_REASON = 500

T = TypeVar("T")


class TryAgainError(Exception):
    """Raised within a call whose answer says that part of it was refused for now: `perform` waits and calls again."""


def can_pass(status: int, error: Mapping[str, Any]) -> bool:
    """Whether a refusal, of a call or of one item of it, can be over soon."""
    return status in RETRIED_STATUS or error.get("type") == BLOCKED


def reason_of(error: Mapping[str, Any]) -> str:
    """Words of an error without what was sent: Elasticsearch repeats a request or a value within some of them."""
    return REPEATED.split(str(error.get("reason") or ""), maxsplit=1)[0][:LONGEST_REASON]


def hint_of(error: Mapping[str, Any], status: int = 0) -> str:
    """Return advice on an error of a call or of one of its items, to be appended to its text; empty when unknown."""
    if status == 401:
        return "; expected a valid key in the file that SAFESCALE_ELASTICSEARCH_API_KEY_FILE names"
    if status == 403 or error.get("type") == "security_exception":
        return "; expected an API key with the privileges that docs/storage.md lists"
    return f"; {APPLY_HINT}" if error.get("type") == "index_not_found_exception" else ""


def pause_s(tries: int) -> float:
    """Seconds to wait after that many refused tries, with full jitter so that callers do not come back together."""
    return random.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 10))


class ElasticConnection:
    """Calls to Elasticsearch. One that is refused for now, or finds no server, is made again within a budget."""

    def __init__(self, settings: Settings, telemetry: Telemetry, budget_s: float = BUDGET_S) -> None:
        """Make the client without connecting. `budget_s` is the time for tries in seconds.

        Raises:
            InvalidInputError: a URL, the API key's file or the CA's file cannot be used.

        """
        self._client = AsyncElasticsearch(
            _urls(settings.elasticsearch),
            api_key=read_secret(settings.elasticsearch_api_key_file) or None,
            serializer=OrjsonSerializer(),
            request_timeout=ATTEMPT_S,
            # Tries are ours to count: the client's own would multiply them.
            max_retries=0,
            retry_on_timeout=False,
            **_tls(settings),
        )
        # It writes a line of its own for each failed exchange; ours is the useful one.
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)
        self._telemetry = telemetry
        self.budget_s = budget_s
        self._log = get_logger("storage")
        self._known = False

    async def perform(
        self,
        operation: str,
        call: Callable[[AsyncElasticsearch], Awaitable[T]],
        budget_s: float | None = None,
    ) -> T:
        """Make a call and return what it returns. A call can be made several times, so it must bear repetition.

        Statuses that the caller wants to see are excepted with `client.options(ignore_status=...)` within the call.

        Raises:
            StorageUnavailableError: refused or unanswered until the budget was used up; or the API key is not known.
            StorageError: anything else that Elasticsearch answers with an error.

        """
        end = time.monotonic() + (self.budget_s if budget_s is None else budget_s)
        tries = 0
        while True:
            begin = time.perf_counter()
            outcome = "ok"
            try:
                result = await call(self._client)
                self._known = True
                return result
            except TryAgainError as error:
                outcome, refusal, cause = "refused", str(error), error.__cause__
            except (ApiError, TransportError) as error:
                outcome = _outcome(error)
                if not self._passes(error):
                    raise _tree_error(operation, error) from error
                hint = hint_of({}, 401) if outcome == "status_401" else ""
                refusal, cause = _words(error) + hint, error
            except asyncio.CancelledError:
                outcome = "cancelled"
                raise
            except SafescaleError as error:
                outcome = error.reason
                raise
            finally:
                labels = {"operation": operation, "outcome": outcome}
                self._telemetry.observe("safescale_storage_seconds", time.perf_counter() - begin, labels)
            tries += 1
            pause = pause_s(tries)
            if time.monotonic() + pause > end:
                message = f"Elasticsearch could not be used for {operation} ({tries} tries): {refusal}"
                raise StorageUnavailableError(message) from cause
            if tries == 1:
                self._log.warning("storage is tried again", method=operation, reason=outcome)
            await asyncio.sleep(pause)

    def _passes(self, error: ApiError | TransportError) -> bool:
        if isinstance(error, ApiError):
            # A node that starts refuses every key until it has read its own index of keys.
            starting = error.status_code == 401 and self._known
            return starting or can_pass(error.status_code, _error_object(error))
        if isinstance(error, SerializationError):
            return False
        return isinstance(error, (ElasticConnectionError, ConnectionTimeout)) and not _distrusted(error)

    async def refresh(self, index: str) -> None:
        """Make all that was written to an index (or alias) visible to searches.

        Raises:
            StorageUnavailableError: Elasticsearch cannot be reached.
            StorageError: there is no such index, or it fails.

        """

        async def call(client: AsyncElasticsearch) -> None:
            answer = await client.indices.refresh(index=index)
            failed = answer["_shards"].get("failures")
            if failed:
                raise TryAgainError(f"{index} could not be refreshed: {failed[0].get('reason', {}).get('reason', '')}")

        await self.perform("refresh", call)

    async def ping(self) -> None:
        """Return when Elasticsearch answers and knows us, after one try.

        Raises:
            StorageUnavailableError: it does not answer, or does not know the API key.

        """

        async def call(client: AsyncElasticsearch) -> None:
            # 403 is an answer too: a key without `monitor` may not read the cluster's name, and need not.
            await client.options(request_timeout=PING_S, ignore_status=[403]).info()

        await self.perform("ping", call, budget_s=0.0)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _urls(setting: str) -> list[str]:
    urls = [part.strip().rstrip("/") for part in setting.split(",") if part.strip()]
    for url in urls:
        split = urlsplit(url)
        port = None
        with contextlib.suppress(ValueError):
            port = split.port
        if split.scheme not in ("http", "https") or not split.hostname or port is None or split.username:
            raise InvalidInputError(
                f"SAFESCALE_ELASTICSEARCH names {url!r}; expected http(s)://host:port, several with commas between"
            )
    if len({urlsplit(url).scheme for url in urls}) != 1:  # none at all, or both
        raise InvalidInputError(f"SAFESCALE_ELASTICSEARCH is {setting!r}; expected URLs, all http or all https")
    return urls


def _tls(settings: Settings) -> dict[str, Any]:
    ca_file = settings.elasticsearch_ca_file
    if not settings.elasticsearch.strip().startswith("https"):
        if ca_file is not None:
            raise InvalidInputError(
                f"SAFESCALE_ELASTICSEARCH_CA_FILE is {ca_file}, but SAFESCALE_ELASTICSEARCH is not https; expected both"
            )
        return {}
    try:
        # The system's certificates where no file is named, as a hospital's machines are set up.
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(
            f"SAFESCALE_ELASTICSEARCH_CA_FILE is {ca_file}; expected a readable file of PEM certificates"
        ) from error
    return {"ssl_context": context}


def _distrusted(error: TransportError) -> bool:
    # The client keeps the cause's words alone.
    return "CERTIFICATE_VERIFY_FAILED" in str(error.message)


def _outcome(error: ApiError | TransportError) -> str:
    if isinstance(error, ApiError):
        return f"status_{error.status_code}"
    return "timeout" if isinstance(error, ConnectionTimeout) else "unreachable"


def _error_object(error: ApiError) -> Mapping[str, Any]:
    body = error.body
    found = body.get("error") if isinstance(body, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _words(error: ApiError | TransportError) -> str:
    if isinstance(error, ApiError):
        reason = reason_of(_error_object(error)) or error.message
        return f"status {error.status_code}, {reason}"
    if isinstance(error, ConnectionTimeout):
        return "no answer in time"
    return str(error.message)


def _tree_error(operation: str, error: ApiError | TransportError) -> SafescaleError:
    if isinstance(error, ApiError):
        hint = hint_of(_error_object(error), error.status_code)
        message = f"Elasticsearch refused {operation}: {_words(error)}{hint}"
        # A key that it does not know may be wrong, or its node may start: who waits for a store goes on waiting.
        return StorageUnavailableError(message) if error.status_code == 401 else StorageError(message)
    if _distrusted(error):
        return StorageError(
            f"the certificate of Elasticsearch is not trusted: {_words(error)}; expected its CA in the file that"
            " SAFESCALE_ELASTICSEARCH_CA_FILE names"
        )
    return StorageError(f"Elasticsearch gave an unreadable answer to {operation}: {_words(error)}")
