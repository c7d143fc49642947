"""Answers that were cut, of other models, and to prompts that were cut."""

import asyncio
import json

import pytest
from aiohttp import web
from tests.support.fakes.scripted_server import USAGE, events, streamed, whole
from tests.unit.inference.backends.openai.served_texts import DRAWN, GREEDY, LONG, call, served, text

from safescale.core.errors import (
    AnotherModelError,
    AnswerCutError,
    BackendError,
    FailedPreconditionError,
    ModelChangedError,
    PromptCutError,
)
from safescale.inference.backends.checks import PROMPT_MAYBE_CUT
from safescale.inference.backends.port import Generation, Sampling


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
