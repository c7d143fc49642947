"""A model that changes behind the engine, or is another than the one expected."""

from dataclasses import replace

import pytest
from tests.unit.inference.conftest import DRAWN, GREEDY, QUESTION

from safescale.core.errors import (
    ModelChangedError,
)
from safescale.inference.identity import ModelIdentity


def swapped(bench, *revisions: str):
    """A backend behind which the weights change after each exchange, in this order."""
    left = list(revisions)

    def next_weights(answer):
        if left:
            bench.backend.weights = left.pop(0)
        return answer

    return next_weights


async def test_a_cell_during_which_the_model_changed_is_asked_again_whole(bench) -> None:
    bench.backend.generations_of = swapped(bench, "two")
    texts = await bench.engine.texts(QUESTION, [GREEDY, DRAWN])
    assert texts.revision == "two"
    assert [asked for _, asked in bench.backend.exchanges] == [(GREEDY, DRAWN)] * 2
    # What the first exchange gave may be of either and is nowhere: one entry for each sampling, of the second.
    assert await bench.documents.count("generation") == 2
    bench.backend.weights = "f" * 64
    assert (await bench.engine.texts(QUESTION, [GREEDY, DRAWN])).cached == (False, False)


async def test_half_a_cell_from_the_cache_is_not_mixed_with_another_revision(bench) -> None:
    await bench.engine.texts(QUESTION, [GREEDY])
    bench.backend.text = "C"
    bench.backend.generations_of = swapped(bench, "two")
    texts = await bench.engine.texts(QUESTION, [GREEDY, DRAWN])
    assert (texts.revision, texts.cached) == ("two", (False, False))
    assert texts.generations[0].outputs[0].text == "C"


async def test_scores_during_which_the_model_changed_are_asked_again(bench, monkeypatch) -> None:
    score = bench.backend.score

    async def once(call, continuations):
        bench.backend.weights = "two"
        return await score(call, continuations)

    monkeypatch.setattr(bench.backend, "score", once)
    scored = await bench.engine.scores(QUESTION, ["a", "b"])
    assert (scored.revision, len(bench.backend.exchanges)) == ("two", 2)
    assert await bench.documents.count("generation") == 1


async def test_a_model_that_changes_at_each_try_is_a_failure(bench) -> None:
    bench.backend.generations_of = swapped(bench, "1", "2", "3", "4", "5")
    with pytest.raises(ModelChangedError, match="from revision 2 to 3"):
        await bench.engine.texts(QUESTION, [GREEDY])
    assert len(bench.backend.exchanges) == 3
    assert await bench.documents.count("generation") == 0
    assert bench.metric("safescale_generation_retries_total", model="m", reason="MODEL_CHANGED") == 2


async def test_another_fingerprint_after_the_call_counts_as_a_change(bench) -> None:
    def upgraded(answer):
        bench.backend.fingerprint = "scripted 2"
        return answer

    bench.backend.generations_of = upgraded
    await bench.engine.texts(QUESTION, [GREEDY])
    assert len(bench.backend.exchanges) == 2


async def test_a_backend_that_noticed_the_change_itself_is_asked_again(bench) -> None:
    bench.backend.failures = [ModelChangedError("two replicas, two models")]
    assert (await bench.engine.texts(QUESTION, [GREEDY])).generations[0].outputs[0].text == "B"
    assert len(bench.backend.exchanges) == 2


@pytest.mark.parametrize("expected", [ModelIdentity("other"), ModelIdentity("f" * 64, "other")])
async def test_another_model_than_expected_is_not_asked_not_even_in_the_cache(bench, expected) -> None:
    await bench.engine.texts(QUESTION, [GREEDY])
    await bench.engine.scores(QUESTION, ["a", "b"])
    prompt_request = replace(QUESTION, expected=expected)
    for ask in (
        bench.engine.texts(prompt_request, [GREEDY]),
        bench.engine.scores(prompt_request, ["a", "b"]),
        anext(bench.engine.stream(prompt_request, GREEDY)),
    ):
        with pytest.raises(ModelChangedError, match="expected other"):
            await ask
    assert len(bench.backend.exchanges) == 2


async def test_a_change_to_what_is_not_expected_ends_the_cell(bench) -> None:
    bench.backend.generations_of = swapped(bench, "two")
    with pytest.raises(ModelChangedError, match=f"two; expected {'f' * 64}"):
        await bench.engine.texts(replace(QUESTION, expected=ModelIdentity("f" * 64)), [GREEDY])
    assert len(bench.backend.exchanges) == 1
    assert await bench.documents.count("generation") == 0


async def test_a_stream_during_which_the_model_changed_fails_and_is_not_kept(bench) -> None:
    events = bench.engine.stream(QUESTION, GREEDY)
    assert await anext(events) == "B"
    bench.backend.weights = "two"
    with pytest.raises(ModelChangedError):
        await anext(events)
    assert await bench.documents.count("generation") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": {"urls": ["http://gpu:8000"], "served_model": "adapter-v2"}},
        {"instruct": False},
        {"reasoning": "think"},
        {"reasoning": "gemma"},
        {"backend": "tgi"},
    ],
    ids=str,
)
async def test_a_row_that_names_another_model_takes_no_answer_of_the_one_before(bench_of, changes) -> None:
    before = {"backend": "openai", "embedded": None, "endpoint": {"urls": ["http://gpu:8000"], "served_model": "v1"}}
    first = bench_of(**before)
    await first.engine.texts(QUESTION, [GREEDY])
    await first.engine.scores(QUESTION, ["a", "b"])
    moved = bench_of(**{**before, "endpoint": {"urls": ["http://other:9"], "served_model": "v1", "concurrency": 3}})
    assert (await moved.engine.texts(QUESTION, [GREEDY])).cached == (True,)
    other = bench_of(**{**before, **changes})
    assert (await other.engine.texts(QUESTION, [GREEDY])).cached == (False,)
    assert not (await other.engine.scores(QUESTION, ["a", "b"])).cached
