import json

import pytest
from tests.support.fakes.raw_server import OK, RawServer

from safescale.runtime.http.client import HttpClient, HttpOptions
from safescale.runtime.http.failures import FailureKind, TransportFailure


class FailedError(Exception):
    """What the client of these tests raises."""

    def __init__(self, failure: TransportFailure) -> None:
        super().__init__(failure.description)
        self.failure = failure


@pytest.fixture
async def server():
    made = RawServer()
    await made.start()
    yield made
    made.server.close()


@pytest.fixture
async def client():
    made = HttpClient(HttpOptions(connections=4, max_bytes=1000), FailedError)
    yield made
    await made.close()


async def events_of(client: HttpClient, url: str) -> list[bytes]:
    async with client.stream(url, {}, 5.0) as stream:
        return [event async for event in stream.events()]


async def test_an_answer_comes_with_its_status_headers_and_seconds(server, client) -> None:
    server.parts = [b"HTTP/1.1 429 Busy\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}"]
    answer = await client.post_json(f"{server.url}/generate", {"inputs": "é"}, 5.0)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (429, "3", b"{}")
    assert 0 < answer.elapsed_s < 5
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /generate HTTP/1.1")
    assert json.loads(body) == {"inputs": "é"}
    assert b"Accept-Encoding: identity" in head
    assert b"Authorization" not in head


async def test_connections_are_kept(server, client) -> None:
    server.parts, server.close = [OK + b"Content-Length: 2\r\n\r\n{}"], False
    for _ in range(3):
        assert (await client.post_json(server.url, b"{}", 5.0)).status == 200
    assert (await client.get(server.url, 5.0)).body == b"{}"
    assert (server.connections, len(server.requests)) == (1, 4)


async def test_the_token_is_sent_and_a_redirect_is_not_followed(server, tmp_path) -> None:
    (tmp_path / "key").write_text("secret\n")
    client = HttpClient(HttpOptions(1, api_key_file=tmp_path / "key"), FailedError)
    server.parts = [b"HTTP/1.1 307 Away\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"]
    assert (await client.post_json(server.url, {}, 5.0)).status == 307
    await client.close()
    assert len(server.requests) == 1
    assert b"Authorization: Bearer secret\r\n" in server.requests[0]


async def test_no_proxy_of_the_environment_is_used(server, client, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.parts = [OK + b"Content-Length: 2\r\n\r\n{}"]
    assert (await client.post_json(server.url, {}, 5.0)).status == 200


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([], FailureKind.CUT),
        ([OK + b"Content-Length: 10\r\n\r\nhalf"], FailureKind.CUT),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"], FailureKind.CUT),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], FailureKind.CUT),
        ([b"SSH-2.0-OpenSSH_9.9\r\n\r\n"], FailureKind.NOT_HTTP),
        ([OK + b"Content-Length: 2000\r\n\r\n" + b"x" * 2000], FailureKind.TOO_LARGE),
        ([OK + b"\r\n", *([b"x" * 300] * 5)], FailureKind.TOO_LARGE),
    ],
)
async def test_an_exchange_without_a_complete_answer_is_a_failure_of_its_kind(server, client, parts, kind) -> None:
    server.parts = parts
    with pytest.raises(FailedError) as caught:
        await client.post_json(server.url, {}, 5.0)
    assert (caught.value.failure.kind, caught.value.failure.sent) == (kind, True)
    # On a connection of its own: the server closes the first one.
    other = HttpClient(HttpOptions(connections=4, max_bytes=1000), FailedError)
    with pytest.raises(FailedError) as caught:
        await events_of(other, server.url)
    assert (caught.value.failure.kind, caught.value.failure.sent) == (kind, True)
    await other.close()


@pytest.mark.parametrize(
    "parts",
    [
        [b"HTTP/1.1 Jane Doe has pneumonia\r\n\r\n"],
        [b"Jane Doe has pneumonia\r\n\r\n"],
        [OK + b"Jane Doe has pneumonia\r\n\r\n"],
        [OK + b"Content-Length: Jane Doe\r\n\r\n"],
        [OK + b"Transfer-Encoding: chunked\r\n\r\nJane Doe\r\n"],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nJane Doe has pneumonia\r\n"],
        [OK + b"Content-Length: 50\r\n\r\nJane Doe has pneumonia"],
    ],
)
async def test_no_message_quotes_what_came(server, client, parts) -> None:
    server.parts = parts
    for asked in (client.post_json(server.url, {}, 5.0), events_of(client, server.url)):
        with pytest.raises(FailedError) as caught:
            await asked
        assert "Jane" not in repr(caught.value.failure)
        assert "pneumonia" not in repr(caught.value.failure)


async def test_a_refused_connection_was_never_sent(server, client) -> None:
    server.server.close()
    await server.server.wait_closed()
    with pytest.raises(FailedError, match=r"127\.0\.0\.1") as caught:
        await client.post_json(server.url, {}, 5.0)
    failure = caught.value.failure
    assert (failure.kind, failure.url, failure.sent) == (FailureKind.NOT_CONNECTED, server.url, False)


@pytest.mark.parametrize("parts", [[], [OK + b"Content-Length: 9\r\n\r\nhalf"], [OK + b"\r\ndata: 1\n\n"]])
async def test_an_answer_that_does_not_end_in_time_is_late(server, client, parts) -> None:
    server.parts, server.hang = parts, True
    with pytest.raises(FailedError) as caught:
        await client.post_json(server.url, {}, 0.1)
    assert (caught.value.failure.kind, caught.value.failure.limit) == (FailureKind.TIMEOUT, 0.1)

    async def read() -> None:
        async with client.stream(server.url, {}, 0.1) as stream:
            async for _ in stream.events():
                pass

    with pytest.raises(FailedError) as caught:
        await read()
    assert caught.value.failure.kind is FailureKind.TIMEOUT


async def test_a_stream_gives_events_as_they_come(server, client) -> None:
    chunks = [b"data: 1\r\n\r\n: keep-alive\r\n\r\nda", b"ta: 2\r\ndata: 3\r\nevent: x\r\n\r\n", b"data: [DONE]\n"]
    server.parts = [OK + b"Transfer-Encoding: chunked\r\n\r\n"]
    server.parts += [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks] + [b"0\r\n\r\n"]
    assert await events_of(client, server.url) == [b"1", b"2\n3", b"[DONE]"]


async def test_a_stream_that_is_cut_tells_its_events_first(server, client) -> None:
    server.parts = [OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"]
    seen: list[bytes] = []

    async def read() -> None:
        async with client.stream(server.url, {}, 5.0) as stream:
            events = stream.events()
            seen.append(await anext(events))
            await anext(events)

    with pytest.raises(FailedError) as caught:
        await read()
    assert caught.value.failure.kind is FailureKind.CUT
    assert seen == [b"1"]


async def test_an_error_in_place_of_a_stream_is_read_whole(server, client) -> None:
    server.parts = [b"HTTP/1.1 422 No\r\nContent-Length: 4\r\n\r\nwhy?"]
    async with client.stream(server.url, {}, 5.0) as stream:
        assert (stream.status, await stream.body(), stream.headers["Content-Length"]) == (422, b"why?", "4")


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
async def test_a_file_that_cannot_be_used_is_told_before_any_call(tmp_path, content) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    for options in (HttpOptions(1, ca_file=path), HttpOptions(1, api_key_file=path)):
        client = HttpClient(options, FailedError)
        if options.api_key_file and content:
            assert client.unavailable_reason() == ""
            continue
        assert str(path) in client.unavailable_reason()
        with pytest.raises(FailedError, match=str(path)) as caught:
            await client.post_json("http://127.0.0.1:1", {}, 1.0)
        assert caught.value.failure.kind is FailureKind.FILES
        await client.close()


async def test_a_line_without_an_end_is_not_kept_for_ever(server, monkeypatch) -> None:
    monkeypatch.setattr("safescale.runtime.http.client.MAX_LINE_BYTES", 1000)
    client = HttpClient(HttpOptions(1), FailedError)
    server.parts = [OK + b"\r\n", *([b"data: " + b"x" * 600] * 3)]
    with pytest.raises(FailedError) as caught:
        await events_of(client, server.url)
    assert (caught.value.failure.kind, caught.value.failure.limit) == (FailureKind.TOO_LARGE, 1000)
    await client.close()
