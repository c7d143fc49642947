"""Tokenisation by the servers that offer it: vLLM and SGLang (`/tokenize`, `/detokenize`) and TGI (`/tokenize`).

llama.cpp's own way is in `llama.protocol`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from safescale.core.errors import GarbageAnswerError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.messages import chat_messages, plain_prompt
from safescale.inference.backends.port import Tokens
from safescale.inference.backends.steps import Ask, Steps, field

TOKENIZE = "/tokenize"
DETOKENIZE = "/detokenize"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model in messages and its name at the server."""

    model: str
    name: str
    instruct: bool


def prompt_ids(served: ServedModel, messages: Messages) -> Steps[list[int]]:
    """Return token ids of a prompt as the server itself would read it: by the chat template, or with a begin token."""
    if served.instruct:
        body = {"messages": chat_messages(messages), "add_generation_prompt": True}
    else:
        body = {"prompt": plain_prompt(messages), "add_special_tokens": True}
    return (yield from _ids(served, body))


def text_ids(served: ServedModel, text: str) -> Steps[list[int]]:
    """Return the token ids of a text without special tokens."""
    if not text:
        return []
    return (yield from _ids(served, {"prompt": text, "add_special_tokens": False}))


def _ids(served: ServedModel, body: dict[str, object]) -> Steps[list[int]]:
    ids = field((yield Ask(TOKENIZE, {"model": served.name, **body})), "tokens")
    if not isinstance(ids, list) or not all(type(number) is int for number in ids):
        raise GarbageAnswerError(f"the tokenizer of {served.model} gave no token ids")
    return ids


def tokens(served: ServedModel, texts: Sequence[str], truncate_to: int | None) -> Steps[Tokens]:
    """Return token counts of texts; with a limit also the longest prefixes within it."""
    counts, cut = [], []
    for text in texts:
        ids = yield from text_ids(served, text)
        counts.append(len(ids))
        if truncate_to is not None:
            whole = len(ids) <= truncate_to
            cut.append(text if whole else (yield from _prefix(served, text, ids, truncate_to)))
    return Tokens(tuple(counts), tuple(cut))


def _prefix(served: ServedModel, text: str, ids: Sequence[int], limit: int) -> Steps[str]:
    # A prefix can have more tokens than it had inside the text, and a character can span tokens: try shorter ones.
    for keep in range(limit, 0, -1):
        answer = yield Ask(DETOKENIZE, {"model": served.name, "tokens": list(ids[:keep])})
        said = field(answer, "prompt")
        said = field(answer, "text") if said is None else said
        if not isinstance(said, str):
            raise GarbageAnswerError(f"the tokenizer of {served.model} gave no text")
        # Some tokenizers lose the blank before a text; what is no part of the text is half a character.
        prefix = max((_common(text, form) for form in (said, f" {said}")), key=len)
        if len((yield from text_ids(served, prefix))) <= limit:
            return prefix
    return ""


def _common(text: str, other: str) -> str:
    """Return the longest beginning that both have."""
    for index, (mine, yours) in enumerate(zip(text, other, strict=False)):
        if mine != yours:
            return text[:index]
    return text[: len(other)]


def tgi_tokens(served: ServedModel, texts: Sequence[str], truncate_to: int | None) -> Steps[Tokens]:
    """Do as `tokens` by TGI, whose tokens come with the bytes of the text that they represent."""
    counts, cut = [], []
    for text in texts:
        ends = yield from _ends(served, text)
        counts.append(len(ends))
        if truncate_to is not None:
            whole = len(ends) <= truncate_to
            cut.append(text if whole else (yield from _tgi_prefix(served, text, ends, truncate_to)))
    return Tokens(tuple(counts), tuple(cut))


def _ends(served: ServedModel, text: str) -> Steps[list[int]]:
    if not text:
        return []
    answer = yield Ask(TOKENIZE, {"inputs": text})
    try:
        # Begin tokens stand for no byte of the text.
        return [int(token["stop"]) for token in answer if token["stop"] > token["start"]]
    except (TypeError, KeyError, ValueError) as error:
        raise GarbageAnswerError(f"the tokenizer of {served.model} gave no tokens") from error


def _tgi_prefix(served: ServedModel, text: str, ends: Sequence[int], limit: int) -> Steps[str]:
    raw = text.encode()
    for keep in range(limit, 0, -1):
        prefix = raw[: ends[keep - 1]].decode("utf-8", "ignore")
        if len((yield from _ends(served, prefix))) <= limit:
            return prefix
    return ""
