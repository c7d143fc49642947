"""The request log in front of a model server: what passes through, what is written."""

import asyncio
import hashlib
import json

import aiohttp
import orjson
import pytest
from tests.support.fakes.openai_server import FakeOpenAI, FakeOptions

from safescale.core.errors import StorageError
from safescale.inference.backends.llama.model_server import LoggingProxy

BODY = {
    "model": "fake/letters", "messages": [{"role": "user", "content": "Jane Doe"}],
    "max_tokens": 6, "temperature": 0.0,
}  # fmt: skip


async def test_answers_and_streams_pass_as_they_are(tmp_path) -> None:
    log = tmp_path / "log" / "requests.jsonl"
    async with FakeOpenAI() as target, LoggingProxy(target.url, log) as proxy, aiohttp.ClientSession() as session:
        url = await proxy.listen("127.0.0.1", 0)
        for body in (BODY, {**BODY, "stream": True}):
            answers = []
            for base in (target.url, url):
                async with session.post(f"{base}/v1/chat/completions", json=body) as answer:
                    answers.append((answer.status, answer.content_type, await answer.read()))
            assert answers[0] == answers[1]
        assert (await session.get(f"{url}/v1/models")).status == 200
        assert (await session.get(f"{url}/nothing")).status == 404
        assert target.seen[1].headers["Content-Type"] == "application/json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["path"] for line in lines] == ["/v1/chat/completions"] * 2
    sent = json.dumps(BODY).encode()
    assert (lines[0]["bytes"], lines[0]["sha256"]) == (len(sent), hashlib.sha256(sent).hexdigest())
    assert "Jane" not in log.read_text()


async def test_the_log_goes_on_where_it_was(tmp_path) -> None:
    log = tmp_path / "requests.jsonl"
    for number in (1, 2):
        async with (
            FakeOpenAI() as target,
            LoggingProxy(target.url, log) as proxy,
            aiohttp.ClientSession() as session,
        ):
            url = await proxy.listen("127.0.0.1", 0)
            await (await session.post(f"{url}/v1/chat/completions", json=BODY)).read()
        assert len(log.read_text().splitlines()) == number


async def test_a_caller_that_goes_away_ends_the_work_behind(tmp_path) -> None:
    options = FakeOptions(token_s=1.0)
    async with FakeOpenAI(options) as target, LoggingProxy(target.url, tmp_path / "log") as proxy:
        url = await proxy.listen("127.0.0.1", 0)
        async with aiohttp.ClientSession() as session:
            call = asyncio.ensure_future(session.post(f"{url}/v1/chat/completions", json={**BODY, "stream": True}))
            async with asyncio.timeout(10):
                while not target.running:
                    await asyncio.sleep(0.01)
                call.cancel()
        async with asyncio.timeout(10):
            while target.running:
                await asyncio.sleep(0.01)


async def test_a_server_that_is_gone_is_an_error_of_a_proxy(tmp_path) -> None:
    log = tmp_path / "log"
    async with FakeOpenAI() as target, LoggingProxy(target.url, log) as proxy, aiohttp.ClientSession() as session:
        url = await proxy.listen("127.0.0.1", 0)
        await target.stop()
        answer = await session.post(f"{url}/v1/chat/completions", data=orjson.dumps(BODY))
        assert answer.status == 502
        # It was asked for, whatever became of it.
        assert len(log.read_text().splitlines()) == 1


async def test_a_log_that_cannot_be_written_is_told(tmp_path) -> None:
    with pytest.raises(StorageError, match="request log"):
        async with LoggingProxy("http://127.0.0.1:1", tmp_path):
            pass


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_it_listens_on_ipv6_and_tells_a_url(host: str) -> None:
    async with FakeOpenAI() as target, LoggingProxy(target.url) as proxy, aiohttp.ClientSession() as session:
        url = await proxy.listen(host, 0)
        assert url.startswith("http://[::1]:")
        assert (await session.get(f"{url}/v1/models")).status == 200
