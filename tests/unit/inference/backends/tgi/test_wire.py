"""Reading is strict: whatever a server answers is read, or is garbage. Bodies say what must be said, and no more."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import GarbageAnswerError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.port import Sampling
from safescale.inference.backends.tgi import wire

NAMES = (
    "generated_text", "details", "finish_reason", "generated_tokens", "prefill", "id", "logprob", "choices", "message",
    "content", "usage", "prompt_tokens", "completion_tokens", "start", "stop", "text", "templated_text", "special",
    "tokenize_response", "token", "delta", "input_length", "model_id", "version", "max_input_tokens",
)  # fmt: skip
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.sampled_from(["", "A", "length", "stop"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=20,
)
READERS = [
    wire.info, wire.generated, wire.prefill, wire.chat, wire.tokens, wire.rendered,
    lambda value: wire.GenerateEvents().take(value), lambda value: wire.ChatEvents().take(value),
]  # fmt: skip
CHUNK = {"choices": [{"delta": {"content": "B"}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}


@given(JSON, st.sampled_from(READERS))
def test_anything_is_read_or_is_garbage(value: Any, reader: Any) -> None:
    with suppress(GarbageAnswerError):
        reader(value)


@pytest.mark.parametrize("body", [b"", b"lorem", b"{", b"\xff\xfe"])
def test_what_is_no_json_is_garbage(body: bytes) -> None:
    with pytest.raises(GarbageAnswerError):
        wire.document(body)


@pytest.mark.parametrize("count", [-1, True, 1.0, "3", None])
def test_counts_are_whole_numbers(count: object) -> None:
    value = {"generated_text": "A", "details": {"finish_reason": "length", "generated_tokens": count}}
    with pytest.raises(GarbageAnswerError, match="generated_tokens"):
        wire.generated(value)


def test_an_unknown_finish_reason_is_garbage() -> None:
    value = {"generated_text": "A", "details": {"finish_reason": "content_filter", "generated_tokens": 1}}
    with pytest.raises(GarbageAnswerError, match="finish_reason"):
        wire.generated(value)


def test_tokens_that_end_before_they_begin_are_garbage() -> None:
    with pytest.raises(GarbageAnswerError, match="stop"):
        wire.tokens([{"id": 1, "text": "", "start": 2, "stop": 1}])


def test_a_chat_stream_without_its_end_is_no_answer_and_without_its_counts_garbage() -> None:
    events = wire.ChatEvents()
    assert events.answer() is None
    events.take(CHUNK)
    with pytest.raises(GarbageAnswerError, match="usage"):
        events.answer()
    assert events.take(USAGE) is None
    assert events.answer() == wire.TgiAnswer("B", "stop", 1, 3)


def test_a_stream_that_goes_on_behind_its_end_is_garbage() -> None:
    details = {"finish_reason": "length", "generated_tokens": 1, "input_length": 3}
    token = {"id": 1, "text": "B", "logprob": -1.0, "special": False}
    events = wire.GenerateEvents()
    assert events.take({"token": token, "generated_text": "B", "details": details}) == wire.Piece("B")
    with pytest.raises(GarbageAnswerError):
        events.take({"token": token, "generated_text": None})


@given(st.floats(0.01, 2.0), st.integers(1, 5000), st.integers(0, 2**31 - 1), st.lists(st.text(min_size=1), max_size=3))
def test_sampling_is_said_in_full_and_greedy_without_what_is_refused(
    temperature: float, new: int, seed: int, stops: list[str]
) -> None:
    drawn = wire.generate_body("p", "tgi", Sampling(temperature, new, seed), stops)["parameters"]
    assert (drawn["do_sample"], drawn["temperature"], drawn["seed"]) == (True, temperature, seed)
    greedy = wire.generate_body("p", "tgi", Sampling(0.0, new, seed), stops)["parameters"]
    assert greedy["do_sample"] is False
    assert not {"temperature", "seed"} & set(greedy)
    chat = wire.chat_body(Messages("", "u"), "tgi", Sampling(0.0, new, seed), stops)
    assert (chat["temperature"], chat["model"], chat["messages"]) == (0.0, "tgi", [{"role": "user", "content": "u"}])
    for body in (drawn, greedy, chat):
        assert not {"top_p", "top_k", "n", "best_of", "typical_p", "logprobs"} & set(body)
        assert None not in body.values()
        assert body.get("stop", []) == stops
