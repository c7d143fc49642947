import pytest
from tests.support.fakes.raw_server import OK, RawServer

from safescale.core.errors import BackendError, BackendTimeoutError, BackendUnavailableError, GarbageAnswerError
from safescale.inference.catalog import HttpEndpoint
from safescale.inference.upstream.http import backend_error, http_options, model_client, pause_of
from safescale.inference.upstream.replica_set import NOT_SENT
from safescale.runtime.http.client import HttpOptions
from safescale.runtime.http.failures import FailureKind, TransportFailure

URL = "http://gpu:8000/generate"


@pytest.fixture
async def server():
    made = RawServer()
    await made.start()
    yield made
    made.server.close()


@pytest.fixture
async def client():
    made = model_client(HttpOptions(connections=4, max_bytes=1000))
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([], BackendUnavailableError),
        ([OK + b"Content-Length: 10\r\n\r\nhalf"], BackendUnavailableError),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"], BackendUnavailableError),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], BackendUnavailableError),
        ([b"SSH-2.0-OpenSSH_9.9\r\n\r\n"], GarbageAnswerError),
        ([OK + b"Content-Length: 2000\r\n\r\n" + b"x" * 2000], GarbageAnswerError),
        ([OK + b"\r\n", *([b"x" * 300] * 5)], GarbageAnswerError),
    ],
)
async def test_failures_of_the_transport_are_errors_of_the_tree(server, client, parts, error) -> None:
    server.parts = parts
    with pytest.raises(error) as caught:
        await client.post_json(server.url, {}, 5.0)
    assert caught.value.details == {}
    # On a connection of its own: the server closes the first one.
    other = model_client(HttpOptions(connections=4, max_bytes=1000))
    with pytest.raises(error):
        async with other.stream(server.url, {}, 5.0) as stream:
            await stream.body()
    await other.close()


@pytest.mark.parametrize(
    ("failure", "kind", "message", "details"),
    [
        (TransportFailure(FailureKind.FILES, URL, "no key"), BackendUnavailableError, "no key", {}),
        (
            TransportFailure(FailureKind.CONNECT_TIMEOUT, URL, limit=10.0),
            BackendUnavailableError,
            f"{URL}: no connection within 10 s",
            NOT_SENT,
        ),
        (TransportFailure(FailureKind.NOT_CONNECTED, URL, "no"), BackendUnavailableError, f"{URL}: no", NOT_SENT),
        (TransportFailure(FailureKind.CERTIFICATE, URL, "who"), BackendUnavailableError, f"{URL}: who", NOT_SENT),
        (TransportFailure(FailureKind.CUT, URL, "cut"), BackendUnavailableError, f"{URL}: cut", {}),
        (
            TransportFailure(FailureKind.TIMEOUT, URL, limit=0.5),
            BackendTimeoutError,
            f"{URL}: no whole answer within 0.5 s",
            {},
        ),
        (
            TransportFailure(FailureKind.NOT_HTTP, URL, cause="ClientResponseError"),
            GarbageAnswerError,
            f"{URL}: the answer is not HTTP (ClientResponseError)",
            {},
        ),
        (
            TransportFailure(FailureKind.TOO_LARGE, URL, limit=1000),
            GarbageAnswerError,
            "the model server's answer is over 1,000 bytes",
            {},
        ),
    ],
)
def test_each_failure_has_its_error_and_says_whether_the_server_saw_the_request(
    failure: TransportFailure, kind: type[BackendError], message: str, details: dict[str, str]
) -> None:
    error = backend_error(failure)
    assert (type(error), error.message, error.details) == (kind, message, details)


def test_every_kind_of_failure_is_an_error_of_backends() -> None:
    assert all(isinstance(backend_error(TransportFailure(kind, URL)), BackendError) for kind in FailureKind)


def test_the_options_of_an_endpoint_leave_connections_for_calls_without_a_lease(tmp_path) -> None:
    endpoint = HttpEndpoint(
        urls=("http://a:1", "http://b:1"), concurrency=3, api_key_file=str(tmp_path / "key"), ca_file=None
    )
    options = http_options(endpoint)
    assert options.connections > 2 * 3
    assert (options.api_key_file, options.ca_file) == (tmp_path / "key", None)


@pytest.mark.parametrize(
    ("value", "details"),
    [("7", {"retry_after_s": "7"}), ("1.5", {"retry_after_s": "1.5"}), ("soon", {}), ("-1", {}), ("", {})],
)
def test_retry_after_becomes_details_of_an_error(value: str, details: dict[str, str]) -> None:
    assert pause_of({"Retry-After": value}) == details
    assert pause_of({}) == {}
