import asyncio
import time
from dataclasses import replace

import pytest
from tests.support.spans import RecordedSpans
from tests.unit.inference.conftest import DRAWN, GREEDY, QUESTION

from safescale.core.errors import (
    BackendOverloadedError,
    BackendTimeoutError,
    BackendUnavailableError,
    FailedPreconditionError,
    GarbageAnswerError,
    NotFoundError,
    PromptTooLongError,
    StorageError,
    StorageUnavailableError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.port import Generation, Generations, Output
from safescale.inference.cache.store import GenerationCache
from safescale.inference.engine import GeneratedTexts

LATENCY = "safescale_model_latency_seconds"


async def test_the_second_asking_comes_from_the_cache_with_the_first_ones_seconds(bench) -> None:
    first = await bench.engine.texts(QUESTION, [GREEDY, DRAWN])
    again = await bench.engine.texts(replace(QUESTION, condition="top_1"), [GREEDY, DRAWN])
    assert again.generations == first.generations
    assert (first.cached, again.cached) == ((False, False), (True, True))
    assert (first.waited_s, again.waited_s) == (0.5, 0.0)
    assert len(bench.backend.exchanges) == 1


async def test_only_what_is_missing_is_asked(bench) -> None:
    await bench.engine.texts(QUESTION, [GREEDY])
    texts = await bench.engine.texts(QUESTION, [GREEDY, DRAWN])
    assert texts.cached == (True, False)
    assert bench.backend.exchanges[-1][1] == (DRAWN,)


async def test_fresh_passes_by_the_cache_and_stores_all_the_same(bench) -> None:
    await bench.engine.texts(QUESTION, [GREEDY])
    bench.backend.text = "C"
    fresh = await bench.engine.texts(replace(QUESTION, fresh=True), [GREEDY])
    assert fresh.generations[0].outputs[0].text == "C"
    later = await bench.engine.texts(QUESTION, [GREEDY])
    assert later.generations[0].outputs[0].text == "C"
    assert later.cached == (True,)


async def test_another_fingerprint_or_prompt_is_asked_anew(bench) -> None:
    await bench.engine.texts(QUESTION, [GREEDY])
    bench.backend.fingerprint = "scripted 2"
    assert (await bench.engine.texts(QUESTION, [GREEDY])).cached == (False,)
    other = replace(QUESTION, messages=Messages("s", "u2"))
    assert (await bench.engine.texts(other, [GREEDY])).cached == (False,)


async def test_equal_requests_at_once_share_one_call(bench) -> None:
    bench.backend.gate = asyncio.Event()
    tasks = [asyncio.create_task(bench.engine.texts(QUESTION, [GREEDY])) for _ in range(5)]
    tasks += [asyncio.create_task(bench.engine.scores(QUESTION, ["a", "b"])) for _ in range(5)]
    while len(bench.backend.exchanges) < 2:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    tasks[0].cancel()
    bench.backend.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert not any(isinstance(result, BaseException) for result in results[1:])
    assert len(bench.backend.exchanges) == 2


@pytest.mark.parametrize("error", [BackendUnavailableError("gone"), BackendOverloadedError("busy")])
async def test_transport_failures_are_retried_and_never_count_as_latency(bench, error) -> None:
    bench.backend.failures = [error, error]
    texts = await bench.engine.texts(QUESTION, [GREEDY])
    assert texts.generations[0].elapsed_s == 0.25
    assert len(bench.backend.exchanges) == 3
    labels = {"model": "m", "condition": "zero_shot"}
    assert bench.metric(f"{LATENCY}_count", **labels, outcome=error.reason) == 2
    assert bench.metric(f"{LATENCY}_sum", **labels, outcome="ok") == 0.25
    assert bench.metric("safescale_generation_retries_total", model="m", reason=error.reason) == 2


async def test_retries_are_bounded(bench) -> None:
    bench.backend.failures = [BackendUnavailableError("gone")] * 9
    with pytest.raises(BackendUnavailableError):
        await bench.engine.texts(QUESTION, [GREEDY])
    assert len(bench.backend.exchanges) == 3


@pytest.mark.parametrize("error", [BackendTimeoutError("late"), GarbageAnswerError("?"), PromptTooLongError("long")])
async def test_other_failures_are_not_retried_nor_cached(bench, error) -> None:
    for ask in (bench.engine.texts(QUESTION, [GREEDY]), bench.engine.scores(QUESTION, ["a", "b"])):
        bench.backend.failures = [error]
        with pytest.raises(type(error)):
            await ask
    assert len(bench.backend.exchanges) == 2
    assert await bench.documents.count("generation") == 0
    assert bench.metric(f"{LATENCY}_count", model="m", condition="zero_shot", outcome=error.reason) == 2


@pytest.mark.parametrize(
    "broken",
    [
        lambda answer: Generations((), 0.0),
        lambda answer: Generations((replace(answer.items[0], outputs=()),), 0.0),
        lambda answer: Generations((replace(answer.items[0], elapsed_s=0.0),), 0.0),
    ],
)
async def test_answers_of_another_shape_are_garbage(bench, broken) -> None:
    bench.backend.generations_of = broken
    with pytest.raises(GarbageAnswerError):
        await bench.engine.texts(QUESTION, [GREEDY])


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 0.5])
async def test_scores_that_are_no_log_probabilities_are_garbage(bench, value) -> None:
    bench.backend.scores_of = lambda text: value
    with pytest.raises(GarbageAnswerError):
        await bench.engine.scores(QUESTION, ["a", "b"])


async def test_scores_come_in_order_and_from_the_cache(bench) -> None:
    first = await bench.engine.scores(QUESTION, [" long one", " a"])
    assert [score.mean_logprob for score in first.scores.items] == [-9.0, -2.0]
    again = await bench.engine.scores(QUESTION, [" long one", " a"])
    assert (first.cached, again.cached) == (False, True)
    assert again.scores.items == first.scores.items


async def test_a_model_that_cannot_be_asked_says_why_without_a_retry(bench) -> None:
    bench.backend.reason = "the package x is not installed"
    with pytest.raises(BackendUnavailableError, match="package x is not installed"):
        await bench.engine.texts(QUESTION, [GREEDY])
    assert not bench.backend.exchanges
    with pytest.raises(NotFoundError):
        await bench.engine.texts(replace(QUESTION, model="absent"), [GREEDY])


async def test_a_backend_without_scores_is_told_before_it_is_asked(bench) -> None:
    bench.backend.can_score = False
    with pytest.raises(FailedPreconditionError, match="letter formulation"):
        await bench.engine.scores(QUESTION, ["a", "b"])
    assert not bench.backend.exchanges


async def test_a_stream_gives_pieces_then_the_whole_then_comes_from_the_cache(bench) -> None:
    bench.backend.text = "xyz"
    events = [event async for event in bench.engine.stream(QUESTION, GREEDY)]
    assert events[:-1] == ["x", "y", "z"]
    assert isinstance(events[-1], GeneratedTexts)
    assert events[-1].generations[0].outputs[0].text == "xyz"
    again = [event async for event in bench.engine.stream(QUESTION, GREEDY)]
    assert again[0] == "xyz"
    assert again[-1].cached == (True,)
    assert (await bench.engine.texts(QUESTION, [GREEDY])).cached == (True,)


async def test_a_stream_that_ends_without_a_result_is_garbage(bench) -> None:
    async def stream(call, sampling):
        yield "half"

    bench.backend.stream = stream
    with pytest.raises(GarbageAnswerError):
        _ = [event async for event in bench.engine.stream(QUESTION, GREEDY)]


async def test_tokens_and_cost_are_counted_once(bench_of) -> None:
    bench = bench_of(price_per_million={"prompt": 1e6, "generated": 2e6})
    for _ in range(2):
        await bench.engine.texts(QUESTION, [GREEDY, DRAWN])
    labels = {"model": "m", "condition": "zero_shot"}
    assert bench.metric("safescale_tokens_total", **labels, kind="prompt") == 7
    assert bench.metric("safescale_tokens_total", **labels, kind="generated") == 10
    assert bench.metric("safescale_cost_total", **labels) == 7 + 20


async def test_only_what_was_asked_now_costs(bench_of) -> None:
    bench = bench_of(price_per_million={"prompt": 1e6, "generated": 2e6})
    bench.backend.gate = asyncio.Event()
    tasks = [asyncio.create_task(bench.engine.texts(QUESTION, [GREEDY, DRAWN])) for _ in range(2)]
    while not bench.backend.exchanges:
        await asyncio.sleep(0.005)
    bench.backend.gate.set()
    assert [(await task).cost for task in tasks] == [27.0, 0.0]
    assert (await bench.engine.texts(QUESTION, [GREEDY, DRAWN])).cost == 0.0
    assert [(await bench.engine.scores(QUESTION, ["a b", "c"])).cost for _ in range(2)] == [7.0 + 6.0, 0.0]
    free = bench_of()
    assert (await free.engine.texts(QUESTION, [GREEDY])).cost is None


async def test_a_backend_that_repeats_by_itself_is_asked_once_and_its_waits_are_no_latency(bench) -> None:
    bench.backend.repeats = True
    bench.backend.failures = [BackendUnavailableError("gone")]
    with pytest.raises(BackendUnavailableError):
        await bench.engine.texts(QUESTION, [GREEDY])
    assert len(bench.backend.exchanges) == 1
    labels = {"model": "m", "condition": "zero_shot"}
    assert bench.metric(f"{LATENCY}_count", **labels, outcome="BACKEND_UNAVAILABLE") == 0
    await bench.engine.texts(QUESTION, [GREEDY])
    assert bench.metric(f"{LATENCY}_sum", **labels, outcome="ok") == 0.25


@pytest.mark.parametrize("repeats", [False, True])
async def test_all_about_one_prompt_ends_at_its_deadline(bench_of, repeats) -> None:
    bench = bench_of(deadline_s=0.1)
    bench.backend.repeats = repeats
    bench.backend.gate = asyncio.Event()
    begin = time.monotonic()
    for ask in (bench.engine.texts(QUESTION, [GREEDY]), bench.engine.scores(QUESTION, ["a", "b"])):
        with pytest.raises(BackendTimeoutError, match=r"within 0.1 s, waits and retries included"):
            await ask
    for call, _ in bench.backend.exchanges:
        assert begin < call.deadline <= time.monotonic() + 0.1
        assert call.timeout_s == 5.0
    assert await bench.documents.count("generation") == 0


async def test_each_way_of_asking_is_a_span(bench) -> None:
    spans = RecordedSpans()
    bench.telemetry.tracer = spans.tracer
    await bench.engine.texts(QUESTION, [DRAWN])
    await bench.engine.scores(QUESTION, ["a", "b"])
    _ = [event async for event in bench.engine.stream(QUESTION, GREEDY)]
    found = [(span.name, dict(span.attributes)) for span in spans.ended]
    assert found == [("model", {"model": "m", "condition": "zero_shot"})] * 3


async def test_the_first_token_of_a_stream_is_observed(bench) -> None:
    _ = [event async for event in bench.engine.stream(QUESTION, GREEDY)]
    labels = {"model": "m", "condition": "zero_shot"}
    assert bench.metric("safescale_time_to_first_token_seconds_sum", **labels) == 0.1
    assert bench.metric(f"{LATENCY}_sum", **labels, outcome="ok") == 0.25


@pytest.mark.parametrize("error", [StorageUnavailableError("store away"), StorageError("disk full")])
async def test_a_cache_that_fails_is_told(bench, monkeypatch, error) -> None:
    async def fail(*_):
        raise error

    monkeypatch.setattr(bench.documents, "put_many_if_absent", fail)
    with pytest.raises(type(error)):
        await bench.engine.texts(QUESTION, [GREEDY])


async def test_the_first_answer_stays_in_the_cache_unless_a_fresh_one_is_asked(bench) -> None:
    cache = GenerationCache(bench.documents)
    old, new = (Generation((Output(text, "", "stop", 1),), 7, 0.25, None) for text in ("old", "new"))
    await cache.put_generations({"k": old}, replace=False)
    await cache.put_generations({"k": new}, replace=False)
    assert (await cache.generations(["k"]))["k"] == old
    await cache.put_generations({"k": new}, replace=True)
    assert (await cache.generations(["k"]))["k"] == new


@pytest.mark.parametrize(("retry_for_s", "found"), [(30, True), (0, False)])
async def test_a_server_that_does_not_tell_its_revision_yet_is_waited_for(
    bench_of, monkeypatch, retry_for_s, found
) -> None:
    endpoint = {"urls": ["http://gpu-1:8000"], "retry_for_s": retry_for_s}
    bench = bench_of(backend="openai", embedded=None, endpoint=endpoint, revision=None)
    away = [BackendTimeoutError("late"), BackendUnavailableError("gone"), BackendUnavailableError("gone")]

    async def revision(*, refresh: bool = False) -> str:
        if away:
            raise away.pop()
        return "r1"

    monkeypatch.setattr(bench.backend, "revision", revision)
    if found:
        assert (await bench.engine.texts(QUESTION, [GREEDY])).revision == "r1"
    else:
        with pytest.raises(BackendUnavailableError):
            await bench.engine.texts(QUESTION, [GREEDY])


async def test_what_was_odd_about_an_answer_comes_with_it_from_the_cache_too(bench) -> None:
    bench.backend.generations_of = lambda answer: replace(answer, warnings=("PROMPT_MAYBE_CUT",))
    for _ in range(2):
        assert (await bench.engine.texts(QUESTION, [GREEDY, DRAWN])).warnings == ("PROMPT_MAYBE_CUT",)


async def test_the_prompt_counts_as_often_as_it_was_sent_and_once(bench_of) -> None:
    bench = bench_of(price_per_million={"prompt": 1e6, "generated": 2e6})
    bench.backend.prompt_calls = 5
    texts = await bench.engine.texts(QUESTION, [GREEDY, DRAWN])
    assert (texts.prompt_tokens, texts.prompt_tokens_sent, texts.generated_tokens) == (7, 35, 10)
    assert (texts.cost, texts.cost_prompt_once) == (35 + 20, 7 + 20)
    labels = {"model": "m", "condition": "zero_shot"}
    assert bench.metric("safescale_tokens_total", **labels, kind="prompt") == 35
    assert bench.metric("safescale_cost_total", **labels) == 55
    again = await bench.engine.texts(QUESTION, [GREEDY, DRAWN])
    assert (again.prompt_tokens_sent, again.cost, again.cost_prompt_once) == (35, 0.0, 0.0)
