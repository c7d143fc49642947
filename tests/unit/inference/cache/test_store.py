import hashlib
import json
from dataclasses import replace

import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.safety.prompts import PROMPT_VERSION, Messages
from safescale.inference.backends.port import Generation, Output, Sampling, Score, Scores
from safescale.inference.cache.store import (
    KEY_VERSION,
    GenerationCache,
    GenerationKey,
    sampling_key,
    sampling_keys,
    scores_key,
)

ASKED = GenerationKey("m", "rev", "server 1", Messages("system", "user"))
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
    generation = Generation(
        (Output("a é", "", "stop", 2), Output("", "why", "length", 9)), 7, 0.1 + 0.2, None, 2, ("W",)
    )
    scores = Scores((Score(-1 / 3, 2), Score(-0.0, 1)), 7, 0.3, 0.1, 4.0, 5, ("ODD",))
    await cache.put_generations({"g": generation}, replace=False)
    await cache.put_scores("s", scores, replace=False)
    assert await cache.generations(["g", "absent"]) == {"g": generation}
    assert await cache.scores("s") == replace(scores, waited_s=0.0)
    assert await cache.scores("absent") is None


def test_keys_are_the_same_in_every_version() -> None:
    """A key that changed would make every stored answer unfindable."""
    expected = {
        "fingerprint": "server 1", "messages": {"system": "system", "user": "user é"}, "model": "m",
        "prompt_version": PROMPT_VERSION, "revision": "rev", "version": KEY_VERSION,
    }  # fmt: skip

    def digest(body: object) -> str:
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    asked = replace(ASKED, messages=Messages("system", "user é"))
    drawn = {"temperature": 0.7, "max_new_tokens": 10, "stop": ["\n"], "seed": 5, "count": 3}
    greedy = {"temperature": 0.0, "max_new_tokens": 9, "stop": []}
    assert sampling_keys(asked, [DRAWN, Sampling(0, 9)]) == [
        digest([expected, drawn]),
        digest([expected, greedy]),
    ]
    assert scores_key(asked, [" a", " b"]) == digest({**expected, "continuations": [" a", " b"]})


def test_a_prompt_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="valid Unicode"):
        sampling_key(replace(ASKED, messages=Messages("s", "\ud800")), DRAWN)
