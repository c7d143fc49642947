"""What a TGI row's replicas serve, who learns of a change, and what is held against their answers."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from tests.support.fakes.scripted_server import ScriptedServer
from tests.support.fakes.tgi_server import FakeOptions, FakeTgi, Fault

from safescale.core.errors import (
    AnotherModelError,
    AnswerCutError,
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    FailedPreconditionError,
    GarbageAnswerError,
    ModelChangedError,
    PromptCutError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.backend import OpenAIBackend
from safescale.inference.backends.port import Backend, Call, Sampling
from safescale.inference.backends.tgi.backend import TgiBackend
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry

GREEDY, DRAWN = Sampling(0.0, 10), Sampling(0.7, 10, 5, 4)
PROSE = Messages("", "Why?")
KINDS = ["tgi", "openai"]


def call(messages: Messages = PROSE) -> Call:
    return Call(messages, 10.0, time.monotonic() + 60)


@asynccontextmanager
async def opened(
    kind: str, *servers: FakeTgi | ScriptedServer, instruct: bool = True, revision: str | None = None, **endpoint
):
    telemetry = endpoint.pop("telemetry", None) or Telemetry()
    values = {
        "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 6000, "instruct": instruct, "license": "MIT",
        "revision": revision, "backend": kind,
        "endpoint": {"urls": [server.url for server in servers], **endpoint},
    }  # fmt: skip
    build = TgiBackend if kind == "tgi" else OpenAIBackend
    backend: Backend = build(ModelRow.model_validate(values), telemetry)
    try:
        yield backend
    finally:
        await backend.close()


async def ask(backend: Backend, *samplings: Sampling):
    return await backend.generate(call(), samplings or [GREEDY])


async def streamed(backend: Backend):
    return [event async for event in backend.stream(call(), GREEDY)][-1]


# Who learns of a change.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changed", [{"model_sha": "f" * 40}, {"version": "3.4.0"}, {"model_id": "org/else"}])
async def test_every_call_in_flight_across_a_change_learns_it(kind, changed) -> None:
    if kind == "openai" and "model_id" in changed:
        pytest.skip("the look at an OpenAI row tells a revision by its sha")
    async with FakeTgi(FakeOptions(token_s=0.05)) as server, opened(kind, server) as backend:
        before = (await backend.revision(), backend.capabilities.fingerprint)
        calls = [asyncio.create_task(work) for work in (ask(backend), ask(backend), streamed(backend))]
        async with asyncio.timeout(5):
            while len(server.asked("/v1/chat/completions")) < 3:
                await asyncio.sleep(0.005)
        server.options = replace(server.options, **changed)
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in found] == [ModelChangedError] * 3
        after = (await backend.revision(), backend.capabilities.fingerprint)
        assert after != before
        # From then on the answers are those of what is told.
        await ask(backend, GREEDY, DRAWN)
        assert (await backend.revision(), backend.capabilities.fingerprint) == after


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changed", [{"model_sha": "f" * 40}, {"version": "3.4.0"}, {"model_id": "org/else"}])
async def test_a_change_while_nobody_asks_is_seen_by_who_looks_anew(kind, changed) -> None:
    # A folder has no sha: then the name tells.
    sha = None if "model_id" in changed else "a" * 40
    async with FakeTgi(FakeOptions(model_sha=sha)) as server, opened(kind, server) as backend:
        before = (await backend.revision(), backend.capabilities.fingerprint)
        server.options = replace(server.options, **changed)
        assert (await backend.revision(refresh=True), backend.capabilities.fingerprint) != before
        # It is no error of the calls that begin then.
        await ask(backend)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_proxy_that_hides_info_is_named(status) -> None:
    async with ScriptedServer() as server, opened("tgi", server) as backend:
        server.told["/info"] = status
        with pytest.raises(BackendRefusedError, match=f"HTTP {status}: /info is refused.*a proxy"):
            await backend.revision()


async def test_scores_learn_it_too() -> None:
    async with FakeTgi(FakeOptions(prefill_s=0.02)) as server, opened("tgi", server) as backend:
        await backend.revision()
        scoring = asyncio.create_task(backend.score(call(), [" Spleen"]))
        async with asyncio.timeout(5):
            while not server.running:
                await asyncio.sleep(0.002)
        server.options = replace(server.options, model_sha="f" * 40)
        with pytest.raises(ModelChangedError):
            await scoring


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_at_one_time_share_the_look_after_them(kind) -> None:
    async with FakeTgi() as server, opened(kind, server) as backend:
        await ask(backend)
        server.looks = 0
        await asyncio.gather(*(ask(backend) for _ in range(8)))
        assert 1 <= server.looks <= 4


async def test_replicas_are_told_in_no_order_and_after_a_restart_as_before() -> None:
    async with FakeTgi() as one, FakeTgi(FakeOptions(version="3.3.7")) as two:
        told = set()
        for servers in ([one, two], [two, one]):
            async with opened("tgi", *servers) as backend:
                told.add((await backend.revision(), backend.capabilities.fingerprint))
        assert told == {(f"{one.options.model_sha} (tgi 3.3.6, 3.3.7)", "tgi 3.3.6, 3.3.7 with fake/letters")}
        for servers in ([one, two], [two, one]):
            async with opened("openai", *servers) as backend:
                with pytest.raises(ModelChangedError, match="expected equal replicas"):
                    await backend.revision()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_replica_that_is_away_keeps_nobody_from_the_others(kind) -> None:
    async with FakeTgi() as one, FakeTgi() as two:
        await two.stop()
        async with opened(kind, one, two) as backend:
            assert (await ask(backend, GREEDY, DRAWN)).items


@pytest.mark.parametrize("kind", KINDS)
async def test_a_replica_that_is_gone_does_not_speak_against_those_that_changed(kind) -> None:
    async with FakeTgi() as one, FakeTgi() as two, opened(kind, one, two, retry_for_s=2) as backend:
        await asyncio.gather(*(ask(backend) for _ in range(4)))
        await two.stop()
        before = await backend.revision()
        one.options = replace(one.options, model_sha="f" * 40)
        with pytest.raises(ModelChangedError):
            await ask(backend)
        assert await backend.revision() != before
        assert (await ask(backend)).items


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stated_revision_that_the_server_does_not_serve_is_refused(kind) -> None:
    async with FakeTgi() as server:
        async with opened(kind, server, revision="another") as backend:
            with pytest.raises(BackendError, match=r"serves revision 0123.*the catalog states another"):
                await ask(backend)
        async with opened(kind, server, revision=server.options.model_sha) as backend:
            assert (await ask(backend)).items
            server.options = replace(server.options, model_sha="f" * 40)
            with pytest.raises(BackendError, match="the catalog states"):
                await ask(backend)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_adapter_that_the_server_does_not_know_is_refused(kind) -> None:
    async with FakeTgi() as server:
        async with opened(kind, server, served_model="clinical-lora-v2") as backend:
            with pytest.raises(FailedPreconditionError, match=r"'clinical-lora-v2' exactly as its base model"):
                await ask(backend)
        assert server.asked("/v1/chat/completions") == []
        for name in ("clinical-lora", server.options.model_id, "tgi"):
            async with opened(kind, server, served_model=name) as backend:
                assert (await ask(backend)).items
        assert server.violations == []


# What is held against answers.


@pytest.mark.parametrize("kind", KINDS)
async def test_the_limit_of_a_server_bounds_its_calls(kind) -> None:
    async with (
        FakeTgi(FakeOptions(max_concurrent=2, token_s=0.01)) as server,
        opened(kind, server, concurrency=16, retry_for_s=0) as backend,
    ):
        await asyncio.gather(*(ask(backend, GREEDY, DRAWN) for _ in range(3)))
        assert server.peak == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", [Sampling(0.0, 2000), Sampling(0.7, 2000, 1, 2)])
async def test_an_answer_that_was_capped_is_none(kind, sampling, monkeypatch) -> None:
    monkeypatch.setattr("tests.support.fakes.tgi_jobs.CAP", 50)
    async with FakeTgi() as server, opened(kind, server) as backend:
        with pytest.raises(AnswerCutError, match="50 of 2,000"):
            await ask(backend, sampling)
        with pytest.raises(AnswerCutError, match="50 of 2,000"):
            _ = [event async for event in backend.stream(call(), sampling)]


async def test_the_flag_to_blame_for_a_cap_is_named(monkeypatch) -> None:
    monkeypatch.setattr("tests.support.fakes.tgi_jobs.CAP", 50)
    for limits, flag in (
        ({"max_input_tokens": 3000}, r"--max-input-tokens is 3,000, and must be the longest prompt and 3,072"),
        ({"max_input_tokens": 3500}, "--max-total-tokens"),
    ):
        async with FakeTgi(FakeOptions(**limits)) as server, opened("tgi", server) as backend:
            with pytest.raises(AnswerCutError, match=flag):
                await ask(backend, Sampling(0.0, 4096))


async def test_an_answer_over_its_bound_ended_by_its_length(monkeypatch) -> None:
    monkeypatch.setattr("tests.support.fakes.tgi_jobs.Job.answer", _overshoot)
    async with FakeTgi() as server, opened("tgi", server) as backend:
        (greedy,) = (await ask(backend, Sampling(0.0, 3))).items
        assert (greedy.outputs[0].generated_tokens, greedy.outputs[0].finish_reason) == (5, "length")


def _overshoot(job):
    pieces = list(job.pieces)[:5]
    return "".join(piece.text for piece in pieces), pieces, "eos_token"


@asynccontextmanager
async def altered(change):
    """A fake server whose chat answers are changed on the way."""

    class Altered(FakeTgi):
        def _chat_head(self, kind, body):
            return {**super()._chat_head(kind, body), **change}

    async with Altered() as server:
        yield server


async def test_the_answer_of_another_model_is_none() -> None:
    async with altered({"model": "tiny-fallback-1b"}) as server, opened("tgi", server) as backend:
        for sampling in (GREEDY, DRAWN):
            # A TGI row takes no answers_as, so that nobody is sent there.
            with pytest.raises(AnotherModelError, match=r"'tiny-fallback-1b': another model, such as .* fallback$"):
                await ask(backend, sampling)
        with pytest.raises(AnotherModelError):
            await streamed(backend)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("instruct", [True, False])
async def test_a_prompt_that_was_cut_is_told_by_its_tokens(kind, instruct, monkeypatch) -> None:
    long = Messages("", "The liver is seen below the right dome. " * 20)
    async with FakeTgi() as server, opened(kind, server, instruct=instruct) as backend:
        if kind == "openai" and not instruct:
            pytest.skip("the fake server has no completions")
        assert (await backend.generate(call(long), [GREEDY])).warnings == ()
        init = "tests.support.fakes.tgi_jobs.Job.__init__"
        original = __import__("tests.support.fakes.tgi_jobs", fromlist=["Job"]).Job.__init__

        def cut(self, prompt, parameters, prefill):
            original(self, prompt, parameters, prefill)
            self.pieces = self.pieces[:100]

        monkeypatch.setattr(init, cut)
        with pytest.raises(PromptCutError, match="100 tokens of a prompt"):
            await backend.generate(call(long), [GREEDY])
        with pytest.raises(PromptCutError):
            _ = [event async for event in backend.stream(call(long), GREEDY)]


# A server whose shard is away, and one that hangs.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
async def test_a_shard_that_is_away_for_a_while_costs_no_call(kind, sampling) -> None:
    telemetry = Telemetry()
    async with FakeTgi() as server, opened(kind, server, telemetry=telemetry, retry_for_s=20) as backend:
        expected = (await ask(backend, sampling)).items[0].outputs
        server.faults.extend([Fault("away")] * 7)
        calls = await asyncio.gather(*(ask(backend, sampling) for _ in range(4)))
        assert all(answer.items[0].outputs == expected for answer in calls)
        assert not server.faults


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_hangs_is_told_apart_and_asked_no_more(kind) -> None:
    telemetry = Telemetry()
    async with FakeTgi() as server, opened(kind, server, telemetry=telemetry, retry_for_s=0.3) as backend:
        await ask(backend)
        server.faults.extend([Fault("hang")] * 100)
        # Each is preceded by an exchange that ends well: health, identity and tokens tell nothing of generations.
        for _ in range(3):
            with pytest.raises(BackendTimeoutError):
                await backend.generate(Call(PROSE, 0.2, time.monotonic() + 60), [Sampling(0.0, 2000)])
        labels = {"model": "m", "replica": server.url}
        for metric in ("safescale_backend_hung", "safescale_backend_circuit_open"):
            assert telemetry.registry.get_sample_value(metric, labels) == 1


# A proxy's answers where a stream was asked.


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("<html>Jane</html>", GarbageAnswerError),
        ('{"error": "Model is overloaded", "error_type": "overloaded"}', BackendOverloadedError),
        ('{"detail": "Jane"}', GarbageAnswerError),
    ],
)
async def test_what_is_no_stream_is_told_by_its_content(body, error) -> None:
    class Proxied(FakeTgi):
        async def _chat(self, request, asked):
            return web.Response(text=body, content_type="text/event-stream")

    async with Proxied() as server, opened("tgi", server, retry_for_s=0) as backend:
        with pytest.raises(error) as caught:
            await ask(backend)
        assert "Jane" not in caught.value.message


@pytest.mark.parametrize("instruct", [True, False])
async def test_an_error_with_status_200_is_that_error_in_plain_answers_too(instruct) -> None:
    class Proxied(FakeTgi):
        async def _plain(self, request, asked):
            if asked.get("stream"):
                return await super()._chat(request, asked)
            return web.json_response({"error": "Model is overloaded", "error_type": "overloaded"})

        _chat = _generate = _plain

    async with Proxied() as server, opened("tgi", server, instruct=instruct, retry_for_s=0) as backend:
        with pytest.raises(BackendOverloadedError):
            await ask(backend, GREEDY, DRAWN)


async def test_a_whole_answer_where_a_stream_was_asked_is_used() -> None:
    class Proxied(FakeTgi):
        async def _chat(self, request, asked):
            return await super()._chat(request, {**asked, "stream": False})

    async with Proxied() as server, opened("tgi", server) as backend:
        (greedy,) = (await ask(backend)).items
        assert greedy.outputs[0].text
        assert greedy.time_to_first_token_s is None
