"""What each OpenAI-compatible server can do and what its options are called: one row per server.

Greedy and sampling must be the model's own: servers fall back on the model's `generation_config.json` or on defaults of
their own for what a request leaves out, so every option that could change the distribution is sent, set to nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from safescale.core.errors import FailedPreconditionError

Choices = Literal["probe", "never"]
"""Whether k answers can be asked in one call: found out by asking, or known not to work."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The ways of one server.

    `always` is sent with every text, `drawing` also where one is sampled. `tokens` and `scores` name the way in which
    texts are tokenised and continuations scored; empty: the server offers none. `keeps`: whether a connection can
    be used again after a stream: llama.cpp closes it and does not say so, as others may.
    """

    name: str
    always: Mapping[str, Any]
    drawing: Mapping[str, Any]
    choices: Choices
    tokens: Literal["", "tokenize", "pieces", "tgi"]
    scores: Literal["", "prompt_logprobs", "input_logprobs", "forced", "echo"]
    keeps: bool = True


_NO_PENALTIES = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
_NO_CUTS = {"top_p": 1.0, "top_k": -1, "min_p": 0.0}

DIALECTS: Mapping[str, Dialect] = {
    "vllm": Dialect("vllm", _NO_PENALTIES, _NO_CUTS, "probe", "tokenize", "prompt_logprobs"),
    "sglang": Dialect("sglang", _NO_PENALTIES, _NO_CUTS, "probe", "tokenize", "input_logprobs"),
    # `llama.protocol` turns the cuts off. These are the other options that a server can be started with. Choices of one
    # call need as many slots, and their prompt would be evaluated in a batch of another shape.
    "llamacpp": Dialect(
        "llamacpp",
        {"repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "dry_multiplier": 0.0},
        {"typical_p": 1.0, "xtc_probability": 0.0, "mirostat": 0, "dynatemp_range": 0.0, "top_n_sigma": -1.0},
        "never",
        "pieces",
        "forced",
        keeps=False,
    ),
    # TGI refuses top_p 1, reads presence_penalty 0 as a repetition penalty of 2 and ignores n. Its defaults are none.
    "tgi": Dialect("tgi", {}, {}, "never", "tgi", ""),
    "other": Dialect("other", {}, {"top_p": 1.0}, "probe", "", "echo", keeps=False),
}
"""Dialects by name: the catalog's flavours, and `other` for a server that is none of them."""


def untokenised(model: str, name: str) -> FailedPreconditionError:
    """Return the error of a server that cannot tokenise for others."""
    return FailedPreconditionError(f"the server of {model} ({name}) has no endpoint that tokenises text")


def unscored(model: str, name: str) -> FailedPreconditionError:
    """Return the error of a server that cannot score continuations."""
    return FailedPreconditionError(
        f"the server of {model} ({name}) gives no log-probabilities of a prompt's tokens; use the letter formulation"
    )
