"""What servers and proxies do that the protocol does not foresee: told by its content, narrowing what is asked."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from tests.support.fakes.scripted_server import USAGE, ScriptedServer, events, streamed, whole

from safescale.core.errors import (
    AnotherModelError,
    AnswerCutError,
    BackendError,
    BackendRefusedError,
    BackendUnavailableError,
    FailedPreconditionError,
    GarbageAnswerError,
    ModelChangedError,
    PromptCutError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.checks import PROMPT_MAYBE_CUT
from safescale.inference.backends.openai.backend import OpenAIBackend
from safescale.inference.backends.port import Call, Generation, Sampling
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry

GREEDY, DRAWN = Sampling(0.0, 10), Sampling(0.7, 10, 5, 20)
LONG = Messages("", "Which organ lies below the right dome of the diaphragm? " * 11)


def call(messages: Messages | None = None) -> Call:
    return Call(messages or Messages("S", "Which?"), 20.0, time.monotonic() + 60)


@asynccontextmanager
async def served(**endpoint: object):
    """A scripted server and the backend of its model."""
    revision = endpoint.pop("revision", None)
    async with ScriptedServer() as server:
        values = {
            "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 6000, "instruct": True, "license": "MIT",
            "backend": "openai", "revision": revision, "endpoint": {"urls": [server.url], "retry_for_s": 2, **endpoint},
        }  # fmt: skip
        backend = OpenAIBackend(ModelRow.model_validate(values), Telemetry())
        try:
            yield server, backend
        finally:
            await backend.close()


async def text(backend: OpenAIBackend) -> str:
    (greedy,) = (await backend.generate(call(), [GREEDY])).items
    return greedy.outputs[0].text


def refusal(status: int, message: str, param: str = "") -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param}
    return web.json_response({"error": error}, status=status)


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


def chunk(delta: object, finish: object = None, **more: object) -> dict:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


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


# Answers that were cut, of other models, to prompts that were cut.


async def test_a_text_that_ended_by_length_too_early_is_no_answer() -> None:
    async with served() as (server, backend):
        server.answer = lambda body: streamed(body, finish="length")
        for sampling, asked in ((GREEDY, "2 of 10"), (Sampling(0.7, 3, 1), "2 of 3")):
            with pytest.raises(AnswerCutError, match=asked):
                _ = [event async for event in backend.stream(call(), sampling)]
        with pytest.raises(AnswerCutError, match="2 of 10"):
            await backend.generate(call(), [GREEDY])
        (whole_text,) = (await backend.generate(call(), [Sampling(0.0, 2)])).items
        assert whole_text.outputs[0].finish_reason == "length"

        def cut(body: dict) -> web.Response:
            document = whole(body)
            document["choices"][-1]["finish_reason"] = "length"
            return web.json_response({**document, "usage": {**USAGE, "completion_tokens": 9}})

        server.answer = cut
        with pytest.raises(AnswerCutError, match="9 at most of 10"):
            await backend.generate(call(), [DRAWN])


async def test_the_answer_of_another_model_is_none() -> None:
    async with served() as (server, backend):
        for answer, samplings in (
            (lambda body: streamed(body, model="tiny-fallback-1b"), [GREEDY]),
            (lambda body: web.json_response(whole(body, model="tiny-fallback-1b")), [GREEDY, DRAWN]),
        ):
            server.answer = answer
            for sampling in samplings:
                with pytest.raises(AnotherModelError, match=r"'m'.*'tiny-fallback-1b'"):
                    await backend.generate(call(), [sampling])
            with pytest.raises(AnotherModelError):
                _ = [event async for event in backend.stream(call(), GREEDY)]


@pytest.mark.parametrize("other", [0, 1, 2, 3])
async def test_a_stream_of_which_one_event_names_another_model_is_not_its_answer(other) -> None:
    async with served() as (server, backend):
        lines = streamed({"model": "m"}).text.split("\n\n")[:4]
        good = [json.loads(line.removeprefix("data: ")) for line in lines]
        good[other]["model"] = "tiny-fallback-1b"
        server.answer = lambda body: events(*good)
        with pytest.raises(AnotherModelError, match=r"'m'.*'tiny-fallback-1b'"):
            await backend.generate(call(), [GREEDY])


async def test_a_name_that_the_row_states_is_that_of_the_model() -> None:
    async with served(answers_as=["tiny-fallback-1b"]) as (server, backend):
        server.answer = lambda body: streamed(body, model="tiny-fallback-1b")
        assert await text(backend) == "B"
        assert "answers as tiny-fallback-1b" in backend.capabilities.fingerprint


async def test_few_tokens_for_many_characters_are_a_cut_prompt() -> None:
    async with served() as (server, backend):
        for tokens, expected in ((12, "cut"), (60, "warned"), (0, "warned"), (160, "good")):
            server.answer = lambda body, tokens=tokens: streamed(body, usage={**USAGE, "prompt_tokens": tokens})
            if expected == "cut":
                with pytest.raises(PromptCutError, match=r"12 tokens of a prompt of 616 characters"):
                    await backend.generate(call(LONG), [GREEDY])
                continue
            answer = await backend.generate(call(LONG), [GREEDY])
            assert answer.warnings == ((PROMPT_MAYBE_CUT,) if expected == "warned" else ())
            last = [event async for event in backend.stream(call(LONG), GREEDY)][-1]
            assert isinstance(last, Generation)
            assert last.warnings == answer.warnings


async def test_with_a_tokenizer_its_count_decides() -> None:
    async with served(flavour="vllm") as (server, backend):
        server.told["/tokenize"] = lambda body: {"tokens": list(range(200))}
        for tokens in (120, 191):
            server.answer = lambda body, tokens=tokens: streamed(body, usage={**USAGE, "prompt_tokens": tokens})
            with pytest.raises(
                PromptCutError, match=f"{tokens} tokens of a prompt that its own tokenizer counts as 200"
            ):
                await backend.generate(call(LONG), [GREEDY])
        server.answer = lambda body: streamed(body, usage={**USAGE, "prompt_tokens": 193})
        assert (await backend.generate(call(LONG), [GREEDY])).warnings == ()


async def test_a_tokenizer_that_cannot_be_asked_is_no_failure() -> None:
    async with served(flavour="vllm") as (server, backend):
        assert await text(backend) == "B"
        server.answer = lambda body: streamed(body, usage={**USAGE, "prompt_tokens": 12})
        with pytest.raises(PromptCutError):
            await backend.generate(call(LONG), [GREEDY])


# Who learns of a change.


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/version", {"version": "0.12.0"}),
        ("/v1/models", {"data": [{"id": "m", "root": "/models/b", "max_model_len": 6000}]}),
        ("/v1/models", {"data": [{"id": "else", "root": "/models/a", "max_model_len": 6000}]}),
    ],
)
async def test_every_call_in_flight_across_a_change_learns_it(path, value) -> None:
    async with served(flavour="vllm") as (server, backend):
        server.told["/version"] = {"version": "0.11.0"}
        server.told["/v1/models"] = {"data": [{"id": "m", "root": "/models/a", "max_model_len": 6000}]}
        before = (await backend.revision(), backend.capabilities.fingerprint)
        gate = asyncio.Event()

        async def waits(body: dict) -> web.Response:
            await gate.wait()
            return server.good(body)

        server.answer = waits

        async def last() -> object:
            return [event async for event in backend.stream(call(), GREEDY)][-1]

        calls = [asyncio.create_task(work) for work in (text(backend), backend.generate(call(), [DRAWN]), last())]
        async with asyncio.timeout(5):
            while len(server.asked) < 3:
                await asyncio.sleep(0.002)
        server.told[path] = value
        gate.set()
        assert [type(one) for one in await asyncio.gather(*calls, return_exceptions=True)] == [ModelChangedError] * 3
        if "else" in str(value):
            with pytest.raises(FailedPreconditionError, match="serves else"):
                await backend.revision()
            return
        assert (await backend.revision(), backend.capabilities.fingerprint) != before
        assert await text(backend) == "B"


async def test_other_models_may_come_and_go_beside_the_one_that_is_asked() -> None:
    async with served() as (server, backend):
        assert await text(backend) == "B"
        server.told["/v1/models"] = {"data": [{"id": "new", "object": "model"}, {"id": "m", "object": "model"}]}
        assert await text(backend) == "B"


async def test_a_stated_commit_is_held_against_the_folder_of_the_weights() -> None:
    for commit, good in (("a" * 40, True), ("b" * 40, False)):
        async with served(flavour="vllm", revision="a" * 40) as (server, backend):
            server.told["/v1/models"] = {"data": [{"id": "m", "root": f"/hub/models--x/snapshots/{commit}"}]}
            if good:
                assert await text(backend) == "B"
                continue
            with pytest.raises(BackendError, match="the catalog states aaaa"):
                await text(backend)
