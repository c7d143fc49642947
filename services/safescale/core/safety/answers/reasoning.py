"""Cuts a model's reasoning trace from its answer, by the delimiters that the catalog states for the model.

A trace that was begun and not ended has no answer after it: the answer is empty, so that no letter of the deliberation
is ever read as a choice.
"""

import difflib
from dataclasses import dataclass

from safescale.core.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class TraceStyle:
    """How a family of models marks its trace.

    The answer follows the last of `closers`. A text with one of `openers` but no closer is a trace without an end.
    `opens_in_prompt`: the chat template opens the trace itself, so that a text without any mark is one without an end.
    `enders` are marks after the answer, which are cut off.
    """

    name: str
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    enders: tuple[str, ...] = ()
    opens_in_prompt: bool = False


TRACE_STYLES: tuple[TraceStyle, ...] = (
    TraceStyle("think", ("<think>",), ("</think>",)),
    TraceStyle("think_in_prompt", ("<think>",), ("</think>",), opens_in_prompt=True),
    # The second spelling of each is what is left where a server drops the special tokens.
    TraceStyle(
        "gpt-oss",
        ("<|channel|>analysis", "<|channel|>commentary", "analysis"),
        ("<|channel|>final<|message|>", "assistantfinal", "<|return|>"),
        ("<|return|>", "<|end|>"),
    ),
    TraceStyle("gemma", ("<|channel>", "thought\n"), ("<channel|>",)),
    TraceStyle("medgemma", ("<unused94>", "thought\n"), ("<unused95>",)),
)


@dataclass(frozen=True, slots=True)
class Split:
    """A model's text in two parts, both stripped of surrounding blanks: the answer and the trace before it."""

    answer: str
    trace: str


def trace_style(name: str) -> TraceStyle:
    """Return the style of that name.

    Raises InvalidInputError if there is no such style.
    """
    names = [style.name for style in TRACE_STYLES]
    if name in names:
        return TRACE_STYLES[names.index(name)]
    near = difflib.get_close_matches(name, names, n=1)
    likely = f"{near[0]!r}, or another of " if near else "one of "
    raise InvalidInputError(f"unknown reasoning style {name!r}; expected {likely}{', '.join(names)}")


def split_reasoning(text: str, style: TraceStyle | None, separate_trace: str = "") -> Split:
    """Answer and trace of a model's text; without a style the whole text is the answer.

    `separate_trace` is what the server returned as reasoning in a field of its own; it never becomes the answer, and it
    says that the server has removed the trace already, so that a text without marks is the answer.
    """
    if style is None:
        return Split(text.strip(), separate_trace.strip())
    body = _without_enders(text.strip(), style)
    end = max((body.rfind(closer) + len(closer) for closer in style.closers if closer in body), default=0)
    opened = body.startswith(style.openers) or any(mark in body for mark in style.openers if mark.startswith("<"))
    if end:
        answer, trace = _without_enders(body[end:].strip(), style), body[:end]
        # A trace that opens again after the last end has no answer either.
        if any(mark in answer for mark in style.openers if mark.startswith("<")):
            answer, trace = "", body
    elif opened or (style.opens_in_prompt and not separate_trace.strip()):
        answer, trace = "", body
    else:
        answer, trace = body, ""
    for mark in sorted((*style.openers, *style.closers), key=len, reverse=True):
        trace = trace.replace(mark, "") if mark.startswith("<") else trace
    return Split(answer, "\n".join(part for part in (separate_trace.strip(), trace.strip()) if part))


def _without_enders(text: str, style: TraceStyle) -> str:
    while any(text.endswith(ender) for ender in style.enders):
        for ender in style.enders:
            text = text.removesuffix(ender).rstrip()
    return text
