from dataclasses import replace

import pytest

from safescale.core.prompts import Messages
from safescale.inference.backends.port import Generation, Output, Sampling, Score, Scores
from safescale.inference.cache import Asked, GenerationCache, sampling_key, scores_key

ASKED = Asked("m", "rev", "server 1", Messages("system", "user"))
DRAWN = Sampling(0.7, 10, 5, 3, ("\n",))


@pytest.mark.parametrize(
    "other",
    [
        sampling_key(replace(ASKED, model="n"), DRAWN),
        sampling_key(replace(ASKED, revision="rev2"), DRAWN),
        sampling_key(replace(ASKED, fingerprint="server 2"), DRAWN),
        sampling_key(replace(ASKED, messages=Messages("systemu", "ser")), DRAWN),
        sampling_key(ASKED, replace(DRAWN, temperature=0.8)),
        sampling_key(ASKED, replace(DRAWN, max_new_tokens=11)),
        sampling_key(ASKED, replace(DRAWN, seed=6)),
        sampling_key(ASKED, replace(DRAWN, count=4)),
        sampling_key(ASKED, replace(DRAWN, stop=())),
        scores_key(ASKED, ["a", "b"]),
        scores_key(ASKED, ["b", "a"]),
    ],
)
def test_whatever_can_change_an_answer_changes_the_key(other) -> None:
    assert other != sampling_key(ASKED, DRAWN)


def test_the_seed_means_nothing_to_greedy() -> None:
    assert sampling_key(ASKED, Sampling(0, 10, 1)) == sampling_key(ASKED, Sampling(0.0, 10, 2))


async def test_what_was_stored_comes_back_as_it_was(documents) -> None:
    cache = GenerationCache(documents)
    generation = Generation((Output("a é", "", "stop", 2), Output("", "why", "length", 9)), 7, 0.1 + 0.2, None)
    scores = Scores((Score(-1 / 3, 2), Score(-0.0, 1)), 7, 0.3, 0.1, 4.0)
    await cache.put_generations({"g": generation}, replace=False)
    await cache.put_scores("s", scores, replace=False)
    assert await cache.generations(["g", "absent"]) == {"g": generation}
    assert await cache.scores("s") == replace(scores, waited_s=0.0)
    assert await cache.scores("absent") is None
