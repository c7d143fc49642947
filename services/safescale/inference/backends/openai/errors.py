"""What the errors of OpenAI-compatible servers mean: by their content first, by the status where that says nothing.

Known are the forms of vLLM, SGLang, llama.cpp, TGI and of proxies before them. The servers' own sentences can quote the
prompt, so messages name only the kind of an error and the field that it names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendUnavailableError,
    PromptTooLongError,
    SafescaleError,
)
from safescale.inference.backends.steps import field as step_field
from safescale.inference.upstream.http import pause_of
from safescale.inference.upstream.replica_set import REPEAT_ONCE

_LENGTHS = tuple(
    re.compile(pattern)
    for pattern in (
        # vLLM, by version; the first is OpenAI's too.
        r"maximum context length is (?P<window>\d+) tokens\. However, your messages resulted in (?P<prompt>\d+)",
        r"maximum context length is (?P<window>\d+) tokens.{0,80}\((?P<prompt>\d+) in the messages",
        r"maximum context length is (?P<window>\d+) tokens.{0,120}prompt contains (?:at least )?(?P<prompt>\d+)",
        r"maximum context length is (?P<window>\d+) tokens.{0,60}your request has (?P<prompt>\d+) input tokens",
        r"You passed (?P<prompt>\d+) input tokens.{0,80}context length is only (?P<window>\d+) tokens",
        r"You passed \d+ input characters.{0,80}context length is only (?P<window>\d+) tokens",
        r"\(length (?P<prompt>\d+)\) is longer than the maximum model length of (?P<window>\d+)",
        # SGLang.
        r"maximum context length of (?P<window>\d+) tokens.{0,80}: (?P<prompt>\d+) tokens from the input",
        r"input \((?P<prompt>\d+) tokens\) is longer than the model's context length \((?P<window>\d+) tokens\)",
        r"Input length \((?P<prompt>\d+) tokens\) exceeds the maximum allowed length \((?P<window>\d+) tokens\)",
        # llama.cpp, where it does not say so in fields.
        r"request \((?P<prompt>\d+) tokens\) exceeds the available context size \((?P<window>\d+) tokens\)",
        # TGI.
        r"`inputs` must have less than (?P<window>\d+) tokens\. Given: (?P<prompt>\d+)",
        r"`max_new_tokens` must be <= (?P<window>\d+)\. Given: (?P<prompt>\d+) `inputs` tokens",
        # Proxies before other makers' models.
        r"[Pp]rompt is too long: (?P<prompt>\d+) tokens > (?P<window>\d+)",
        # Any other.
        r"maximum context length (?:is|of) (?P<window>\d+)",
    )
)
_LENGTH_KINDS = {"context_length_exceeded", "exceed_context_size_error"}
_OVERLOADED = re.compile(r"overloaded|queue is full|too many requests|rate limit", re.IGNORECASE)
_DEAD = re.compile(r"EngineDead|EngineCore|engine (?:loop )?(?:is|has) (?:dead|died|stopped)", re.IGNORECASE)
_SHARD_AWAY = re.compile(
    r"transport error|error trying to connect|connection (?:refused|reset|closed)|broken pipe", re.IGNORECASE
)
_FAILED = re.compile(r"Request failed during generation|incomplete_generation|Incomplete generation")
_CHOICES = re.compile(r"(?:^|[\s`'\"])n[`'\"]?(?:\s|:)[^0-9]{0,60}?\b(\d{1,4})\b")
_SAFE = re.compile(r"[A-Za-z0-9_.\-]{1,60}")


UNASKED = {"request": "unread"}
"""Details of a refusal that has nothing to do with the options of the request: a missing key, path or model."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """What an error says: a sentence, its kind, the field that it names, the rest."""

    sentence: str
    kind: str = ""
    parameter: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def error_of(model: str, status: int, headers: Mapping[str, str], body: bytes) -> SafescaleError:
    """Return the error that an answer with an error status means."""
    return _meaning(model, status, read_error(_parsed(body)), pause_of(headers))


def error_in(model: str, document: object, status: int = 0) -> SafescaleError | None:
    """Return the error that a document or an event with status 200 reports; None if it reports none.

    `status` is used where the error states no code of its own. That of TGI's streams is no help: always 422.
    """
    if not isinstance(document, dict) or not ("error" in document or document.get("object") == "error"):
        return None
    found = read_error(document)
    code = found.values.get("code")
    number = code if isinstance(code, int) and 400 <= code < 600 else status or 500
    if "http_status_code" in found.values:
        number = 422
    return _meaning(model, number, found, {})


def read_error(document: object) -> ServerError:
    """Read an error document of any form: OpenAI's, vLLM's old one, TGI's, FastAPI's, plain text."""
    if not isinstance(document, dict):
        return ServerError(document if isinstance(document, str) else "")
    inner = document.get("error", document)
    if not isinstance(inner, dict):
        return ServerError(str(inner), _word(document.get("error_type")), values=document)
    sentence = inner.get("message") or inner.get("detail") or ""
    kind = _word(inner.get("type")) or _word(inner.get("error_type"))
    code = inner.get("code")
    if isinstance(code, str):
        kind = _word(code) or kind
    parameter = _word(inner.get("param")) or _located(inner.get("detail"))
    return ServerError(sentence if isinstance(sentence, str) else "", kind, parameter, inner)


def _located(detail: object) -> str:
    """Return the field that FastAPI's list of defects names first: `{"loc": ["body", "n"], ...}`."""
    place = step_field(detail, 0, "loc")
    names = [name for name in place if name != "body"] if isinstance(place, list) else []
    return _word(names[0]) if names else ""


def _meaning(model: str, status: int, found: ServerError, pause: Mapping[str, str]) -> SafescaleError:
    if (too_long := _too_long(model, found)) is not None:
        return too_long
    shown = ", ".join(
        part for part in (str(status), found.kind, found.parameter and f"field {found.parameter}") if part
    )
    if status == 429 or _OVERLOADED.search(found.sentence) or found.kind == "overloaded":
        return BackendOverloadedError(f"the server of {model} has too much to do ({shown})", details=pause)
    if _SHARD_AWAY.search(found.sentence) and (status in (422, 424) or status >= 500):
        return BackendUnavailableError(f"what generates behind the server of {model} cannot be reached ({shown})")
    if status == 424 or found.kind.startswith("incomplete_generation") or _FAILED.search(found.sentence):
        return BackendError(f"the server of {model} failed while it generated ({shown})", details=REPEAT_ONCE)
    if status in (401, 403):
        return BackendRefusedError(
            f"the server of {model} wants another API key ({shown}); see api_key_file", details=UNASKED
        )
    if status == 404:
        return BackendRefusedError(
            f"the server has no model or path of that name for {model} ({shown})", details=UNASKED
        )
    if status in (408, 502, 503, 504) or _DEAD.search(found.sentence):
        return BackendUnavailableError(f"the server of {model} is not ready ({shown})", details=pause)
    if status >= 500:
        return BackendError(f"the server of {model} failed ({shown})", details=REPEAT_ONCE)
    limit = _CHOICES.search(found.sentence)
    details = {"refused": "n", "texts": limit[1]} if limit else {"refused": found.parameter or "request"}
    return BackendRefusedError(f"the server of {model} refused the request ({shown})", details=details)


def _too_long(model: str, found: ServerError) -> PromptTooLongError | None:
    numbers = {"prompt": found.values.get("n_prompt_tokens"), "window": found.values.get("n_ctx")}
    matches = (match for pattern in _LENGTHS if (match := pattern.search(found.sentence)))
    if match := next(matches, None):
        numbers = {name: int(value) for name, value in match.groupdict().items() if value}
    elif found.kind not in _LENGTH_KINDS:
        return None
    prompt, window = numbers.get("prompt"), numbers.get("window")
    details = {f"{name}_tokens": str(value) for name, value in numbers.items() if isinstance(value, int)}
    has = f"has {prompt:,} tokens" if isinstance(prompt, int) else "is too long"
    holds = f"holds {window:,}" if isinstance(window, int) else "does not hold it with the answer"
    return PromptTooLongError(f"the prompt {has}; the context window of {model} at its server {holds}", details=details)


def _parsed(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:4096].decode("utf-8", "replace")


def _word(value: object) -> str:
    return value if isinstance(value, str) and _SAFE.fullmatch(value) else ""
