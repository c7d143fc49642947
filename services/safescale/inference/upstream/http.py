"""HTTP to model servers: the options of a catalog's endpoint, and failures of the transport as errors of backends."""

from collections.abc import Mapping
from pathlib import Path

from safescale.core.errors import BackendError, BackendTimeoutError, BackendUnavailableError, GarbageAnswerError
from safescale.inference.catalog import HttpEndpoint
from safescale.inference.upstream.replica_set import NOT_SENT
from safescale.runtime.http.client import HttpClient, HttpOptions
from safescale.runtime.http.failures import FailureKind, TransportFailure
from safescale.runtime.http.retry_after import retry_after

SPARE_CONNECTIONS = 8
"""Connections beyond the calls in flight, for exchanges that wait for no lease: health, discovery, tokens."""


def http_options(endpoint: HttpEndpoint) -> HttpOptions:
    """Return the options of a catalog's endpoint."""
    return HttpOptions(
        connections=len(endpoint.urls) * endpoint.concurrency + SPARE_CONNECTIONS,
        api_key_file=Path(endpoint.api_key_file) if endpoint.api_key_file else None,
        ca_file=Path(endpoint.ca_file) if endpoint.ca_file else None,
    )


def model_client(options: HttpOptions) -> HttpClient:
    """Return a client for the replicas of one model, which raises errors of backends."""
    return HttpClient(options, backend_error)


def backend_error(failure: TransportFailure) -> BackendError:
    """Return the error of a backend whose exchange failed."""
    url, limit = failure.url, failure.limit
    match failure.kind:
        case FailureKind.FILES:
            return BackendUnavailableError(failure.description)
        case FailureKind.CONNECT_TIMEOUT:
            return BackendUnavailableError(f"{url}: no connection within {limit:g} s", details=NOT_SENT)
        case FailureKind.TIMEOUT:
            return BackendTimeoutError(f"{url}: no whole answer within {limit:g} s")
        case FailureKind.NOT_HTTP:
            return GarbageAnswerError(f"{url}: the answer is not HTTP ({failure.cause})")
        case FailureKind.TOO_LARGE:
            return GarbageAnswerError(f"the model server's answer is over {int(limit):,} bytes")
        case _:
            details = None if failure.sent else NOT_SENT
            return BackendUnavailableError(f"{url}: {failure.description}", details=details)


def pause_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the seconds of Retry-After as details of an error; empty without them."""
    seconds = retry_after(headers)
    return {} if seconds is None else {"retry_after_s": f"{seconds:g}"}
