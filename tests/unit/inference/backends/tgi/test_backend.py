"""The TGI adapter against a fake server: what is sent, what failures become, what is repeated."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import huggingface_hub.constants
import pytest
from tests.support.fakes.tgi_server import FakeOptions, FakeTgi, Fault

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    GarbageAnswerError,
    InvalidInputError,
    ModelChangedError,
    PromptTooLongError,
)
from safescale.core.safety.prompts import Messages, render
from safescale.core.safety.regimes import sample_seed
from safescale.inference.backends.port import Call, Generation, Sampling
from safescale.inference.backends.tgi import backend as tgi
from safescale.inference.backends.tgi.backend import TgiBackend
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry

QUESTION = render("Which organ?", {"A": "Liver", "B": "Spleen", "C": "Heart"}, None, "letter")
GREEDY = Sampling(0.0, 10)
DRAWN = Sampling(0.7, 10, 5, 4)
GENERATIONS = ("/generate", "/generate_stream", "/v1/chat/completions")


def call(timeout_s: float = 10.0, deadline: float = math.inf, messages: Messages = QUESTION) -> Call:
    return Call(messages, timeout_s, deadline)


def row(*servers: FakeTgi, instruct: bool = True, revision: str | None = None, **endpoint: object) -> ModelRow:
    values = {
        "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 6000, "instruct": instruct, "license": "MIT",
        "revision": revision, "backend": "tgi",
        "endpoint": {"urls": [server.url for server in servers], **endpoint},
    }  # fmt: skip
    return ModelRow.model_validate(values)


@asynccontextmanager
async def opened(model: ModelRow) -> AsyncIterator[TgiBackend]:
    backend = TgiBackend(model, Telemetry())
    yield backend
    await backend.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch) -> None:
    options = tgi.replica_set_options
    monkeypatch.setattr(tgi, "replica_set_options", lambda endpoint: replace(options(endpoint), back_off_s=0.01))


@pytest.fixture
async def server() -> AsyncIterator[FakeTgi]:
    async with FakeTgi() as running:
        yield running
        assert running.violations == []


@pytest.fixture(params=[True, False], ids=["chat", "base"])
async def backend(request, server) -> AsyncIterator[TgiBackend]:
    async with opened(row(server, instruct=request.param)) as built:
        yield built


def generations(server: FakeTgi) -> list[str]:
    return [seen.path for seen in server.seen if seen.path in GENERATIONS]


async def test_a_chat_row_asks_the_chat_and_says_all_that_decides(server) -> None:
    async with opened(row(server)) as backend:
        await backend.generate(call(), [GREEDY, DRAWN])
    first, *others = server.asked("/v1/chat/completions")
    messages = [{"role": "system", "content": QUESTION.system}, {"role": "user", "content": QUESTION.user}]
    shared = {"model": "tgi", "messages": messages, "max_tokens": 10}
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    assert first == {**shared, "temperature": 0.0, **stream}
    # The official client says stream: false.
    seeded = [{**shared, "temperature": 0.7, "seed": sample_seed(5, index), "stream": False} for index in range(4)]
    assert sorted(others, key=lambda body: body["seed"]) == seeded


async def test_a_base_row_asks_generate_with_the_plain_prompt(server) -> None:
    async with opened(row(server, instruct=False)) as backend:
        await backend.generate(call(), [GREEDY, DRAWN])
    prompt = f"{QUESTION.system}\n\n{QUESTION.user}"
    (first,) = server.asked("/generate_stream")
    assert first == {"inputs": prompt, "parameters": {"details": True, "do_sample": False, "max_new_tokens": 10}}
    parameters = [body["parameters"] for body in server.asked("/generate")]
    seeds = [sample_seed(5, index) for index in range(4)]
    assert sorted(given["seed"] for given in parameters) == seeds
    assert all(
        (given["do_sample"], given["temperature"], given["details"]) == (True, 0.7, True) for given in parameters
    )


@pytest.mark.parametrize("instruct", [True, False])
async def test_another_name_is_that_of_an_adapter_on_every_path(server, instruct: bool) -> None:
    async with opened(row(server, instruct=instruct, served_model="clinical-lora")) as backend:
        await backend.generate(call(), [GREEDY, DRAWN])
        await backend.score(call(), [" Spleen"])
    # The first two are the look whether the adapter is known: under its name, and as the base model.
    looks, asked = server.asked("/generate")[:2], server.asked("/generate")[2:]
    assert [body["parameters"].get("adapter_id") for body in looks] == ["clinical-lora", None]
    for body in asked + server.asked("/generate_stream"):
        assert body["parameters"]["adapter_id"] == "clinical-lora"
    assert all(body["model"] == "clinical-lora" for body in server.asked("/v1/chat/completions"))
    assert len(generations(server)) == 2 + 6


async def test_samples_without_greedy_are_one_stream_and_the_rest_behind_it(server, backend) -> None:
    (generation,) = (await backend.generate(call(), [DRAWN])).items
    assert len(generation.outputs) == len(generations(server)) == 4
    assert 0 < generation.time_to_first_token_s < generation.elapsed_s
    (alone,) = (await backend.generate(call(), [Sampling(0.7, 10, sample_seed(5, 2))])).items
    assert alone.outputs == generation.outputs[2:3]
    assert alone.prompt_tokens == generation.prompt_tokens > 10


async def test_k_samples_go_at_once_but_no_more_than_the_places(server) -> None:
    slow = FakeOptions(token_s=0.02)
    async with FakeTgi(slow) as one, opened(row(one, concurrency=3)) as backend:
        await backend.generate(call(), [GREEDY, Sampling(0.7, 10, 1, 9)])
        assert one.peak == 3


async def test_the_calls_of_one_prompt_go_to_one_replica() -> None:
    async with FakeTgi() as one, FakeTgi() as two, opened(row(one, two)) as backend:
        for number in range(4):
            asked = call(messages=Messages("", f"Question {number}"))
            await backend.generate(asked, [GREEDY, DRAWN])
        by_replica = [[body["messages"][0]["content"] for body in s.asked("/v1/chat/completions")] for s in (one, two)]
        assert all(by_replica)
        assert not set(by_replica[0]) & set(by_replica[1])


async def test_a_stop_text_is_cut_off_wherever_it_stands_and_however_many_there_are(server, backend) -> None:
    prose = call(messages=Messages("", "What is it?"))
    stops = ("never", "nowhere", "no", "none", "er i")
    (whole,) = (await backend.generate(prose, [Sampling(0.0, 10)])).items
    assert "answer is" in whole.outputs[0].text
    (cut,) = (await backend.generate(prose, [Sampling(0.0, 10, stop=stops)])).items
    assert (cut.outputs[0].text, cut.outputs[0].finish_reason) == ("The answ", "stop")
    events = [event async for event in backend.stream(prose, Sampling(0.0, 10, stop=stops))]
    assert "".join(events[:-1]) == "The answ"
    assert events[-1].outputs == cut.outputs


@pytest.mark.parametrize(
    ("fault", "error", "asked"),
    [
        ("generation", BackendError, 2),
        ("incomplete", BackendError, 2),
        ("failed", BackendError, 2),
        ("garbage", GarbageAnswerError, 1),
    ],
)
async def test_what_is_repeated_once_or_never(
    server, backend, fault: str, error: type[BackendError], asked: int
) -> None:
    server.faults.extend([Fault(fault)] * 2)
    with pytest.raises(error) as caught:
        await backend.generate(call(), [GREEDY])
    assert not caught.value.retryable
    assert len(generations(server)) == asked
    server.faults.clear()
    (after,) = (await backend.generate(call(), [GREEDY])).items
    assert after.outputs[0].text in "ABC"


@pytest.mark.parametrize("fault", ["reset", "truncated", "overload", "unavailable", "generation", "incomplete"])
@pytest.mark.parametrize("number", [0, 3])
async def test_a_call_that_failed_on_the_way_is_asked_again(server, backend, fault: str, number: int) -> None:
    expected = (await backend.generate(call(), [GREEDY, DRAWN])).items
    server.seen.clear()
    # The slow ones pass: they let the fault meet the call of that number.
    server.faults.extend([*[Fault("slow")] * number, Fault(fault)])
    answered = await backend.generate(call(), [GREEDY, DRAWN])
    assert [item.outputs for item in answered.items] == [item.outputs for item in expected]
    assert len(generations(server)) == 6
    assert answered.waited_s > 0


async def test_overload_lasts_no_longer_than_it_may(server) -> None:
    async with opened(row(server, retry_for_s=0.2)) as backend:
        server.faults.extend([Fault("overload")] * 1000)
        with pytest.raises(BackendOverloadedError) as caught:
            await backend.generate(call(), [GREEDY])
        assert caught.value.retryable


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
async def test_a_server_that_hangs_is_a_timeout_that_is_not_repeated(server, backend, sampling: Sampling) -> None:
    server.faults.extend([Fault("slow"), Fault("hang")])
    with pytest.raises(BackendTimeoutError):
        await backend.generate(call(timeout_s=0.2), [GREEDY, sampling])
    assert len(generations(server)) <= 1 + sampling.count


async def test_the_deadline_ends_exchanges_and_repeats(server, backend) -> None:
    server.faults.extend([Fault("reset")] * 1000)
    with pytest.raises((BackendTimeoutError, BackendUnavailableError)):
        await backend.generate(call(deadline=time.monotonic() + 0.3), [GREEDY])


async def test_a_stream_tells_its_error_and_is_not_repeated(server, backend) -> None:
    for fault, error in (
        ("overload", BackendOverloadedError),
        ("generation", BackendError),
        ("truncated", BackendUnavailableError),
    ):
        server.faults.append(Fault(fault))
        server.seen.clear()
        with pytest.raises(error):
            _ = [event async for event in backend.stream(call(messages=Messages("", "Why?")), GREEDY)]
        assert len(generations(server)) == 1


async def test_an_answer_that_the_server_cut_is_no_answer(server, backend) -> None:
    prose = call(messages=Messages("", "Why?"))
    (asked,) = (await backend.generate(prose, [Sampling(0.0, 150)])).items
    assert asked.outputs[0].finish_reason == "length"
    # An answer of 204 tokens ends by itself.
    (whole,) = (await backend.generate(prose, [Sampling(0.0, 2000)])).items
    assert whole.outputs[0].finish_reason == "stop"


async def test_an_answer_over_the_cap_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("tests.support.fakes.tgi_jobs.CAP", 50)
    async with FakeTgi() as server, opened(row(server)) as backend:
        with pytest.raises(BackendRefusedError, match="50 of 2,000"):
            await backend.generate(call(messages=Messages("", "Why?")), [Sampling(0.0, 2000)])


@pytest.mark.parametrize("instruct", [True, False])
async def test_room_for_long_answers_is_checked_before_they_are_asked(instruct: bool) -> None:
    options = FakeOptions(max_input_tokens=100, max_total_tokens=2000)
    async with FakeTgi(options) as server, opened(row(server, instruct=instruct)) as backend:
        cases = [(Messages("", "a " * 60), 1990, "2000"), (Messages("", "a " * 200), 1100, "100")]
        for messages, new, window in cases:
            with pytest.raises(PromptTooLongError) as caught:
                await backend.generate(call(messages=messages), [Sampling(0.0, new)])
            assert caught.value.details["window_tokens"] == window
            with pytest.raises(PromptTooLongError):
                _ = [event async for event in backend.stream(call(messages=messages), Sampling(0.0, new))]
        assert generations(server) == []


async def test_the_revision_names_weights_and_version(server) -> None:
    sha = server.options.model_sha
    async with opened(row(server)) as backend:
        assert await backend.revision() == f"{sha} (tgi 3.3.6)"
    async with opened(row(server, revision=sha)) as backend:
        assert await backend.revision() == f"{sha} (tgi 3.3.6)"
    async with opened(row(server, revision="another")) as backend:
        with pytest.raises(BackendError, match="the catalog states another"):
            await backend.revision()
    async with FakeTgi(FakeOptions(model_sha=None)) as local, opened(row(local)) as backend:
        assert await backend.revision() == "fake/letters@unknown (tgi 3.3.6)"


async def test_replicas_that_serve_another_model_are_refused() -> None:
    other = FakeOptions(model_id="other/model")
    async with FakeTgi() as one, FakeTgi(other) as two, opened(row(one, two)) as backend:
        with pytest.raises(ModelChangedError, match="expected one model, on all replicas"):
            await asyncio.gather(*(backend.generate(call(), [GREEDY]) for _ in range(4)))


async def test_a_server_that_comes_back_is_used_and_asked_anew_what_it_serves(monkeypatch) -> None:
    # Here models are loaded at once.
    monkeypatch.setattr(tgi, "INFO_FRESH_S", 0.0)
    server = FakeTgi()
    await server.start()
    port = int(server.url.rpartition(":")[2])
    async with opened(row(server, retry_for_s=20)) as backend:
        before = await backend.generate(call(), [GREEDY])
        await server.stop()
        waiting = asyncio.create_task(backend.generate(call(), [GREEDY]))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await server.start(port)
        assert (await waiting).items[0].outputs == before.items[0].outputs
        await server.stop()
        other = FakeTgi(FakeOptions(model_sha="f" * 40))
        await other.start(port)
        with pytest.raises(ModelChangedError, match="f" * 40):
            await backend.generate(call(), [GREEDY])
        # From then on the answers are those of the new weights, under their revision.
        assert await backend.revision() == f"{'f' * 40} (tgi 3.3.6)"
        assert (await backend.generate(call(), [GREEDY])).items
        await other.stop()


async def test_the_key_is_sent_and_its_absence_is_told(tmp_path, monkeypatch) -> None:
    key = tmp_path / "key"
    key.write_text("sk-test\n")
    async with FakeTgi(FakeOptions(api_key="sk-test")) as server:
        async with opened(row(server, api_key_file=str(key))) as backend:
            await backend.generate(call(), [GREEDY, DRAWN])
            await backend.score(call(), [" Spleen"])
            await backend.tokenize(["a"], None)
        async with opened(row(server)) as backend:
            with pytest.raises(BackendRefusedError, match="api_key_file"):
                await backend.generate(call(), [GREEDY])
    async with opened(row(server, api_key_file=str(tmp_path / "absent"), retry_for_s=0.1)) as backend:
        assert "absent" in backend.unavailable_reason()
        with pytest.raises(BackendUnavailableError, match="absent"):
            await backend.revision()


async def test_nothing_of_this_machine_is_sent(server, backend, monkeypatch) -> None:
    def no_look_up() -> str:
        raise AssertionError("the machine's token was looked up")

    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", no_look_up)
    monkeypatch.setattr("huggingface_hub.inference._providers.hf_inference.get_token", no_look_up)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    await backend.generate(call(), [GREEDY, DRAWN])
    for seen in server.seen:
        headers = {name.lower(): value for name, value in seen.headers.items()}
        assert "authorization" not in headers
        assert headers["user-agent"] == "safescale"


async def test_scores_are_refused_where_the_server_gives_none() -> None:
    async with FakeTgi(FakeOptions(prefill_logprobs=False)) as server, opened(row(server)) as backend:
        with pytest.raises(BackendRefusedError, match="--enable-prefill-logprobs"):
            await backend.score(call(), [" Spleen"])


async def test_scores_ask_the_prompt_with_each_continuation(server, backend) -> None:
    scores = await backend.score(call(), [" Spleen", " Heart beat"])
    assert [score.tokens for score in scores.items] == [1, 2]
    inputs = sorted(body["inputs"] for body in server.asked("/generate"))
    ends = [text.rpartition("Answer:")[2] for text in inputs]
    assert [end.endswith(text) for end, text in zip(ends, ["Heart beat", "Spleen"], strict=True)] == [True, True]
    assert all(body["parameters"]["max_new_tokens"] == 1 for body in server.asked("/generate"))
    (greedy,) = (await backend.generate(call(), [GREEDY])).items
    assert scores.prompt_tokens == greedy.prompt_tokens
    with pytest.raises(InvalidInputError):
        await backend.score(call(), [""])


async def test_tokens_are_counted_beside_generations_that_take_every_place() -> None:
    async with FakeTgi(FakeOptions(token_s=5.0)) as server, opened(row(server, concurrency=1)) as backend:
        running = asyncio.create_task(backend.generate(call(), [GREEDY]))
        async with asyncio.timeout(4):
            assert (await backend.tokenize(["one two"], 1)).truncated == ("one",)
        running.cancel()


async def test_a_reader_that_leaves_gives_its_place_back(
    server: FakeTgi, backend_of: Callable[..., TgiBackend]
) -> None:
    backend = backend_of(server, concurrency=1)
    for _ in range(3):
        events = backend.stream(call(messages=Messages("", "Why?")), Sampling(0.0, 100))
        assert isinstance(await anext(events), str)
        await events.aclose()
    whole = [event async for event in backend.stream(call(), GREEDY)][-1]
    assert isinstance(whole, Generation)
    await backend.close()


@pytest.fixture
def backend_of() -> Callable[..., TgiBackend]:
    return lambda *servers, **endpoint: TgiBackend(row(*servers, **endpoint), Telemetry())
