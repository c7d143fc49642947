"""Collects the chunks of one streamed answer of llama.cpp."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from safescale.core.errors import GarbageAnswerError
from safescale.inference.backends.port import Output


@dataclass(frozen=True, slots=True)
class Collected:
    """One whole text: the output, the prompt's tokens, seconds in all and until the first token (None: not streamed).

    `cached_tokens` of the prompt were held by the server already; None where it does not say. `answered` are the models
    that the answer names: none, one, or more where its events do not agree.
    """

    output: Output
    prompt_tokens: int
    elapsed_s: float
    time_to_first_token_s: float | None
    cached_tokens: int | None = None
    answered: tuple[str, ...] = ()


class Collector:
    """Callback of a streamed call: keeps the pieces and remembers what went wrong.

    The binding swallows exceptions of a callback, so nothing is raised from it; `refusal` is the server's error.
    """

    def __init__(self, *, chat: bool, stop: threading.Event, on_piece: Callable[[str], None] | None) -> None:
        self._chat = chat
        self._stop = stop
        self._on_piece = on_piece
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish = ""
        self._usage: Mapping[str, Any] = {}
        self._first: float | None = None
        self._broken = ""
        self.refusal: object = None

    def __call__(self, chunk: Any) -> bool:
        """Take one chunk; True ends the call."""
        try:
            self._take(chunk)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            self._broken = type(error).__name__
        return self._stop.is_set() or bool(self._broken) or self.refusal is not None

    def _take(self, chunk: Any) -> None:
        if "error" in chunk:
            self.refusal = chunk["error"]
            return
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk["choices"]:
            delta = choice["delta"] if self._chat else choice
            piece = delta.get("content" if self._chat else "text") or ""
            trace = delta.get("reasoning_content") or ""
            self._finish = choice.get("finish_reason") or self._finish
            if self._first is None and (piece or trace or self._finish):
                self._first = perf_counter()
            self._text.append(piece)
            self._reasoning.append(trace)
            if self._on_piece is not None and (trace or piece):
                self._on_piece(trace + piece)

    def result(self, begin: float, end: float) -> Collected:
        """Return the whole text of a call that lasted from `begin` to `end` (perf_counter seconds).

        Raises:
            GarbageAnswerError: the chunks do not make an answer.

        """
        prompt, generated = self._usage.get("prompt_tokens"), self._usage.get("completion_tokens")
        if self._broken or not self._finish or not isinstance(prompt, int) or not isinstance(generated, int):
            raise GarbageAnswerError("llama.cpp streamed something that is not an answer")
        output = Output("".join(self._text), "".join(self._reasoning), self._finish, generated)
        first = self._first if self._first is not None else end
        return Collected(output, prompt, end - begin, first - begin)
