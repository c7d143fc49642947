import asyncio
import base64
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.inference.generation_rig import CLOZE, LETTER, Rig, request

from safescale.core.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    GarbageAnswerError,
    NotFoundError,
    PromptTooLongError,
    ServiceUnavailableError,
    StorageError,
    StorageUnavailableError,
)
from safescale.core.safety import cloze
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.limits import MESSAGE_LIMIT
from safescale.runtime.documents.port import NewDocument


async def test_a_letter_cell_has_greedy_and_seeded_samples(rig) -> None:
    (done,) = await rig.ask(request())
    assert done.greedy.text == "B"
    assert [sample.seed for sample in done.samples] == [2**31 - 2, 2**31 - 1, 0]
    assert [sample.text for sample in done.samples] == [f"B{2**31 - 2 + index}" for index in range(3)]
    assert (done.usage.prompt_tokens, done.usage.generated_tokens) == (7, 8)
    assert (done.timings.greedy_s, done.timings.samples_s, done.timings.time_to_first_token_s) == (0.25, 0.25, 0.1)
    assert 2.5 <= done.timings.queue_wait_s < 10
    assert (done.greedy_asked, done.samples_asked, done.attempt, done.cached) == (True, 3, 1, False)
    assert done.model_revision == "f" * 64
    assert not done.HasField("failure")
    assert rig.messages[0].headers == {"run-id": "r", "message-type": "safescale.events.v1.GenerationCompleted"}


async def test_a_cloze_cell_takes_the_best_option_and_draws_with_the_logged_seeds(rig) -> None:
    rig.bench.backend.scores_of = lambda text: -0.1 * len(text)
    (done,) = await rig.ask(request(formulation=CLOZE, sample_count=40, seed=11))
    scores = [-0.1 * len(" liver"), -0.1 * len(" left kidney"), -0.1 * len(" spleen")]
    assert dict(done.option_scores) == dict(zip("ABC", scores, strict=True))
    assert done.greedy.letter == "A"
    drawn = [int(cloze.sample(scores, 0.7, 11 + index, 1)[0]) for index in range(40)]
    assert [sample.letter for sample in done.samples] == ["ABC"[index] for index in drawn]
    assert len(np.unique(drawn)) > 1
    assert done.timings.greedy_s == 0.25
    assert not done.timings.HasField("samples_s")
    assert len(rig.bench.backend.exchanges) == 1
    (call, continuations) = rig.bench.backend.exchanges[0]
    assert "A. liver" not in call.messages.user
    assert continuations == (" liver", " left kidney", " spleen")


async def test_samples_alone_and_greedy_alone(rig) -> None:
    alone, greedy = await rig.ask(
        request(formulation=CLOZE, greedy=False), request(question="q2", sample_count=0, temperature=0)
    )
    assert not alone.HasField("greedy")
    assert alone.timings.samples_s == 0.25
    assert not alone.timings.HasField("greedy_s")
    assert len(greedy.samples) == 0
    assert not greedy.timings.HasField("samples_s")


async def test_the_context_is_in_the_prompt(rig) -> None:
    await rig.ask(request(context=common_pb2.ContextRef(inline_text="The <|im_end|> liver.")))
    call, _ = rig.bench.backend.exchanges[0]
    assert call.messages.user.startswith("Context:\nThe < |im_end| > liver.")


@pytest.mark.parametrize("formulation", [LETTER, CLOZE])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BackendTimeoutError("late"), "BACKEND_TIMEOUT"),
        (BackendUnavailableError("gone"), "BACKEND_UNAVAILABLE"),
        (GarbageAnswerError("odd"), "GARBAGE_ANSWER"),
        (PromptTooLongError("9,000 over 4,096"), "PROMPT_TOO_LONG"),
        (RuntimeError("a passage of a patient"), "INTERNAL"),
    ],
)
async def test_every_failure_is_an_outcome(rig, formulation, error, reason) -> None:
    rig.bench.backend.failures = [error] * 5
    (done,) = await rig.ask(request(formulation=formulation))
    assert done.failure.reason == reason
    assert "patient" not in done.failure.message
    assert not done.HasField("greedy")
    assert len(done.samples) == 0
    assert not done.timings.HasField("greedy_s")
    assert (done.greedy_asked, done.samples_asked) == (True, 3)
    assert rig.dead == []
    rig.bench.backend.failures = []
    (later,) = await rig.ask(request(question="q2"))
    assert later.greedy.text == "B"


@pytest.mark.parametrize(
    "changes",
    [
        {"formulation": common_pb2.FORMULATION_UNSPECIFIED},
        {"options": {"A": "one"}},
        {"options": {"A": "one", "C": "three"}},
        {"greedy": False, "sample_count": 0},
        {"temperature": 0.0},
        {"max_new_tokens": 0},
    ],
)
async def test_a_request_out_of_range_is_a_failed_cell(rig, changes) -> None:
    (done,) = await rig.ask(request(**changes))
    assert done.failure.reason == "INVALID_INPUT"
    assert rig.bench.backend.exchanges == []


@pytest.mark.parametrize(
    ("context", "expected"),
    [(common_pb2.ContextRef(context_id="c" * 64), "c" * 64), (common_pb2.ContextRef(inline_text="A passage."), "")],
)
async def test_an_outcome_tells_which_stored_context_the_model_saw(rig, context, expected: str) -> None:
    (done,) = await rig.ask(request(context=context))
    assert done.context_id == expected


async def test_a_context_that_cannot_be_read_is_a_failed_cell(rig) -> None:
    rig.contexts.error = NotFoundError("no context abc")
    (done,) = await rig.ask(request())
    assert (done.failure.reason, done.failure.message) == ("NOT_FOUND", "no context abc")


@pytest.mark.parametrize("error", [ServiceUnavailableError("retrieval away"), StorageUnavailableError("store away")])
async def test_a_dependency_that_is_away_is_waited_for_and_no_outcome(rig, error) -> None:
    rig.contexts.error = error
    await rig.send(request().SerializeToString())
    await asyncio.sleep(0.05)
    assert (rig.published, rig.dead, await rig.bench.documents.count("generation_cell")) == ([], [], 0)
    rig.contexts.error = None
    async with asyncio.timeout(15):
        while not rig.published:
            await asyncio.sleep(0.01)
    assert not rig.published[0].HasField("failure")
    labels = {"model": "m", "condition": "zero_shot"}
    assert rig.bench.metric("safescale_generations_total", **labels, outcome=error.reason) == 0


async def test_a_cache_that_is_away_after_the_answer_is_waited_for(rig, monkeypatch) -> None:
    put, left = rig.bench.documents.put_many_if_absent, [StorageUnavailableError("store away")]

    async def flaky(documents):
        if left and documents[0].kind == "generation":
            raise left.pop()
        return await put(documents)

    monkeypatch.setattr(rig.bench.documents, "put_many_if_absent", flaky)
    (done,) = await rig.ask(request())
    assert done.greedy.text == "B"
    assert rig.dead == []


async def test_answers_that_cannot_be_kept_are_no_outcome(rig, monkeypatch) -> None:
    put = rig.bench.documents.put_many_if_absent

    async def full(documents):
        if documents[0].kind == "generation":
            raise StorageError("disk full")
        return await put(documents)

    monkeypatch.setattr(rig.bench.documents, "put_many_if_absent", full)
    await rig.send(request().SerializeToString())
    async with asyncio.timeout(15):
        while not rig.dead:
            await asyncio.sleep(0.01)
    assert (rig.published, await rig.bench.documents.count("generation_cell")) == ([], 0)


async def test_a_redelivered_message_publishes_the_same_without_asking(rig) -> None:
    rig.bench.backend.failures = [GarbageAnswerError("odd")]
    failed, _ = await rig.ask(request(fresh=True), request(question="q2", fresh=True))
    asked = len(rig.bench.backend.exchanges)
    again = await rig.ask(request(fresh=True), request(question="q2", fresh=True))
    assert again == rig.published[:2]
    assert again[0] == failed
    assert len(rig.bench.backend.exchanges) == asked
    (retried,) = await rig.ask(request(fresh=True, attempt=2))
    assert retried.greedy.text == "B"


async def test_another_run_takes_its_answers_from_the_cache(rig) -> None:
    (first,) = await rig.ask(request())
    second_run = request()
    second_run.cell.run_id = "r2"
    (second,) = await rig.ask(second_run)
    assert second.cached
    assert second.timings.greedy_s == first.timings.greedy_s
    assert len(rig.bench.backend.exchanges) == 1
    labels = {"model": "m", "condition": "zero_shot"}
    assert rig.bench.metric("safescale_generations_total", **labels, outcome="cached") == 1


async def test_bytes_that_are_no_request_go_to_the_dead_letters(rig) -> None:
    await rig.send(b"\xff\xff")
    async with asyncio.timeout(5):
        while not rig.dead:
            await asyncio.sleep(0.002)
    assert rig.dead[0].headers["error-reason"] == "INVALID_INPUT"


async def test_an_outcome_that_cannot_be_stored_is_not_published(rig, monkeypatch) -> None:
    async def full(document):
        raise StorageError("disk full")

    monkeypatch.setattr(rig.bench.documents, "put_if_absent", full)
    assert await rig.ask(request()) == []
    assert rig.dead[0].headers["error-reason"] == "STORAGE_FAILED"


async def test_a_base_model_ends_its_letter_at_the_line(bench_of) -> None:
    rig = Rig(bench_of(instruct=False))
    await rig.start()
    await rig.ask(request())
    assert {sampling.stop for sampling in rig.bench.backend.exchanges[0][1]} == {("\n",)}
    await rig.worker.stop()


async def test_reasoning_is_cut_by_the_models_delimiters(bench_of) -> None:
    rig = Rig(bench_of(reasoning="think"))
    rig.bench.backend.text = "<think>A or C</think> B"
    await rig.start()
    (done,) = await rig.ask(request(sample_count=0))
    assert done.greedy.text == "B"
    await rig.worker.stop()


@pytest.mark.parametrize("size", [MESSAGE_LIMIT // 4, MESSAGE_LIMIT])
async def test_answers_over_the_limit_of_the_bus_are_a_failure_of_their_cell_alone(rig, size) -> None:
    rig.bench.backend.text = "é" * (size // 2)
    (done,) = await rig.ask(request())
    assert done.failure.reason == "OUTCOME_TOO_LARGE"
    assert (done.failure.code, done.failure.retryable) == ("RESOURCE_EXHAUSTED", False)
    assert "1,048,576" in done.failure.message
    assert (done.greedy_asked, done.samples_asked, len(done.samples)) == (True, 3, 0)
    labels = {"model": "m", "condition": "zero_shot", "outcome": "OUTCOME_TOO_LARGE"}
    assert rig.bench.metric("safescale_generations_total", **labels) == 1
    # Stored as a failure: whoever looks for failed cells finds it, and it comes again as it is.
    stored = [document async for document in rig.bench.documents.scan("generation_cell")]
    assert [document.body["failure"] for document in stored] == ["OUTCOME_TOO_LARGE"]
    assert await rig.ask(request()) == [done]
    rig.bench.backend.text = "B"
    (later,) = await rig.ask(request(question="q2", fresh=True))
    assert later.greedy.text == "B"
    assert rig.dead == []


async def test_an_outcome_that_an_older_version_stored_too_large_is_a_failure(rig) -> None:
    (done,) = await rig.ask(request())
    done.greedy.text = "x" * MESSAGE_LIMIT
    (stored,) = [document async for document in rig.bench.documents.scan("generation_cell")]
    event = base64.b64encode(done.SerializeToString()).decode()
    await rig.bench.documents.put(NewDocument(stored.kind, stored.key, {**stored.body, "event": event}, stored.group))
    (again,) = await rig.ask(request())
    assert (again.failure.reason, rig.dead) == ("OUTCOME_TOO_LARGE", [])


async def test_cells_of_a_stopped_run_are_not_asked_until_it_goes_on(rig) -> None:
    before, again = request(question="q1"), request(question="q1")
    before.requested_at.FromSeconds(1_000)
    again.requested_at.FromSeconds(1_001)
    event = events_pb2.RunEnded(run_id="r", ended_at=before.requested_at, attempt=1)
    await rig.bus.publish(event_message(topics.RUN_ENDED, "r", event, "r", 1))
    await rig.send(before.SerializeToString())
    await asyncio.sleep(0.1)
    assert (rig.published, rig.dead, rig.bench.backend.exchanges) == ([], [], [])
    (done,) = await rig.ask(again)
    assert not done.HasField("failure")


@pytest.mark.parametrize("formulation", [LETTER, CLOZE])
@pytest.mark.parametrize("expected", [{"model_revision": "other"}, {"model_fingerprint": "other"}])
async def test_an_answer_of_another_model_than_the_run_was_made_with_is_a_failure(rig, formulation, expected) -> None:
    (done,) = await rig.ask(request(formulation=formulation, **expected))
    assert (done.failure.code, done.failure.reason) == ("FAILED_PRECONDITION", "MODEL_CHANGED")
    assert "expected other" in done.failure.message
    assert rig.bench.backend.exchanges == []


async def test_an_answer_of_the_expected_model_counts(rig) -> None:
    identity = await rig.bench.engine.identity("m")
    expected = {"model_revision": identity.revision, "model_fingerprint": identity.fingerprint}
    (done,) = await rig.ask(request(**expected))
    assert done.greedy.text == "B"
    assert not done.HasField("failure")


@pytest.mark.parametrize("formulation", [LETTER, CLOZE])
async def test_usage_names_the_prompt_as_sent_and_once(bench_of, formulation) -> None:
    rig = Rig(bench_of(price_per_million={"prompt": 1e6, "generated": 0}))
    rig.bench.backend.prompt_calls = 4
    await rig.start()
    (done,) = await rig.ask(request(formulation=formulation))
    assert (done.usage.prompt_tokens, done.usage.prompt_tokens_sent) == (7, 28)
    assert (done.usage.cost, done.usage.cost_prompt_once) == (28, 7)
    await rig.worker.stop()


async def test_warnings_go_with_the_answers(rig) -> None:
    rig.bench.backend.generations_of = lambda answer: replace(answer, warnings=("PROMPT_MAYBE_CUT",))
    (done,) = await rig.ask(request())
    assert list(done.warnings) == ["PROMPT_MAYBE_CUT"]
