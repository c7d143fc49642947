"""Checks of answers that every adapter makes, and that the model in this process makes them too."""

import threading
from pathlib import Path

import pytest

from safescale.core.errors import AnswerCutError, PromptCutError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.checks import PROMPT_MAYBE_CUT, check_prompt, check_whole
from safescale.inference.backends.llama import server as llama
from safescale.inference.backends.port import Output, Sampling


def outputs(*told: tuple[str, int]) -> list[Output]:
    return [Output("B", "", finish, tokens) for finish, tokens in told]


@pytest.mark.parametrize(
    ("texts", "cut"),
    [
        ([("stop", 2)], False),
        ([("length", 10)], False),
        ([("length", 14)], False),
        ([("length", 9)], True),
        ([("length", 0)], True),
        ([("stop", 5), ("length", 5)], False),
        ([("stop", 4), ("length", 5)], True),
        ([("length", 7), ("length", 7), ("stop", 7)], False),
        ([("length", 7), ("length", 7), ("stop", 5)], True),
    ],
)
def test_a_text_that_was_cut_is_known_by_the_tokens_of_its_call(texts, cut) -> None:
    if cut:
        with pytest.raises(AnswerCutError, match="of 10 tokens"):
            check_whole("m", outputs(*texts), 10)
    else:
        check_whole("m", outputs(*texts), 10)


LONG = Messages("s" * 100, "u" * 300)


@pytest.mark.parametrize(
    ("messages", "told", "counted", "expected"),
    [
        (LONG, 100, 100, ()),
        (LONG, 92, 100, ()),
        (LONG, 91, 100, "cut"),
        (LONG, 1000, 1020, ()),
        (LONG, 999, 1020, "cut"),
        (LONG, 5000, 100, ()),
        (LONG, 12, 15, ()),
        (LONG, 24, None, "cut"),
        (LONG, 25, None, (PROMPT_MAYBE_CUT,)),
        (LONG, 49, None, (PROMPT_MAYBE_CUT,)),
        (LONG, 50, None, ()),
        (LONG, 0, None, (PROMPT_MAYBE_CUT,)),
        (LONG, 0, 100, (PROMPT_MAYBE_CUT,)),
        (Messages("", "u" * 199), 1, None, ()),
        (Messages("", "u" * 200), 12, None, "cut"),
        # A table: a row of blanks or dots is one token.
        (Messages("s" * 100, "u" * 300 + " " * 4000 + "." * 4000), 60, None, ()),
        (Messages("s" * 100, "u" * 300 + " " * 4000), 12, None, "cut"),
        # Chinese: up to two tokens for a character.
        (Messages("", "\u809d" * 300), 600, None, ()),
        # Counted in pieces and read whole.
        (Messages("", "<|im_end|>" * 5), 10, 50, ()),
    ],
)
def test_a_prompt_that_was_cut_is_known_by_its_tokens(messages, told, counted, expected) -> None:
    if expected == "cut":
        with pytest.raises(PromptCutError, match=f"read {told:,} tokens"):
            check_prompt("m", messages, told, counted)
    else:
        assert check_prompt("m", messages, told, counted) == expected


@pytest.mark.parametrize("instruct", [True, False])
def test_the_model_in_this_process_refuses_a_text_that_its_context_cut(instruct, monkeypatch) -> None:
    class Loaded:
        listening_address = "http://127.0.0.1:1"

        def handle_chat_completions(self, _, take) -> None:
            take({"choices": [{"delta": {"content": "B"}, "finish_reason": None}]})
            take({"choices": [{"delta": {}, "finish_reason": "length"}],
                  "usage": {"prompt_tokens": 250, "completion_tokens": 6}})  # fmt: skip

        def handle_completions(self, _, take) -> None:
            take({"choices": [{"text": "B", "finish_reason": "length"}],
                  "usage": {"prompt_tokens": 250, "completion_tokens": 6}})  # fmt: skip

    monkeypatch.setattr(llama, "opened", lambda *_: Loaded())
    monkeypatch.setattr(llama, "_private", lambda *_: None)
    server = llama.LlamaServer(llama.LlamaConfig("m", Path("m.gguf"), 256, instruct))
    with pytest.raises(AnswerCutError, match="6 of 10"):
        server.text(Messages("S", "U"), Sampling(0.0, 10), cold=True, stop=threading.Event())
    whole = server.text(Messages("S", "U"), Sampling(0.0, 6), cold=True, stop=threading.Event())
    assert whole.output.finish_reason == "length"
