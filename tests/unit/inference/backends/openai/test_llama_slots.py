"""The cache rule over HTTP, against a small server that says what its slots hold."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from safescale.core.errors import (
    AnotherModelError,
    AnswerCutError,
    BackendError,
    BackendTimeoutError,
    FailedPreconditionError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.backend import OpenAIBackend
from safescale.inference.backends.port import Call, Sampling
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry

GREEDY, DRAWN = Sampling(0.0, 4), Sampling(0.7, 4, 10, 3)
PROMPT_TOKENS = 20


def asked(timeout_s: float = 20.0) -> Call:
    return Call(Messages("S", "U"), timeout_s, time.monotonic() + 60)


class Llama:
    """Answers with its seed. `held` are the cached tokens that it tells of warm calls, one after the other."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.held: list[int | None] = []
        self.seen: list[dict] = []
        self.at_work: dict[int, int] = {}
        self.peak = 0
        self.shared = False
        self.delay_s = 0.0
        self.finish = "stop"
        self.answers_as = "letters"

    async def props(self, _: web.Request) -> web.Response:
        settings = {"default_generation_settings": {"n_ctx": 100}, "total_slots": self.slots, "build_info": "b7"}
        return web.json_response(settings)

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "letters", "owned_by": "llamacpp"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        slot = body["id_slot"]
        self.shared = self.shared or bool(self.at_work.get(slot))
        self.at_work[slot] = self.at_work.get(slot, 0) + 1
        self.peak = max(self.peak, sum(self.at_work.values()))
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.at_work[slot] -= 1
        held = (self.held.pop(0) if self.held else PROMPT_TOKENS - 1) if body["cache_prompt"] else 0
        details = None if held is None else {"cached_tokens": held}
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 1, "prompt_tokens_details": details}
        events = [
            {"choices": [{"delta": {"content": str(body.get("seed", "greedy"))}, "finish_reason": self.finish}]},
            {"choices": [], "usage": usage, "model": self.answers_as},
        ]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        # As llama.cpp does: the connection is closed after a stream, and nothing says so.
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write((text + "data: [DONE]\n\n").encode())
        await response.write_eof()
        if request.headers.get("Connection") != "close" and request.transport is not None:
            request.transport.close()
        return response


@asynccontextmanager
async def running(llama: Llama, concurrency: int = 16):
    app = web.Application()
    app.add_routes([
        web.get("/props", llama.props), web.get("/v1/models", llama.models),
        web.post("/v1/chat/completions", llama.chat),
    ])  # fmt: skip
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    backend = OpenAIBackend(
        ModelRow.model_validate({
            "id": "letters", "family": "F", "parameters_b": 7.0, "window_tokens": 6000, "instruct": True,
            "license": "MIT", "backend": "openai",
            "endpoint": {"urls": [f"http://{host}:{port}"], "concurrency": concurrency},
        }),
        Telemetry(),
    )  # fmt: skip
    try:
        yield backend
    finally:
        await backend.close()
        await runner.cleanup()


def shown(generations) -> list[list[str]]:
    return [[output.text for output in generation.outputs] for generation in generations.items]


async def test_greedy_is_cold_and_samples_are_warm_on_one_slot() -> None:
    llama = Llama()
    async with running(llama) as backend:
        answer = await backend.generate(asked(), [DRAWN, GREEDY])
    assert shown(answer) == [["10", "11", "12"], ["greedy"]]
    assert [(body["cache_prompt"], body["temperature"]) for body in llama.seen] == [(False, 0.0), *[(True, 0.7)] * 3]
    assert {body["id_slot"] for body in llama.seen} == {0}
    assert {(body["repeat_penalty"], body["dry_multiplier"]) for body in llama.seen} == {(1.0, 0.0)}
    assert {(body["top_k"], body["min_p"], body["xtc_probability"]) for body in llama.seen[1:]} == {(0, 0.0, 0.0)}


async def test_without_greedy_the_prompt_is_evaluated_first() -> None:
    llama = Llama()
    async with running(llama) as backend:
        assert shown(await backend.generate(asked(), [DRAWN])) == [["10", "11", "12"]]
        assert (llama.seen[0]["cache_prompt"], llama.seen[0]["max_tokens"]) == (False, 1)
        events = [event async for event in backend.stream(asked(), DRAWN)]
        assert events[0] == "10"


async def test_a_text_that_the_context_cut_and_one_of_another_model_are_none() -> None:
    llama = Llama()
    async with running(llama) as backend:
        llama.finish = "length"
        for sampling in (GREEDY, DRAWN):
            with pytest.raises(AnswerCutError, match="1 of 4"):
                await backend.generate(asked(), [sampling])
            with pytest.raises(AnswerCutError):
                _ = [event async for event in backend.stream(asked(), sampling)]
        llama.finish, llama.answers_as = "stop", "else"
        for sampling in (GREEDY, DRAWN):
            with pytest.raises(AnotherModelError, match="'else'"):
                await backend.generate(asked(), [sampling])


async def test_a_call_whose_slot_another_client_took_begins_anew() -> None:
    llama = Llama()
    async with running(llama) as backend:
        await backend.revision()
        llama.held = [PROMPT_TOKENS - 1, 3]
        assert shown(await backend.generate(asked(), [GREEDY, DRAWN])) == [["greedy"], ["10", "11", "12"]]
        assert [body["cache_prompt"] for body in llama.seen] == [False, True, True, False, True, True, True]
        llama.held = [3, 3, 3]
        with pytest.raises(BackendError, match="another client"):
            await backend.generate(asked(), [DRAWN])


async def test_a_server_that_does_not_tell_what_it_holds_is_too_old() -> None:
    llama = Llama()
    async with running(llama) as backend:
        llama.held = [None]
        with pytest.raises(FailedPreconditionError, match="newer"):
            await backend.generate(asked(), [DRAWN])


@pytest.mark.parametrize(("slots", "concurrency", "peak"), [(1, 16, 1), (3, 16, 3), (3, 2, 2)])
async def test_no_two_calls_share_a_slot(slots, concurrency, peak) -> None:
    llama = Llama(slots)
    llama.delay_s = 0.01
    async with running(llama, concurrency) as backend:
        answers = await asyncio.gather(*(backend.generate(asked(), [GREEDY, DRAWN]) for _ in range(8)))
    assert (llama.peak, llama.shared) == (peak, False)
    assert all(shown(answer) == [["greedy"], ["10", "11", "12"]] for answer in answers)
    # Waiting for a slot is not the model's time.
    assert max(answer.waited_s for answer in answers) > 0.03


async def test_a_call_that_is_given_up_gives_its_slot_back() -> None:
    llama = Llama()
    async with running(llama) as backend:
        await backend.revision()
        llama.delay_s = 0.3
        with pytest.raises(BackendTimeoutError):
            await backend.generate(asked(timeout_s=0.1), [GREEDY])
        llama.delay_s = 0.0
        assert shown(await backend.generate(asked(), [GREEDY])) == [["greedy"]]
