"""What servers and proxies do that the protocol does not foresee: told by its content, narrowing what is asked."""

import asyncio
import json
import time

import pytest
from aiohttp import web
from tests.support.fakes.scripted_server import USAGE, events, streamed, whole
from tests.unit.inference.backends.openai.served_texts import DRAWN, GREEDY, call, chunk, refusal, served, text

from safescale.core.errors import (
    BackendError,
    BackendRefusedError,
    BackendUnavailableError,
    FailedPreconditionError,
    GarbageAnswerError,
)

# What a look finds may narrow what is asked, and excludes no server.


def _hot(body: dict) -> web.Response:
    if body["temperature"] > 1:
        return refusal(400, "temperature: must be at most 1", "temperature")
    return web.json_response(whole(body, [f"text {time.monotonic_ns()} {index}" for index in range(body.get("n", 1))]))


def _several(status: int):
    def probed(body: dict) -> web.Response:
        if body.get("n", 1) > 1:
            return web.Response(status=status, text="<html>no</html>", content_type="text/html")
        return web.json_response(whole(body, [f"text {body['seed']}"]))

    return probed


def _odd(body: dict) -> web.Response:
    if body.get("n", 1) > 1:
        return web.json_response({"choices": [{"text": "?"}] * 4, "usage": USAGE})
    return web.json_response(whole(body, [f"text {body['seed']}"]))


def _unnumbered(body: dict) -> web.Response:
    document = whole(body, [f"text {body['seed']} {index}" for index in range(body.get("n", 1))])
    document["choices"] = [
        {key: value for key, value in choice.items() if key != "index"} for choice in document["choices"]
    ]
    return web.json_response(document)


def _hidden(body: dict) -> web.Response:
    return web.json_response(whole(body, [None] * body.get("n", 1)))


PROBES = {
    "hot": _hot, "400": _several(400), "500": _several(500), "503": _several(503), "odd": _odd,
    "unnumbered": _unnumbered, "hidden": _hidden, "all refused": lambda _: refusal(422, "no"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBES)
async def test_a_probe_that_fails_excludes_no_server(name, monkeypatch) -> None:
    monkeypatch.setattr("safescale.inference.backends.openai.probe.PAUSE_S", 0.01)
    async with served() as (server, backend):
        server.probed = PROBES[name]
        greedy, drawn = (await backend.generate(call(), [GREEDY, DRAWN])).items
        assert greedy.outputs[0].text == "B"
        assert len(drawn.outputs) == 20
        calls = [body for body in server.asked if body["temperature"]]
        assert len(calls) == (1 if name == "hot" else 20)
        assert drawn.prompt_calls == len(calls)


@pytest.mark.parametrize("path", ["/v1/models", "/info"])
@pytest.mark.parametrize("told", [401, 403, 400, 500, 302, "<html>log in</html>", {"data": None}, [3]])
async def test_a_path_that_is_hidden_excludes_no_server(path, told) -> None:
    async with served() as (server, backend):
        server.told[path] = told
        assert await text(backend) == "B"
        assert backend.capabilities.fingerprint.startswith("other")


async def test_a_key_that_is_wrong_everywhere_is_told_at_the_first_look() -> None:
    async with served() as (server, backend):
        server.told["/v1/models"] = 401
        server.answer = lambda _: refusal(401, "bad key")
        with pytest.raises(BackendRefusedError, match=r"another API key.*flavour: tgi"):
            await backend.revision()
        assert server.asked == [{}]


async def test_a_look_at_a_server_asks_for_no_text() -> None:
    def no(body: dict) -> web.Response:
        raise AssertionError(body)

    for flavour in ("auto", "vllm", "sglang"):
        async with served(flavour=flavour) as (server, backend):
            server.probed = server.answer = no
            told = (await backend.revision(), backend.capabilities.fingerprint)
            # Nor does greedy need to know what n does; and who the server is does not depend on it.
            server.answer = server.good
            assert await text(backend) == "B"
            server.probed = None
            await backend.generate(call(), [GREEDY, DRAWN])
            assert (await backend.revision(), backend.capabilities.fingerprint) == told


async def test_a_refusal_of_a_server_that_hides_who_it_is_says_what_may_help() -> None:
    async with served() as (server, backend):
        server.told["/info"] = 403
        server.answer = lambda _: refusal(422, "Input validation error: `top_p` must be > 0.0 and < 1.0")
        with pytest.raises(BackendRefusedError, match="flavour: tgi"):
            await text(backend)
    async with served() as (server, backend):
        server.told["/v1/models"] = {"data": [{"id": "org/x", "created": 0, "owned_by": "org/x"}]}
        with pytest.raises(FailedPreconditionError, match=r"serves org/x.*flavour: tgi"):
            await backend.revision()


async def test_tgi_behind_a_proxy_is_asked_as_itself_by_the_name_that_it_lists() -> None:
    async with served(served_model="org/x", flavour="tgi") as (server, backend):
        server.told = {"/info": 403, "/v1/models": {"data": [{"id": "org/x", "created": 0, "owned_by": "org/x"}]}}
        server.answer = lambda body: streamed(body, model="org/x")
        assert await text(backend) == "B"
        # Any other name is that of an adapter.
        assert [body["model"] for body in server.asked] == ["tgi"]


# Limits of n fall back.


@pytest.mark.parametrize(
    ("way", "sizes"), [("told", [8, 8, 4]), ("untold", [4] * 5), ("none", [1] * 20), ("fewer", [8, 8, 4])]
)
async def test_a_server_that_gives_fewer_texts_at_once_is_asked_for_fewer(way, sizes) -> None:
    cap = {"told": 8, "untold": 7, "none": 1, "fewer": 8}[way]

    async with served() as (server, backend):

        def answer(body: dict) -> web.Response:
            count = body.get("n", 1)
            if count > cap and way == "fewer":
                return web.json_response(whole(body, [f"seed {body['seed'] + index}" for index in range(cap)]))
            if count > cap:
                sentence = f"n must be at most {cap}" if way == "told" else "bad request"
                return refusal(400, sentence, "n" if way == "told" else "")
            return web.json_response(whole(body, [f"seed {body['seed'] + index}" for index in range(count)]))

        server.answer = answer
        for _ in range(2):
            (drawn,) = (await backend.generate(call(), [DRAWN])).items
            # Each sample has the seed that it would have had alone.
            assert [output.text for output in drawn.outputs] == [f"seed {5 + index}" for index in range(20)]
            assert drawn.prompt_calls == len(sizes)
        # It is found out once.
        assert sorted(body.get("n", 1) for body in server.asked[-len(sizes) :]) == sorted(sizes)


async def test_a_call_that_is_refused_whatever_its_number_stays_refused() -> None:
    async with served() as (server, backend):
        server.answer = lambda _: refusal(400, "no such thing")
        with pytest.raises(BackendRefusedError):
            await backend.generate(call(), [DRAWN])
        server.answer = server.good
        server.asked.clear()
        await backend.generate(call(), [DRAWN])
        assert [body["n"] for body in server.asked] == [20]


# 200 that is no stream.


async def test_a_whole_answer_where_a_stream_was_asked_is_used() -> None:
    async with served() as (server, backend):
        server.answer = lambda body: web.json_response(whole(body))
        (greedy,) = (await backend.generate(call(), [GREEDY])).items
        assert (greedy.outputs[0].text, greedy.time_to_first_token_s) == ("B", None)
        *pieces, last = [event async for event in backend.stream(call(), GREEDY)]
        assert (pieces, last.outputs[0].text) == (["B"], "B")


@pytest.mark.parametrize(
    ("body", "ctype", "error", "told"),
    [
        ('{"error": {"message": "CUDA out of memory", "code": 500}}', "application/json", BackendError, "500"),
        ('{"error": {"message": "CUDA out of memory", "code": 500}}', "text/event-stream", BackendError, "500"),
        (' \n{"error": {"message": "slow", "code": 503}}', "application/json", BackendUnavailableError, "503"),
        ('{"error": {"message": "no", "code": 400, "param": "seed"}}', "text/plain", BackendRefusedError, "field seed"),
        ("<html><body>Jane Doe</body></html>", "text/html", GarbageAnswerError, "a page"),
        ("\ufeff<!doctype html>Jane Doe", "text/event-stream", GarbageAnswerError, "a page"),
        ('{"detail": "Jane Doe"}', "application/json", GarbageAnswerError, "not an answer"),
    ],
)
async def test_what_is_no_stream_is_told_by_its_content(body, ctype, error, told) -> None:
    async with served() as (server, backend):
        server.answer = lambda _: web.Response(text=body, content_type=ctype)
        for asked in (backend.generate(call(), [GREEDY]), anext(backend.stream(call(), GREEDY))):
            with pytest.raises(error, match=told) as caught:
                await asked
            assert type(caught.value) is error
            assert "Jane" not in caught.value.message


@pytest.mark.parametrize("way", ["refused", "located", "untold"])
async def test_a_server_that_does_not_stream_with_usage_is_asked_for_the_whole(way) -> None:
    async with served() as (server, backend):

        def answer(body: dict) -> web.Response:
            if "stream" not in body:
                return web.json_response(whole(body))
            if way == "refused":
                return refusal(400, "unknown field", "stream_options")
            if way == "located":
                return web.json_response({"detail": [{"loc": ["body", "stream_options"], "msg": "extra"}]}, status=400)
            return streamed(body, usage=None)

        server.answer = answer
        assert [await text(backend), await text(backend)] == ["B", "B"]
        assert [("stream" in body) for body in server.asked] == [True, False, False]


STREAMS = {
    "usage without choices": [chunk({"content": "B"}), chunk({}, "stop"), {"usage": USAGE}],
    "choices null": [chunk({"content": "B"}), chunk({}, "stop"), {"choices": None, "usage": USAGE}],
    "delta null": [chunk({"content": "B"}), chunk(None, "stop"), {"choices": [], "usage": USAGE}],
    "finish empty": [chunk({"content": ""}, ""), chunk({"content": "B"}, ""), chunk({}, "stop", usage=USAGE)],
    "usage of floats": [chunk({"content": "B"}, "stop", usage={key: float(value) for key, value in USAGE.items()})],
    "parts": [chunk({"content": [{"type": "text", "text": "B"}]}, "stop", usage=USAGE)],
    "comments as data": [": keep alive", "", chunk({"content": "B"}, "stop", usage=USAGE)],
    "filters first": [{"choices": [], "prompt_filter_results": []}, chunk({"content": "B"}, "stop", usage=USAGE)],
    "error null": [chunk({"content": "B"}, "stop", usage=USAGE, error=None)],
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("end", [True, False])
async def test_streams_are_read_as_they_come(name, end) -> None:
    async with served() as (server, backend):
        server.answer = lambda _: events(*STREAMS[name], end=end)
        assert await text(backend) == "B"


async def test_an_error_beside_choices_is_an_error() -> None:
    async with served() as (server, backend):
        server.answer = lambda _: events(chunk({"content": "B"}, "stop", usage=USAGE, error={"code": 400}))
        with pytest.raises(BackendRefusedError):
            await text(backend)
        server.answer = lambda body: web.json_response(whole(body, error={"code": 400}))
        with pytest.raises(BackendRefusedError):
            await text(backend)


async def test_the_first_token_is_the_first_text() -> None:
    async with served() as (server, backend):

        async def late(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"data: " + json.dumps(chunk({"content": ""}, "")).encode() + b"\n\n")
            await asyncio.sleep(0.2)
            for event in (chunk({"content": "B"}), chunk({}, "stop", usage=USAGE)):
                await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            return response

        server.slowly = late
        (greedy,) = (await backend.generate(call(), [GREEDY])).items
        assert greedy.time_to_first_token_s is not None
        assert greedy.time_to_first_token_s >= 0.2
