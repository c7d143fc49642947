"""TGI's wire format: the bodies that are sent, and the strict reading of what comes back.

Sent is what cannot be misunderstood, and no more. `parameters` always, since a body without it means sampling; no
`top_p` and its like, whose neutral values are refused; no null; `details`, without which there is no finish reason.
What is read must have the form that TGI gives it, whatever else is there: anything else is GarbageAnswerError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from safescale.core.errors import GarbageAnswerError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.messages import chat_messages
from safescale.inference.backends.port import Output, Sampling

FINISH = {"eos_token": "stop", "stop_sequence": "stop", "stop": "stop", "length": "length"}
"""The port's finish reason by TGI's: the plain ones, those of chat, and those that both have."""


@dataclass(frozen=True, slots=True)
class Info:
    """What `/info` says: the model, its revision (empty when unknown), TGI's version, and the limits in tokens."""

    model_id: str
    model_sha: str
    version: str
    max_input_tokens: int
    max_total_tokens: int
    max_stop_sequences: int


@dataclass(frozen=True, slots=True)
class TgiAnswer:
    """One text with its end. `prompt_tokens` is None where the answer has no count (plain `/generate`)."""

    text: str
    finish_reason: str
    generated_tokens: int
    prompt_tokens: int | None


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of a stream: its text, empty for the end token and within a split character."""

    text: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a text, with the bytes of the text's UTF-8 that it stands for. Those that were added have none."""

    token_id: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """Messages as the chat template renders them, and the tokens of that."""

    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A token of the prompt with its natural log-probability; the first has none."""

    token_id: int
    logprob: float | None


NO_ADAPTER = "tgi"
"""Name of a model that TGI takes for none of its LoRA adapters."""


def generate_body(prompt: str, served_model: str, sampling: Sampling, stops: Sequence[str]) -> dict[str, Any]:
    """Body of `/generate` and `/generate_stream`.

    Greedy has no temperature, since 0 is refused. Sampling says `do_sample`, without which temperature 1 is greedy.
    """
    parameters: dict[str, Any] = {
        "details": True,
        "do_sample": not sampling.greedy,
        "max_new_tokens": sampling.max_new_tokens,
        **_adapter(served_model),
    }
    if not sampling.greedy:
        parameters.update(temperature=sampling.temperature, seed=sampling.seed)
    if stops:
        parameters["stop"] = list(stops)
    return {"inputs": prompt, "parameters": parameters}


def chat_body(messages: Messages, served_model: str, sampling: Sampling, stops: Sequence[str]) -> dict[str, Any]:
    """Body of `/v1/chat/completions`. Temperature 0 is greedy here, and has to be said: else TGI samples."""
    body: dict[str, Any] = {
        "model": served_model,
        "messages": chat_messages(messages),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
    }
    if not sampling.greedy:
        body["seed"] = sampling.seed
    if stops:
        body["stop"] = list(stops)
    return body


def chat_stream_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same chat as a stream that ends with its token counts."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def score_body(text: str, served_model: str) -> dict[str, Any]:
    """Body of `/generate` that asks for the log-probabilities of the prompt; one token has to be generated for it."""
    parameters = {"details": True, "decoder_input_details": True, "do_sample": False, "max_new_tokens": 1}
    return {"inputs": text, "parameters": {**parameters, **_adapter(served_model)}}


def _adapter(served_model: str) -> dict[str, str]:
    return {} if served_model == NO_ADAPTER else {"adapter_id": served_model}


def document(body: bytes) -> Any:
    """Parse the JSON of a body or an event.

    Raises:
        GarbageAnswerError: it is not JSON.

    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise GarbageAnswerError("the server answered no JSON where TGI does") from error


def info(value: Any) -> Info:
    """Read `/info`."""
    return Info(
        model_id=_str(value, "model_id"),
        model_sha=_str(value, "model_sha") if _get(value, "model_sha") is not None else "",
        version=_str(value, "version"),
        max_input_tokens=_count(value, "max_input_tokens"),
        max_total_tokens=_count(value, "max_total_tokens"),
        max_stop_sequences=_count(value, "max_stop_sequences"),
    )


def most_at_once(value: Any) -> int:
    """Return the concurrent requests above which a server refuses, by `/info`; 0 where it does not say."""
    return 0 if _get(value, "max_concurrent_requests") is None else _count(value, "max_concurrent_requests")


def answered_by(value: Any) -> str:
    """Return the model that a chat's answer or event names; empty where it names none."""
    named = _get(value, "model")
    return named if isinstance(named, str) else ""


def generated(value: Any) -> TgiAnswer:
    """Read the answer of `/generate`, asked with details."""
    text = _str(value, "generated_text")
    details = _object(value, "details")
    return TgiAnswer(text, _finish(_get(details, "finish_reason")), _count(details, "generated_tokens"), None)


def prefill(value: Any) -> list[Prefilled]:
    """Read the tokens of the prompt in an answer of `/generate` asked with `decoder_input_details`."""
    given = _list(_object(value, "details"), "prefill")
    return [Prefilled(_count(token, "id"), _logprob(token)) for token in given]


def chat(value: Any) -> TgiAnswer:
    """Read the answer of `/v1/chat/completions`: one choice, whatever `n` was."""
    choices = _list(value, "choices")
    if len(choices) != 1:
        raise _garbage("choices", f"{len(choices)} items", "one")
    text = _str(_object(choices[0], "message"), "content")
    usage = _object(value, "usage")
    finish = _finish(_get(choices[0], "finish_reason"))
    return TgiAnswer(text, finish, _count(usage, "completion_tokens"), _count(usage, "prompt_tokens"))


def tokens(value: Any) -> tuple[Token, ...]:
    """Read the answer of `/tokenize`."""
    if not isinstance(value, list):
        raise _garbage("the list of tokens", _shown(value), "a list")
    found = tuple(Token(_count(item, "id"), _count(item, "start"), _count(item, "stop")) for item in value)
    for token in found:
        if token.stop < token.start:
            raise _garbage("stop", str(token.stop), f"at least {token.start}, the token's start")
    return found


def rendered(value: Any) -> Rendered:
    """Read the answer of `/chat_tokenize`."""
    return Rendered(_str(value, "templated_text"), tokens(_get(value, "tokenize_response")))


class GenerateEvents:
    """Reads the events of `/generate_stream`, whose last one holds the whole text and the details."""

    def __init__(self) -> None:
        self._answer: TgiAnswer | None = None

    def take(self, event: Any) -> Piece | None:
        """Read one event (no error); its token."""
        if self._answer is not None:
            raise GarbageAnswerError("TGI streamed on after its last event")
        token = _object(event, "token")
        text = _str(token, "text")
        special = _get(token, "special")
        if not isinstance(special, bool):
            raise _garbage("token.special", _shown(special), "true or false")
        if _get(event, "generated_text") is not None:
            details = _object(event, "details")
            finish = _finish(_get(details, "finish_reason"))
            count, prompt = _count(details, "generated_tokens"), _count(details, "input_length")
            self._answer = TgiAnswer(_str(event, "generated_text"), finish, count, prompt)
        return Piece("" if special else text)

    def answer(self) -> TgiAnswer | None:
        """Return the whole answer; None before the last event."""
        return self._answer


class ChatEvents:
    """Reads the events of a chat stream: chunks with one token each, then one with the usage."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._finish = ""
        self._usage: tuple[int, int] | None = None

    def take(self, event: Any) -> Piece | None:
        """Read one event (no error, nor `[DONE]`); its token, None for the usage."""
        usage = _get(event, "usage")
        if usage is not None:
            self._usage = (_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
        choices = _list(event, "choices")
        if not choices:
            return None
        if len(choices) > 1:
            raise _garbage("choices", f"{len(choices)} items", "one")
        piece = _str(_object(choices[0], "delta"), "content")
        finish = _get(choices[0], "finish_reason")
        if finish is not None:
            self._finish = _finish(finish)
        self._text.append(piece)
        return Piece(piece)

    def answer(self) -> TgiAnswer | None:
        """Return the whole answer; None before its end."""
        if not self._finish:
            return None
        if self._usage is None:
            raise _garbage("usage", "nothing", "the token counts that were asked for")
        prompt, generated_tokens = self._usage
        return TgiAnswer("".join(self._text), self._finish, generated_tokens, prompt)


def output(answer: TgiAnswer, stops: Sequence[str], asked: int | None = None) -> Output:
    """Return the port's output: the text before the first stop text, which TGI leaves in and finds at token ends alone.

    TGI generates in pieces of 1,024 tokens, so that an answer can have more tokens than asked: such a one went over its
    bound, however it ended.
    """
    cut = first_stop(answer.text, stops)
    if cut is None:
        finish = "length" if asked is not None and answer.generated_tokens > asked else answer.finish_reason
        return Output(answer.text, "", finish, answer.generated_tokens)
    return Output(answer.text[:cut], "", "stop", answer.generated_tokens)


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop text begins that is complete first; None where there is none."""
    found = [(begin + len(stop), begin) for stop in stops if (begin := text.find(stop)) >= 0]
    return min(found)[1] if found else None


def _get(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise _garbage(f"what holds {name}", _shown(value), "an object")
    return value.get(name)


def _object(value: Any, name: str) -> Mapping[str, Any]:
    found = _get(value, name)
    if not isinstance(found, Mapping):
        raise _garbage(name, _shown(found), "an object")
    return found


def _list(value: Any, name: str) -> list[Any]:
    found = _get(value, name)
    if not isinstance(found, list):
        raise _garbage(name, _shown(found), "a list")
    return found


def _str(value: Any, name: str) -> str:
    found = _get(value, name)
    if not isinstance(found, str):
        raise _garbage(name, _shown(found), "a text")
    return found


def _count(value: Any, name: str) -> int:
    found = _get(value, name)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise _garbage(name, _shown(found), "a number from 0 on")
    return found


def _logprob(value: Any) -> float | None:
    found = _get(value, "logprob")
    if found is None:
        return None
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise _garbage("logprob", _shown(found), "a number or null")
    return float(found)


def _finish(value: Any) -> str:
    if not isinstance(value, str) or value not in FINISH:
        raise _garbage("finish_reason", _shown(value), ", ".join(FINISH))
    return FINISH[value]


def _shown(value: Any) -> str:
    # Kinds and not values: an answer can hold what a prompt held.
    return "nothing" if value is None else type(value).__name__


def _garbage(name: str, found: str, expected: str) -> GarbageAnswerError:
    return GarbageAnswerError(f"in the answer of TGI, {name} is {found}; expected {expected}")
