"""Bodies for OpenAI-compatible servers and the strict reading of what comes back. This is the fast path.

A prompt is encoded once for all its calls: `opening` is the body up to the options, `closed` puts them behind it. Of an
answer only what is needed is read, but that must be there and of its type, else it is GarbageAnswerError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from safescale.core.errors import (
    BackendError,
    BackendRefusedError,
    BackendUnavailableError,
    GarbageAnswerError,
    SafescaleError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.llama.stream import Collected
from safescale.inference.backends.messages import chat_messages, plain_prompt
from safescale.inference.backends.openai.dialect import Dialect
from safescale.inference.backends.openai.errors import error_in
from safescale.inference.backends.port import Output, Sampling
from safescale.inference.backends.steps import field
from safescale.inference.upstream.replica_set import REPEAT_ONCE

FINISH = {"stop": "stop", "length": "length", "eos_token": "stop", "stop_sequence": "stop"}
"""The port's finish reason by the servers' own."""

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True, slots=True)
class Reply:
    """The outputs of one call in the order of their choices, the prompt's tokens, the model that it names or ""."""

    outputs: tuple[Output, ...]
    prompt_tokens: int
    answered: str = ""


def opening(served_model: str, messages: Messages, *, instruct: bool) -> bytes:
    """Return the body of a call about this prompt, without its options and its end."""
    asked: dict[str, Any] = {"model": served_model}
    if instruct:
        asked["messages"] = chat_messages(messages)
    else:
        asked["prompt"] = plain_prompt(messages)
    return orjson.dumps(asked)[:-1]


def closed(opened: bytes, options: Mapping[str, Any]) -> bytes:
    """Return the whole body: an opening with its options."""
    return opened + b"," + orjson.dumps(options)[1:]


def options(dialect: Dialect, sampling: Sampling, count: int = 1) -> dict[str, Any]:
    """Return the options of a call for `count` texts; the seed is the sampling's own."""
    asked = {**dialect.always, "temperature": sampling.temperature, "max_tokens": sampling.max_new_tokens}
    if not sampling.greedy:
        asked.update(dialect.drawing)
        asked["seed"] = sampling.seed
    if sampling.stop:
        asked["stop"] = list(sampling.stop)
    if count > 1:
        asked["n"] = count
    return asked


def parsed(model: str, body: bytes) -> Any:
    """Parse the JSON of a body.

    Raises:
        GarbageAnswerError: it is not JSON.

    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            raise GarbageAnswerError(
                f"the server of {model} gave a page (HTML) where an answer was expected: "
                "a proxy or a login stands before it, or the URL is not the server's root"
            ) from error
        raise GarbageAnswerError(f"the server of {model} gave no JSON") from error


def read_reply(model: str, body: bytes, count: int, *, chat: bool) -> Reply:
    """Read the outputs of a call for `count` texts.

    Raises:
        GarbageAnswerError: it is not such an answer.
        SafescaleError: it reports an error.

    """
    document = parsed(model, body)
    if isinstance(document, dict) and document.get("error") and (told := error_in(model, document)) is not None:
        raise told
    try:
        choices = document["choices"]
        if len(choices) != count:
            raise GarbageAnswerError(
                f"the server of {model} gave {len(choices)} of {count} texts", details={"texts": str(len(choices))}
            )
        prompt, generated = _usage(model, document["usage"])
        answered = answered_by(document)
        if count == 1:
            return Reply((_output(model, choices[0], generated, chat),), prompt, answered)
        # Servers answer in order; where one does not, its indices say so.
        choices = _ordered(model, choices)
        outputs = [_output(model, choice, 0, chat) for choice in choices]
        return Reply(tuple(_with_tokens(outputs, generated)), prompt, answered)
    except (KeyError, TypeError, AttributeError) as error:
        if (told := error_in(model, document)) is not None:
            raise told from error
        raise GarbageAnswerError(f"the server of {model} gave something that is not an answer") from error


def answered_by(document: object) -> str:
    """Return the model that an answer or an event names; empty where it names none."""
    named = field(document, "model")
    return named if isinstance(named, str) else ""


def read_texts(model: str, body: bytes, *, chat: bool) -> list[str]:
    """Read reasoning and text of each choice of an answer, however many there are.

    Raises:
        GarbageAnswerError: it is not such an answer.
        SafescaleError: it reports an error.

    """
    document = parsed(model, body)
    count = len(document["choices"]) if isinstance(document, dict) and isinstance(document.get("choices"), list) else 1
    return [output.reasoning + output.text for output in read_reply(model, body, count, chat=chat).outputs]


def _ordered(model: str, choices: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    ordered = sorted(choices, key=lambda choice: choice["index"])
    if [choice["index"] for choice in ordered] != list(range(len(ordered))):
        raise GarbageAnswerError(f"the server of {model} numbered its texts in a way that makes no sense")
    return ordered


def _with_tokens(outputs: Sequence[Output], generated: int) -> list[Output]:
    """Add tokens to the texts: servers report those of a call's texts together, so they are shared out evenly."""
    least, more = divmod(generated, len(outputs))
    shares = [least + 1] * more + [least] * (len(outputs) - more)
    return [replace(output, generated_tokens=share) for output, share in zip(outputs, shares, strict=True)]


def _output(model: str, choice: Mapping[str, Any], tokens: int, chat: bool) -> Output:
    if chat:
        message = choice["message"]
        text = message["content"]
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    else:
        text, reasoning = choice["text"], ""
    finish = finish_reason(model, choice["finish_reason"])
    text = _text(text)
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise GarbageAnswerError(f"the server of {model} gave a text that is none")
    return Output(text, reasoning, finish, tokens)


def _text(content: object) -> object:
    """Return the text of a message's content, which may be given in parts; anything else is returned as it is."""
    # Null is what a server gives whose parser put all of it into the reasoning, or a text of no tokens.
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) == len(content) and all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if isinstance(part, str))
    return content


def _usage(model: str, usage: Any) -> tuple[int, int]:
    try:
        prompt, generated = usage["prompt_tokens"], usage["completion_tokens"]
    except (KeyError, TypeError):
        raise GarbageAnswerError(
            f"the server of {model} told no tokens (field usage)", details={"missing": "usage"}
        ) from None
    return _tokens(model, "prompt_tokens", prompt), _tokens(model, "completion_tokens", generated)


def _tokens(model: str, name: str, value: object) -> int:
    # JSON knows one kind of number, and some servers write 12.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise GarbageAnswerError(f"the server of {model} told tokens that are no count (field usage.{name})")
    return value


def finish_reason(model: str, told: object) -> str:
    """Return the port's finish reason.

    Raises:
        BackendError: the answer did not come to its end.

    """
    if isinstance(told, str):
        if (known := FINISH.get(told)) is not None:
            return known
        if told == "content_filter":
            raise BackendRefusedError(f"a content filter of the server of {model} held its answer back")
        if told in ("abort", "error"):
            raise BackendError(f"the server of {model} gave up an answer ({told})", details=REPEAT_ONCE)
        if told in ("tool_calls", "function_call"):
            raise GarbageAnswerError(f"the server of {model} called a tool where a text was asked for")
    raise GarbageAnswerError(f"the server of {model} ended a text without a reason that is known")


class StreamedText:
    """Collector of the events of one streamed text."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model = model
        self._chat = chat
        self._text: list[Any] = []
        self._reasoning: list[str] = []
        self._finish: object = None
        self._usage: Any = None
        # Each once, in the order in which they came.
        self._answered: dict[str, None] = {}
        self._whole: Reply | None = None
        self.begun = False

    def take(self, event: bytes) -> str:
        """Take one event and return its piece of reasoning or text. `begun` is true once a token came.

        Raises:
            GarbageAnswerError: it is not an event of an answer.
            SafescaleError: it reports an error.

        """
        # Some proxies send their keep-alive comments as data.
        if event.strip() in (b"", b"[DONE]") or event.startswith(b":"):
            return ""
        chunk = parsed(self._model, event)
        try:
            if chunk.get("error"):
                raise self._unread(chunk)
            usage = chunk.get("usage")
            if usage is not None:
                self._usage = usage
            if answered := answered_by(chunk):
                self._answered[answered] = None
            # The usage may come without choices.
            choices = chunk["choices"] if usage is None else chunk.get("choices")
            return self._piece(choices[0]) if choices else ""
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise self._unread(chunk) from error

    def take_whole(self, body: bytes) -> str:
        """Take the whole answer of a server that does not stream; return its reasoning and text.

        Raises:
            GarbageAnswerError: it is not an answer.
            SafescaleError: it reports an error.

        """
        self._whole = read_reply(self._model, body, 1, chat=self._chat)
        return self._whole.outputs[0].reasoning + self._whole.outputs[0].text

    def _piece(self, choice: Mapping[str, Any]) -> str:
        # Some servers write "" until there is a reason.
        finish = choice.get("finish_reason") or None
        if finish is not None:
            self._finish = finish
        if self._chat:
            # The last event may have none.
            delta = choice["delta"] or {}
            text = _text(delta.get("content"))
            trace = delta.get("reasoning_content") or delta.get("reasoning") or ""
        else:
            text, trace = choice.get("text") or "", ""
        if text:
            self._text.append(text)
        if trace:
            self._reasoning.append(trace)
        piece: str = trace + text  # type: ignore[operator]
        self.begun = self.begun or bool(piece) or finish is not None
        return piece

    def _unread(self, chunk: object) -> SafescaleError:
        told = error_in(self._model, chunk)
        return told or GarbageAnswerError(f"the server of {self._model} streamed something that is not an answer")

    def result(self, elapsed_s: float, time_to_first_token_s: float) -> Collected:
        """Return the whole text after the last event; one that was not streamed has no time to the first token.

        Raises:
            BackendUnavailableError: the stream was cut before its end.
            GarbageAnswerError: what came makes no answer.

        """
        if (whole := self._whole) is not None:
            return Collected(whole.outputs[0], whole.prompt_tokens, elapsed_s, None, answered=(whole.answered,))
        if self._finish is None:
            raise BackendUnavailableError(f"the server of {self._model} cut its answer")
        finish = finish_reason(self._model, self._finish)
        prompt, generated = _usage(self._model, self._usage)
        try:
            text, reasoning = "".join(self._text), "".join(self._reasoning)
        except TypeError as error:
            raise GarbageAnswerError(f"the server of {self._model} streamed a text that is none") from error
        cached = field(self._usage, "prompt_tokens_details", "cached_tokens")
        output = Output(text, reasoning, finish, generated)
        cached = cached if type(cached) is int else None
        return Collected(output, prompt, elapsed_s, time_to_first_token_s, cached, tuple(self._answered))
