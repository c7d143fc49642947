"""Scores of continuations by servers that give log-probabilities of a prompt's tokens.

The tokens of each continuation are put behind those of the prompt, as they would be if the model wrote them, and asked
about together: vLLM as `prompt_logprobs`, SGLang as `input_token_logprobs`, others as the echo of a completion.
llama.cpp gives none of these; its way is in `llama.protocol`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safescale.core.errors import FailedPreconditionError, GarbageAnswerError, InvalidInputError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.messages import COMPLETIONS, continuation, plain_prompt
from safescale.inference.backends.openai.dialect import unscored
from safescale.inference.backends.openai.tokens import ServedModel, prompt_ids, text_ids
from safescale.inference.backends.port import Score
from safescale.inference.backends.steps import Ask, Steps, field


@dataclass(frozen=True, slots=True)
class ScoredTexts:
    """Scores in the order of the continuations, and the prompt's tokens."""

    items: tuple[Score, ...]
    prompt_tokens: int


Scoring = Callable[[ServedModel, Messages, Sequence[str]], Steps[ScoredTexts]]


def _prompt_logprobs(served: ServedModel, messages: Messages, texts: Sequence[str]) -> Steps[ScoredTexts]:
    """vLLM: one completion with a prompt of token ids for each continuation."""
    prompt, parts = yield from _ids(served, messages, texts)
    body = {"prompt": [prompt + part for part in parts], "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
    answer = yield Ask(COMPLETIONS, {"model": served.name, **body})
    choices = _in_order(served, field(answer, "choices"), len(parts))
    items = []
    for choice, part in zip(choices, parts, strict=True):
        found = field(choice, "prompt_logprobs")
        if not isinstance(found, list) or len(found) != len(prompt) + len(part):
            raise _unread(served)
        values = [field(place, str(token), "logprob") for place, token in zip(found[-len(part) :], part, strict=True)]
        items.append(_score(served, values))
    return ScoredTexts(tuple(items), len(prompt))


def _input_logprobs(served: ServedModel, messages: Messages, texts: Sequence[str]) -> Steps[ScoredTexts]:
    """SGLang: its own `/generate` with a prompt of token ids for each continuation."""
    prompt, parts = yield from _ids(served, messages, texts)
    body = {
        "input_ids": [prompt + part for part in parts],
        "sampling_params": {"temperature": 0.0, "max_new_tokens": 0},
        "return_logprob": True,
        # The first one given is that of the prompt's last token, which has none where it is the first that is read.
        "logprob_start_len": max(len(prompt) - 1, 0),
    }
    answers = yield Ask("/generate", body)
    if not isinstance(answers, list) or len(answers) != len(parts):
        raise _unread(served)
    items = []
    for answer, part in zip(answers, parts, strict=True):
        found = field(answer, "meta_info", "input_token_logprobs")
        told = found[-len(part) :] if isinstance(found, list) else []
        if [field(place, 1) for place in told] != part:
            raise _unread(served)
        items.append(_score(served, [field(place, 0) for place in told]))
    return ScoredTexts(tuple(items), len(prompt))


def _echo(served: ServedModel, messages: Messages, texts: Sequence[str]) -> Steps[ScoredTexts]:
    """Any other server: the echo of prompt and continuation, for models without a chat template alone."""
    if served.instruct:
        raise unscored(served.model, "a chat model at a server that is none of the known ones")
    prompt = plain_prompt(messages)
    parts = [continuation(text, instruct=False) for text in texts]
    _check_parts(parts)
    body = {"prompt": [prompt + part for part in parts], "max_tokens": 1, "temperature": 0.0}
    answer = yield Ask(COMPLETIONS, {"model": served.name, **body, "echo": True, "logprobs": 0})
    choices = _in_order(served, field(answer, "choices"), len(parts))
    items, before = [], 0
    for choice, part in zip(choices, parts, strict=True):
        values, before = _echoed(served, choice, len(prompt), len(prompt) + len(part))
        items.append(_score(served, values))
    return ScoredTexts(tuple(items), before)


def _echoed(served: ServedModel, choice: object, begin: int, end: int) -> tuple[list[Any], int]:
    """Return log-probabilities of the tokens that begin within these characters, and the number of tokens before."""
    offsets, values = field(choice, "logprobs", "text_offset"), field(choice, "logprobs", "token_logprobs")
    if not isinstance(offsets, list) or not isinstance(values, list) or len(offsets) != len(values):
        raise FailedPreconditionError(
            f"the server of {served.model} does not echo a prompt with log-probabilities; use the letter formulation"
        )
    if not all(type(offset) is int for offset in offsets):
        raise _unread(served)
    within = [index for index, offset in enumerate(offsets) if begin <= offset < end]
    if not within or offsets[within[0]] != begin:
        # A token lies across the end of the prompt: its part of the continuation cannot be separated.
        raise GarbageAnswerError(f"the server of {served.model} took prompt and continuation as one word")
    return [values[index] for index in within], within[0]


SCORINGS: Mapping[str, Scoring] = {
    "prompt_logprobs": _prompt_logprobs,
    "input_logprobs": _input_logprobs,
    "echo": _echo,
}
"""Ways of scoring by the name that a dialect gives."""


def _ids(served: ServedModel, messages: Messages, texts: Sequence[str]) -> Steps[tuple[list[int], list[list[int]]]]:
    prompt = yield from prompt_ids(served, messages)
    parts = []
    for text in texts:
        part = yield from text_ids(served, continuation(text, instruct=served.instruct))
        parts.append(part)
    _check_parts(parts)
    return prompt, parts


def _check_parts(parts: Sequence[Sequence[Any]]) -> None:
    if not all(parts):
        raise InvalidInputError("an empty continuation cannot be scored")


def _in_order(served: ServedModel, choices: object, count: int) -> list[Any]:
    if not isinstance(choices, list) or len(choices) != count:
        raise _unread(served)
    places = [field(choice, "index") for choice in choices]
    if sorted(place for place in places if type(place) is int) != list(range(count)):
        raise _unread(served)
    return [choices[places.index(number)] for number in range(count)]


def _score(served: ServedModel, values: Sequence[object]) -> Score:
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if len(numbers) != len(values):
        raise GarbageAnswerError(f"the server of {served.model} gave a log-probability that is no number")
    # Rounding can put the log-probability of a certain token a hair above 0.
    return Score(sum(min(number, 0.0) for number in numbers) / len(numbers), len(numbers))


def _unread(served: ServedModel) -> GarbageAnswerError:
    return GarbageAnswerError(f"the server of {served.model} gave no log-probabilities of the tokens asked about")
