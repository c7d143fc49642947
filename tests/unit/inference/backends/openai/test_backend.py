"""The OpenAI-compatible backend against the fake server: what is asked, what is found out, what faults do."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.support.fakes.openai_server import FakeOpenAI, FakeOptions, Fault
from tests.support.fakes.tgi_server import FakeTgi

from safescale.core.errors import (
    BackendError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    FailedPreconditionError,
    GarbageAnswerError,
    InvalidInputError,
    PromptTooLongError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.backend import OpenAIBackend
from safescale.inference.backends.port import Call, Generation, Sampling
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GREEDY, DRAWN = Sampling(0.0, 4), Sampling(0.7, 4, 10, 5)
SERVED = "fake/letters"


def asked(text: str = "Which organ?\n\nAnswer:", timeout_s: float = 20.0) -> Call:
    return Call(Messages("You are an expert.", text), timeout_s, time.monotonic() + 60)


def row(*urls: str, instruct: bool = True, **endpoint: object) -> ModelRow:
    values = {"urls": list(urls), "served_model": SERVED, **endpoint}
    return ModelRow.model_validate({
        "id": "letters", "family": "F", "parameters_b": 7.0, "window_tokens": 6000, "instruct": instruct,
        "license": "MIT", "backend": "openai", "endpoint": {key: value for key, value in values.items() if value},
    })  # fmt: skip


@asynccontextmanager
async def running(options: FakeOptions | None = None, *, instruct: bool = True, **endpoint: object):
    """A fake server and the backend of its model."""
    async with FakeOpenAI(options) as server:
        backend = OpenAIBackend(row(server.url, instruct=instruct, **endpoint), Telemetry())
        try:
            yield server, backend
        finally:
            await backend.close()
        assert server.violations == []


async def texts(backend: OpenAIBackend, *samplings: Sampling) -> list[list[str]]:
    items = (await backend.generate(asked(), samplings)).items
    return [[output.text for output in generation.outputs] for generation in items]


async def test_samples_are_choices_of_one_call_where_the_server_gives_them() -> None:
    async with running() as (server, backend):
        greedy, drawn = await texts(backend, GREEDY, DRAWN)
        first, second = server.asked(CHAT)
        assert (first["temperature"], first["stream"], "n" in first, "seed" in first) == (0.0, True, False, False)
        assert (second["temperature"], second["n"], second["seed"], "stream" in second) == (0.7, 5, 10, False)
        assert len(greedy) == 1
        assert len(set(drawn)) > 1
        # The same choices as those of a server which is asked for one after the other.
        async with running(FakeOptions(choices="ignored")) as (other, single):
            assert await texts(single, GREEDY, DRAWN) == [greedy, drawn]
            assert sorted(body["seed"] for body in other.asked(CHAT)[1:]) == [10, 11, 12, 13, 14]
            # How they are asked for says nothing of what they are.
            assert single.capabilities.fingerprint == backend.capabilities.fingerprint


@pytest.mark.parametrize("choices", ["ignored", "same", "refused"])
async def test_without_choices_each_sample_is_a_call_and_this_is_found_out_once(choices) -> None:
    async with running(FakeOptions(choices=choices)) as (server, backend):
        for _ in range(2):
            (drawn,) = await texts(backend, DRAWN)
            assert len(set(drawn)) > 1
        assert len(server.asked(CHAT)) == 10
        assert not any("n" in body for body in server.asked(CHAT))
        assert sum(body.get("n") == 4 for body in (seen.body for seen in server.seen) if body) == 1


async def test_calls_at_once_keep_to_the_limit_of_the_endpoint() -> None:
    async with running(FakeOptions(choices="ignored", token_s=0.01), concurrency=3) as (server, backend):
        await texts(backend, GREEDY, replace(DRAWN, count=9))
        assert server.peak == 3


async def test_a_server_that_knows_no_seeds_is_not_sampled() -> None:
    async with running(FakeOptions(choices="same", seeds=False)) as (server, backend):
        assert len((await texts(backend, GREEDY))[0]) == 1
        with pytest.raises(FailedPreconditionError, match="same text for every seed"):
            await texts(backend, DRAWN)
        assert not any(body["temperature"] for body in server.asked(CHAT))
        with pytest.raises(FailedPreconditionError):
            _ = [event async for event in backend.stream(asked(), DRAWN)]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_a_trace_goes_into_the_reasoning(field) -> None:
    async with running(FakeOptions(reasoning=field)) as (_, backend):
        greedy, drawn = (await backend.generate(asked(), [GREEDY, DRAWN])).items
        assert greedy.outputs[0].reasoning == drawn.outputs[4].reasoning == "Let me think. "
        assert "think" not in greedy.outputs[0].text


async def test_base_models_are_asked_for_completions() -> None:
    async with running(instruct=False) as (server, backend):
        await texts(backend, GREEDY, DRAWN)
        assert [body["prompt"] for body in server.asked(COMPLETIONS)] == [
            "You are an expert.\n\nWhich organ?\n\nAnswer:"
        ] * 2
        assert server.asked(CHAT) == []


@pytest.mark.parametrize("flavour", ["vllm", "sglang", "other"])
async def test_a_server_is_known_by_what_it_says(flavour) -> None:
    async with running(FakeOptions(flavour)) as (_, backend):
        assert await backend.revision() == (SERVED)
        known = backend.capabilities.fingerprint
        assert known.startswith(
            f"{flavour} " + ("of unknown version" if flavour == "other" else "0.11.0, context 6000")
        )


async def test_a_server_without_a_list_of_models_is_one_of_the_others() -> None:
    async with running(FakeOptions("other", lists_models=False)) as (server, backend):
        await texts(backend, GREEDY, DRAWN)
        assert backend.capabilities.fingerprint.startswith("other")
        assert server.asked(CHAT)[1]["top_p"] == 1.0


async def test_the_catalog_can_name_server_and_revision() -> None:
    async with FakeOpenAI(FakeOptions("vllm")) as server:
        named = row(server.url, flavour="sglang").model_copy(update={"revision": "abc"})
        backend = OpenAIBackend(named, Telemetry())
        assert await backend.revision() == "abc"
        assert backend.capabilities.fingerprint.startswith("sglang of unknown version")
        await backend.close()


async def test_a_server_of_another_model_is_not_asked() -> None:
    async with running(FakeOptions(model_id="else")) as (server, backend):
        with pytest.raises(FailedPreconditionError, match="serves else; the catalog asks for fake/letters"):
            await texts(backend, GREEDY)
        assert server.asked(CHAT) == []


async def test_tgi_in_this_mode_gets_seeded_calls() -> None:
    async with FakeTgi() as server:
        backend = OpenAIBackend(row(server.url, served_model=None), Telemetry())
        greedy, drawn = await texts(backend, GREEDY, DRAWN)
        assert (len(greedy), len(set(drawn)) > 1) == (1, True)
        bodies = server.asked(CHAT)
        assert {body["model"] for body in bodies} == {"tgi"}
        assert sorted(body["seed"] for body in bodies if body["temperature"]) == [10, 11, 12, 13, 14]
        assert backend.capabilities.fingerprint == "tgi 3.3.6, a call for each sample"
        assert (await backend.tokenize(["The liver 😀", ""], 3)).counts == (5, 0)
        assert (await backend.tokenize(["The liver is seen"], 2)).truncated == ("The liver",)
        assert not backend.capabilities.scores
        with pytest.raises(FailedPreconditionError, match="letter formulation"):
            await backend.score(asked(), [" B"])
        assert server.violations == []
        await backend.close()


async def test_another_server_scores_base_models_by_echo_alone() -> None:
    async with running(FakeOptions("other"), instruct=False) as (_, other), running(instruct=False) as (_, vllm):
        options = [" Spleen", " Urinary bladder", " expert"]
        by_echo, by_ids = await other.score(asked(), options), await vllm.score(asked(), options)
        assert by_echo.items == by_ids.items
        assert by_echo.prompt_tokens == by_ids.prompt_tokens
        with pytest.raises(FailedPreconditionError, match="no endpoint that tokenises"):
            await other.tokenize(["a"], None)
        with pytest.raises(InvalidInputError):
            await other.score(asked(), [""])
    async with running(FakeOptions("other"), instruct=True) as (_, chat):
        with pytest.raises(FailedPreconditionError):
            await chat.score(asked(), [" B"])
    async with running(FakeOptions("other", echo=False), instruct=False) as (_, mute):
        with pytest.raises(FailedPreconditionError, match="does not echo"):
            await mute.score(asked(), [" B"])


async def test_one_call_scores_all_continuations() -> None:
    async with running() as (server, backend):
        scores = await backend.score(asked(), [" Spleen", " Pancreas", " expert"])
        (body,) = server.asked(COMPLETIONS)
        assert len(body["prompt"]) == 3
        assert scores.prompt_tokens == len(body["prompt"][0]) - scores.items[0].tokens
        assert scores.items[2].mean_logprob > scores.items[0].mean_logprob


@pytest.mark.parametrize("kind", ["reset", "truncated", "unavailable", "failed", "slow", "overload", "abort"])
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
async def test_failures_on_the_way_are_repeated_and_change_nothing(kind, sampling) -> None:
    async with running() as (server, backend):
        expected = await texts(backend, sampling)
        server.faults.append(Fault(kind, 0.01))
        answer = await backend.generate(asked(), [sampling])
        assert [[output.text for output in answer.items[0].outputs]] == expected
        assert len(server.asked(CHAT)) == (2 if kind == "slow" else 3)
        # Failed attempts and the waits after them are no part of the model's time.
        assert kind == "slow" or answer.waited_s > 0.05


@pytest.mark.parametrize("kind", ["garbage", "speechless"])
async def test_garbage_is_told_and_not_repeated(kind) -> None:
    async with running() as (server, backend):
        await texts(backend, DRAWN)
        server.faults.append(Fault(kind))
        with pytest.raises(GarbageAnswerError):
            await texts(backend, DRAWN)
        assert len(server.asked(CHAT)) == 2
        assert await texts(backend, DRAWN)


async def test_an_answer_that_is_given_up_twice_is_an_error() -> None:
    async with running() as (server, backend):
        await backend.revision()
        server.faults.extend([Fault("abort"), Fault("abort")])
        with pytest.raises(BackendError):
            await texts(backend, GREEDY)


async def test_a_stream_that_tells_of_an_error_fails() -> None:
    async with running() as (server, backend):
        await backend.revision()
        server.faults.append(Fault("error"))
        with pytest.raises(BackendUnavailableError):
            _ = [event async for event in backend.stream(asked(), GREEDY)]
        server.faults.append(Fault("truncated"))
        with pytest.raises(BackendUnavailableError):
            _ = [event async for event in backend.stream(asked(), GREEDY)]
        events = [event async for event in backend.stream(asked(), GREEDY)]
        assert isinstance(events[-1], Generation)


async def test_a_server_that_hangs_is_a_timeout() -> None:
    async with running() as (server, backend):
        await texts(backend, DRAWN)
        for sampling in (GREEDY, DRAWN):
            server.faults.append(Fault("hang"))
            with pytest.raises(BackendTimeoutError):
                await backend.generate(asked(timeout_s=0.2), [sampling])
        server.faults.append(Fault("hang"))
        with pytest.raises(BackendTimeoutError):
            await backend.generate(replace(asked(), deadline=time.monotonic() + 0.2), [DRAWN])
        assert await texts(backend, DRAWN)


async def test_one_sample_that_fails_ends_the_others() -> None:
    async with running(FakeOptions(choices="ignored", token_s=5.0)) as (server, backend):
        server.options = replace(server.options, token_s=0.0)
        await texts(backend, DRAWN)
        server.options = replace(server.options, token_s=5.0)
        server.faults.append(Fault("garbage"))
        with pytest.raises(GarbageAnswerError):
            await texts(backend, DRAWN)
        async with asyncio.timeout(2):
            while server.running:
                await asyncio.sleep(0.01)


async def test_a_server_that_comes_back_is_looked_at_again() -> None:
    async with running(retry_for_s=0.01) as (server, backend):
        before = await texts(backend, GREEDY, DRAWN)
        port = int(server.url.rsplit(":", 1)[1])
        await server.stop()
        with pytest.raises(BackendUnavailableError):
            await texts(backend, GREEDY)
        server.options = replace(server.options, version="0.12.0")
        await server.start(port)
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await texts(backend, GREEDY, DRAWN) == before
                    break
                except BackendUnavailableError:
                    await asyncio.sleep(0.05)
        assert "vllm 0.12.0" in backend.capabilities.fingerprint


async def test_a_replica_that_is_another_server_is_not_asked() -> None:
    async with FakeOpenAI() as one, FakeOpenAI(FakeOptions(version="0.12.0")) as other:
        backend = OpenAIBackend(row(one.url, other.url), Telemetry())
        answers = await asyncio.gather(*(texts(backend, GREEDY) for _ in range(4)), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        assert errors
        assert all(isinstance(error, FailedPreconditionError) and "0.12.0" in error.message for error in errors)
        assert not (one.asked(CHAT) and other.asked(CHAT))
        await backend.close()


async def test_a_server_that_was_replaced_mixes_no_answers() -> None:
    async with running() as (server, backend):
        await texts(backend, GREEDY)
        server.options = replace(server.options, version="0.12.0")
        port = int(server.url.rsplit(":", 1)[1])
        await server.stop()
        await server.start(port)
        server.faults.append(Fault("reset"))
        asked_before = len(server.asked(CHAT))
        with pytest.raises(FailedPreconditionError, match=r"vllm 0\.12\.0"):
            await texts(backend, GREEDY)
        assert len(server.asked(CHAT)) == asked_before + 1
        assert await texts(backend, GREEDY)
        assert "vllm 0.12.0" in backend.capabilities.fingerprint


async def test_an_api_key_is_sent_and_a_wrong_one_told(tmp_path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    async with running(FakeOptions(api_key="secret"), api_key_file=str(key)) as (_, backend):
        assert await texts(backend, GREEDY)
    key.write_text("other")
    async with running(FakeOptions(api_key="secret"), api_key_file=str(key)) as (_, backend):
        with pytest.raises(BackendRefusedError, match="api_key_file"):
            await texts(backend, GREEDY)
    async with running(api_key_file=str(tmp_path / "absent")) as (_, backend):
        assert "absent" in backend.unavailable_reason()


async def test_a_prompt_over_the_window_tells_both_numbers() -> None:
    for flavour in ("vllm", "sglang"):
        async with running(FakeOptions(flavour)) as (_, backend):
            for work in (
                backend.generate(asked("word " * 7000), [GREEDY]),
                backend.score(asked("word " * 7000), [" B"]),
            ):
                with pytest.raises(PromptTooLongError) as caught:
                    await work
                assert int(caught.value.details["prompt_tokens"]) > int(caught.value.details["window_tokens"]) == 6000


async def test_a_server_without_a_tokeniser_cannot_score() -> None:
    async with running(FakeOptions("vllm", tokenizer=False)) as (_, backend):
        with pytest.raises(BackendRefusedError):
            await backend.score(asked(), [" B"])
        with pytest.raises(BackendRefusedError):
            await backend.tokenize(["a"], None)
