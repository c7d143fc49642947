"""Failures of TGI as errors of the tree: one mapping of its status and content, of its events, of its client.

An error is recognised by its content, never by the status alone: streams answer 200 and send errors as events, chat
streams give every error the code 422, and a 422 can be plain text. The status decides where the content says nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

from safescale.core.errors import (
    AnswerCutError,
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    GarbageAnswerError,
    PromptTooLongError,
    SafescaleError,
)
from safescale.inference.backends.tgi import wire
from safescale.inference.upstream.http import pause_of
from safescale.inference.upstream.replica_set import NOT_SENT, REPEAT_ONCE

PIECE_TOKENS = 1024
"""New tokens after which TGI starts over with what it has, as a request of its own."""

SHOWN = 200
"""Characters of a server's sentence that are shown."""

KINDS = (
    ("Model is overloaded", "overloaded"),
    ("Input validation error", "validation"),
    ("Request failed during generation", "generation"),
    ("Incomplete generation", "incomplete_generation"),
    ("Template error", "template_error"),
    ("Tool error", "tool_error"),
    ("unhealthy", "healthcheck"),
)
"""`error_type` by the beginning of the sentence, for events of chat streams, which have no type."""

_DEAD_SHARD = re.compile(r"transport error|error trying to connect|connection (refused|reset|closed)|broken pipe", re.I)
_ROUTER_SAYS = ("Failed to deserialize", "Failed to parse", "Failed to buffer", "Expected request with")
_INPUT_LIMIT = re.compile(r"`inputs` must have less than (\d+) tokens\. Given: (\d+)")
_TOTAL_LIMIT = re.compile(
    r"`inputs` tokens \+ `max_new_tokens` must be <= (\d+)\. "
    r"Given: (\d+) `inputs` tokens and (\d+) `max_new_tokens`"
)
_QUOTED = re.compile(r'"[^"]*"?')

_NOT_READY = (408, 425, 502, 503, 504)

_BY_STATUS: Mapping[int, str] = {
    400: "the request was not understood",
    401: "an API key is missing or wrong (field api_key_file of the row)",
    403: "access is denied (field api_key_file of the row)",
    404: "there is no such path; expected the root of a TGI server",
    405: "the path has no such method; expected the root of a TGI server",
    413: "the request is over the server's --payload-limit",
    415: "the request is not taken for JSON",
    422: "the request was refused",
}


@dataclass(frozen=True, slots=True)
class TgiFailure:
    """A failure as the server reports it: the kind (TGI's `error_type`), the sentence, the status if any."""

    kind: str
    sentence: str
    status: int | None = None


def read_error(content: Any, status: int | None = None) -> TgiFailure:
    """Read a body or an event: `{error, error_type}`, `{error: {message, ...}}`, plain text, or nothing."""
    if isinstance(content, bytes):
        content = _parsed(content)
    kind = ""
    if isinstance(content, Mapping):
        kind = _text(content.get("error_type"))
        content = content.get("error")
    if isinstance(content, Mapping):
        content = content.get("message")
    sentence = " ".join(_text(content).split())
    known = kind or next((name for start, name in KINDS if sentence.startswith(start)), "")
    return TgiFailure(known, sentence, status)


def failure(model: str, what: TgiFailure, headers: Mapping[str, str] | None = None) -> SafescaleError:
    """Return the error of the tree for a failure of TGI.

    Overload and a server that cannot be reached or is not ready are retryable. A failed or incomplete generation is
    worth one repeat (details `repeat`). A refused request is not repeated.
    """
    pause = pause_of(headers or {})
    match what.kind:
        case "overloaded":
            return BackendOverloadedError(f"TGI of {model} is overloaded", details=pause)
        case "healthcheck":
            return BackendUnavailableError(f"TGI of {model} is not healthy", details=pause)
        case "generation":
            return _generation(model, what)
        case "incomplete_generation" | "incomplete_generation_stream":
            return BackendError(f"TGI of {model} ended a generation before it was complete", details=REPEAT_ONCE)
        case "validation":
            return _validation(model, what)
        case "template_error":
            return BackendRefusedError(f"the chat template of {model} refused the messages: {_shown(what)}")
        case "tool_error":
            # The sentence quotes what the model wrote.
            return BackendRefusedError(f"TGI of {model} found no tool call in the answer")
        case "":
            return _by_status(model, what, pause)
        case _:
            return BackendRefusedError(f"TGI of {model} refused the request: {_shown(what)} ({what.kind[:40]})")


def _generation(model: str, what: TgiFailure) -> BackendError:
    if _DEAD_SHARD.search(what.sentence):
        return BackendUnavailableError(f"the shard behind TGI of {model} cannot be reached: {_shown(what)}")
    return BackendError(f"TGI of {model} failed while it generated: {_shown(what)}", details=REPEAT_ONCE)


def _validation(model: str, what: TgiFailure) -> SafescaleError:
    if found := _INPUT_LIMIT.search(what.sentence):
        limit, prompt = (int(value) for value in found.groups())
        return too_long(model, prompt, limit, "--max-input-tokens")
    if found := _TOTAL_LIMIT.search(what.sentence):
        limit, prompt, new = (int(value) for value in found.groups())
        return too_long(model, prompt, limit, "--max-total-tokens", new)
    return BackendRefusedError(f"TGI of {model} refused the request: {_shown(what)}")


def too_long(
    model: str, prompt_tokens: int, window_tokens: int, flag: str, new_tokens: int | None = None
) -> PromptTooLongError:
    """Return the error of a prompt over a limit; with `new_tokens`, the limit is for prompt and answer."""
    details = {"prompt_tokens": str(prompt_tokens), "window_tokens": str(window_tokens)}
    answer = ""
    if new_tokens is not None:
        details["max_new_tokens"] = str(new_tokens)
        answer = f" and the answer may have {new_tokens:,}"
    return PromptTooLongError(
        f"the prompt has {prompt_tokens:,} tokens{answer}; TGI of {model} holds {window_tokens:,} ({flag})",
        details=details,
    )


def cut_answer(model: str, finished: wire.TgiAnswer, asked: int, info: wire.Info) -> AnswerCutError:
    """Return the error of a text that TGI ended before the tokens requested, with the flag that is to blame.

    TGI goes on with a long answer every 1,024 tokens, with the prompt and the text so far as new input: for 4,096
    tokens the last input is the prompt and 3,072 tokens, and --max-input-tokens must hold it.
    """
    last_input = (asked - 1) // PIECE_TOKENS * PIECE_TOKENS
    prompt = finished.prompt_tokens or 0
    if last_input and prompt + last_input > info.max_input_tokens:
        flag = (
            f"--max-input-tokens is {info.max_input_tokens:,}, and must be the longest prompt and {last_input:,}: "
            f"TGI goes on every {PIECE_TOKENS:,} tokens with prompt and text as its input"
        )
    else:
        flag = f"it serves {info.max_total_tokens:,} for prompt and answer, --max-total-tokens"
    return AnswerCutError(
        f"TGI of {model} ended an answer after {finished.generated_tokens:,} of {asked:,} tokens ({flag})"
    )


def _by_status(model: str, what: TgiFailure, pause: Mapping[str, str]) -> BackendError:
    # What is no sentence of TGI's own router can be of anybody, and hold anything: none of it is told.
    status = what.status
    tail = f": {_shown(what)}" if what.sentence.startswith(_ROUTER_SAYS) else ""
    if status == 429:
        return BackendOverloadedError(f"the server of {model} is overloaded (HTTP 429)", details=pause)
    if status in _NOT_READY:
        return BackendUnavailableError(f"the server of {model} is not ready (HTTP {status})", details=pause)
    if status is not None and status in _BY_STATUS:
        return BackendRefusedError(f"TGI of {model}, HTTP {status}: {_BY_STATUS[status]}{tail}")
    if status is not None and status >= 500:
        return BackendError(f"the server of {model} failed (HTTP {status})", details=REPEAT_ONCE)
    where = "in a stream" if status is None else f"with HTTP {status}"
    return GarbageAnswerError(f"the server of {model} answered as TGI does not, {where}")


def from_client(model: str, error: Exception) -> SafescaleError:
    """Return our error for what `huggingface_hub` raised; its own classes depend on status and path alone."""
    response = _response(error)
    if response is not None:
        return failure(model, read_error(response.content, response.status_code), response.headers)
    cause = error.__cause__ if isinstance(error, InferenceTimeoutError) else error
    if isinstance(cause, httpx2.TimeoutException) and not isinstance(cause, httpx2.ConnectTimeout):
        return BackendTimeoutError(f"TGI of {model} did not answer in time")
    if isinstance(cause, httpx2.RemoteProtocolError) and "illegal" in str(cause):
        return GarbageAnswerError(f"the answer from the server of {model} is not HTTP")
    if isinstance(cause, httpx2.TransportError):
        details = NOT_SENT if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout) else None
        # Only of a connection that was never made are the words those of this machine.
        words = f": {str(cause)[:SHOWN]}" if details else ""
        told = f"TGI of {model} cannot be reached ({type(cause).__name__}{words})"
        return BackendUnavailableError(told, details=details)
    return GarbageAnswerError(f"the answer from the server of {model} cannot be read ({type(error).__name__})")


def _response(error: BaseException | None) -> httpx2.Response | None:
    """Return the response that an error of the client, or its cause, carries."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return error.response
        error = error.__cause__
    return None


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace")
        # The page of a proxy says nothing that its status does not.
        return "" if text.lstrip().startswith("<") else text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _shown(what: TgiFailure) -> str:
    """Return the sentence without what it quotes, which can be of the prompt or the answer."""
    sentence = _QUOTED.sub('"…"', what.sentence.split("![", 1)[0])
    return sentence if len(sentence) <= SHOWN else sentence[:SHOWN] + "…"
