"""The fields that the fake server's servers take, as their documentation has them, with what their values may be."""

from collections.abc import Mapping
from typing import Any

Check = Mapping[str, type | tuple[type, ...]]

NUMBER = (int, float)

_TEXT: Check = {
    "model": str, "temperature": NUMBER, "max_tokens": int, "n": int, "seed": int, "stop": list, "stream": bool,
    "stream_options": dict, "top_p": NUMBER,
}  # fmt: skip
_CUTS: Check = {
    "top_k": int, "min_p": NUMBER, "repetition_penalty": NUMBER, "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
}  # fmt: skip
_CHAT: Check = {"messages": list}
_TOKENIZE: Check = {
    "model": str, "prompt": str, "messages": list, "add_special_tokens": bool, "add_generation_prompt": bool,
}  # fmt: skip
_DETOKENIZE: Check = {"model": str, "tokens": list}

FIELDS: Mapping[str, Mapping[str, Check]] = {
    "vllm": {
        "chat": {**_TEXT, **_CUTS, **_CHAT},
        "completion": {**_TEXT, **_CUTS, "prompt": (str, list), "prompt_logprobs": int},
        "tokenize": _TOKENIZE,
        "detokenize": _DETOKENIZE,
    },
    "sglang": {
        "chat": {**_TEXT, **_CUTS, **_CHAT},
        "completion": {**_TEXT, **_CUTS, "prompt": (str, list)},
        "tokenize": _TOKENIZE,
        "detokenize": _DETOKENIZE,
        "generate": {"input_ids": list, "sampling_params": dict, "return_logprob": bool, "logprob_start_len": int},
    },
    "other": {
        "chat": {**_TEXT, **_CHAT},
        "completion": {**_TEXT, "prompt": (str, list), "echo": bool, "logprobs": int},
    },
}
"""Fields by server and kind of request."""


def wrong_fields(fields: Check, body: Any) -> list[str]:
    """What of a body the server does not know, or not in this form."""
    wrong = []
    for name, value in body.items():
        if name not in fields:
            wrong.append(f"unknown field {name}")
        elif not isinstance(value, fields[name]) or (isinstance(value, bool) and fields[name] is not bool):
            wrong.append(f"{name} is {value!r}")
    if body.get("temperature") and "n" in fields and "top_p" not in body:
        wrong.append("a sampling that leaves top_p to the server")
    if body.get("temperature") and "top_k" in fields and not {"top_k", "min_p", "repetition_penalty"} <= set(body):
        wrong.append("a sampling that leaves cuts to the server")
    return wrong
