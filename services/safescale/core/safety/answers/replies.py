"""Finds the object that a judge replied with among what it wrote around it: fences, prose, drafts, its own trace."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from safescale.core.safety.answers.reasoning import TRACE_STYLES

_MARKS = [
    mark
    for style in TRACE_STYLES
    for mark in (*style.openers, *style.closers)
    if mark.startswith("<") and mark not in style.enders
]
_CLOSERS = [mark for style in TRACE_STYLES for mark in style.closers if mark in _MARKS]
OPENERS = tuple(dict.fromkeys([*(mark for mark in _MARKS if mark not in _CLOSERS), "<thinking>", "<reasoning>"]))
CLOSERS = tuple(dict.fromkeys([*_CLOSERS, "</thinking>", "</reasoning>"]))
MAX_DEPTH = 20
MAX_CHARACTERS = 32_768
"""Characters of a reply that are read: a judge needs a few hundred tokens, and searching for objects costs time."""

_BEGIN = re.compile(r"\{\s*[\"}]")


class UnclearReplyError(ValueError):
    """The reply cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class _Found:
    """An object and where its text ends."""

    value: dict[str, Any]
    begin: int
    end: int


def final_object(text: str, key: str) -> dict[str, Any]:
    """Return the last whole JSON object in the text that has `key`, itself or in a nested object.

    An object in a reasoning trace is a draft. A key that is given twice with two values counts as no reply, and so
    does a text that ends within an object: what its last word would have been is not known.

    Raises:
        UnclearReplyError: there is no such object.

    """
    if len(text) > MAX_CHARACTERS:
        raise UnclearReplyError(f"the reply has {len(text):,} characters, over the limit of {MAX_CHARACTERS:,}")
    after = max((text.rfind(mark) + len(mark) for mark in CLOSERS if mark in text), default=0)
    found = _last(text, after, key)
    if found is None and after:
        # A mark may occur within a string of the object, as where it quotes what it was shown.
        found = _last(text, 0, key)
        if found is not None and found.end < after:
            raise UnclearReplyError("the reply has no JSON object after its reasoning")
    if found is None:
        raise UnclearReplyError("the reply is not a JSON object")
    opened = max(text.rfind(mark) for mark in OPENERS)
    if opened >= after and not found.begin < opened < found.end:
        raise UnclearReplyError("the reply ends within its reasoning")
    return found.value


def _last(text: str, begin: int, key: str) -> _Found | None:
    last = None
    for found in _objects(text, begin):
        inner = _with_key(found.value, key)
        if inner is not None:
            last = _Found(inner, found.begin, found.end)
    return last


def _objects(text: str, begin: int) -> Iterator[_Found]:
    """Yield the whole objects of the text in order, reading each character once.

    Raises:
        UnclearReplyError: the text ends within an object, or one is ambiguous.

    """
    # Models break lines within strings, which JSON does not allow and everybody understands.
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_without_contradiction)
    end = len(text.rstrip())
    match = _BEGIN.search(text, begin)
    while match is not None:
        place = match.start()
        try:
            value, after = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if error.pos >= end or error.msg.startswith("Unterminated string"):
                raise UnclearReplyError("the reply ends within a JSON object") from None
            after = max(error.pos, place + 1)
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, UnclearReplyError) else "the reply is not a JSON object"
            raise UnclearReplyError(reason) from None
        else:
            yield _Found(value, place, after)
        match = _BEGIN.search(text, after)


def _without_contradiction(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made and made[key] != value:
            raise UnclearReplyError(f"the reply gives {key} twice, with two values")
        made[key] = value
    return made


def _with_key(value: dict[str, Any], key: str) -> dict[str, Any] | None:
    """Return the object that has the key: this one, or one within it.

    Of several side by side that differ, the one that is called final.

    Raises:
        UnclearReplyError: none of them is, or several are.

    """
    level: list[tuple[str, dict[str, Any]]] = [("", value)]
    for _ in range(MAX_DEPTH):
        having = [(name, each) for name, each in level if key in each]
        if having or not level:
            return _one_of(having) if having else None
        level = [(name, inner) for _, each in level for name, part in each.items() for inner in _inner(part)]
    return None


def _one_of(having: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    found = [each for _, each in having]
    final = [each for name, each in having if "final" in name.lower()]
    for group in (found, final):
        if group and all(each == group[0] for each in group):
            return group[0]
    raise UnclearReplyError("the reply holds several objects that differ")


def _inner(part: Any) -> list[dict[str, Any]]:
    return [each for each in (part if isinstance(part, list) else [part]) if isinstance(each, dict)]
