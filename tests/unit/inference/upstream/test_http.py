import asyncio
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from safescale.core.errors import BackendError, BackendTimeoutError, BackendUnavailableError, GarbageAnswerError
from safescale.inference.upstream.http import HttpClient, HttpOptions, SseParser
from safescale.inference.upstream.replica_set import NOT_SENT

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class RawServer:
    """Answers each request with given bytes, then closes or keeps the connection; keeps what it was sent."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.close = True
        self.hang = False
        self.requests: list[bytes] = []
        self.connections = 0

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader, writer) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
                self.requests.append(head + body)
                for part in self.parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                if self.hang:
                    await asyncio.sleep(60)
                if self.close:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest.fixture
async def server():
    made = RawServer()
    await made.start()
    yield made
    made.server.close()


@pytest.fixture
async def client():
    made = HttpClient(HttpOptions(connections=4, max_bytes=1000))
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
    client = HttpClient(HttpOptions(1, api_key_file=tmp_path / "key"))
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
    other = HttpClient(HttpOptions(connections=4, max_bytes=1000))
    with pytest.raises(error):
        await events_of(other, server.url)
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
        with pytest.raises(BackendError) as caught:
            await asked
        assert "Jane" not in caught.value.message
        assert "pneumonia" not in caught.value.message


async def test_a_refused_connection_was_never_sent(server, client) -> None:
    server.server.close()
    await server.server.wait_closed()
    with pytest.raises(BackendUnavailableError, match=r"127\.0\.0\.1") as caught:
        await client.post_json(server.url, {}, 5.0)
    assert caught.value.details == NOT_SENT


@pytest.mark.parametrize("parts", [[], [OK + b"Content-Length: 9\r\n\r\nhalf"], [OK + b"\r\ndata: 1\n\n"]])
async def test_an_answer_that_does_not_end_in_time_is_late(server, client, parts) -> None:
    server.parts, server.hang = parts, True
    with pytest.raises(BackendTimeoutError, match=r"within 0.1 s"):
        await client.post_json(server.url, {}, 0.1)

    async def read() -> None:
        async with client.stream(server.url, {}, 0.1) as stream:
            async for _ in stream.events():
                pass

    with pytest.raises(BackendTimeoutError):
        await read()


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

    with pytest.raises(BackendUnavailableError):
        await read()
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
        client = HttpClient(options)
        if options.api_key_file and content:
            assert client.unavailable_reason() == ""
            continue
        assert str(path) in client.unavailable_reason()
        with pytest.raises(BackendUnavailableError, match=str(path)):
            await client.post_json("http://127.0.0.1:1", {}, 1.0)
        await client.close()


LINES = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.binary(max_size=6).filter(lambda b: b"\n" not in b and b"\r" not in b)),
        st.tuples(st.sampled_from(["comment", "event", "end"]), st.just(b"")),
    ),
    max_size=20,
)


@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data())
def test_events_are_the_same_however_the_bytes_are_cut(lines, line_end, data) -> None:
    raw, expected, open_lines = b"", [], []
    for kind, value in [*lines, ("end", b"")]:
        raw += {"data": b"data: " + value, "comment": b": hello", "event": b"event: x", "end": b""}[kind] + line_end
        if kind == "data":
            open_lines.append(value)
        elif kind == "end" and open_lines:
            expected.append(b"\n".join(open_lines))
            open_lines = []
    parser = SseParser()
    found: list[bytes] = []
    position = 0
    while position < len(raw):
        size = data.draw(st.integers(1, len(raw) - position))
        found += parser.feed(raw[position : position + size])
        position += size
    assert found + parser.end() == expected


@given(st.lists(st.binary(max_size=30)))
def test_random_bytes_are_no_failure(chunks) -> None:
    parser = SseParser()
    for chunk in chunks:
        parser.feed(chunk)
    parser.end()


async def test_a_line_without_an_end_is_not_kept_for_ever(server, monkeypatch) -> None:
    monkeypatch.setattr("safescale.inference.upstream.http.MAX_LINE_BYTES", 1000)
    client = HttpClient(HttpOptions(1))
    server.parts = [OK + b"\r\n", *([b"data: " + b"x" * 600] * 3)]
    with pytest.raises(GarbageAnswerError, match="1,000 bytes"):
        await events_of(client, server.url)
    await client.close()


def test_data_without_a_blank_and_without_a_colon() -> None:
    assert SseParser().feed(b"data:1\n\ndata\n\ndata:  2\n\n") == [b"1", b"", b" 2"]
