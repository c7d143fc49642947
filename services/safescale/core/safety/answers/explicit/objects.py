"""Answers that are a JSON object, fenced or not."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 3
"""Objects within objects that are looked into."""

_FENCE = re.compile(r"\A```[A-Za-z]{0,10}\s+(?=\{)")
_ANSWERS = frozenset(
    """
    answer answers finalanswer correctanswer bestanswer youranswer choice finalchoice correctchoice selectedchoice
    option correctoption selectedoption bestoption answeroption answerchoice answerletter letter selection selected
    selectedanswer prediction antwort réponse reponse respuesta
    """.split()  # noqa: SIM905
)


class _TwiceError(ValueError):
    """A key is there twice."""


@dataclass(frozen=True, slots=True)
class Values:
    """The texts of an object: those under the name of an answer, and all others."""

    answers: list[str]
    others: list[str]


def is_object(text: str) -> bool:
    """Return whether a text is written as one JSON object, whole or not."""
    return _body(text).startswith("{")


def values_of(text: str) -> Values | None:
    """Return the texts of an object; None where it is no valid JSON, has a key twice, or an answer that is no text."""
    try:
        found = json.loads(_body(text), object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        return None
    values = Values([], [])
    return values if isinstance(found, dict) and _collected(found, values) else None


def _collected(found: dict[str, Any], values: Values, depth: int = 0) -> bool:
    """Add the texts of an object and of those within it; return False for an answer that is neither a text nor one."""
    for key, value in found.items():
        only = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(only, dict):
            if depth == MAX_DEPTH or not _collected(only, values, depth + 1):
                return False
        elif re.sub(r"[\W_]", "", key).lower() in _ANSWERS:
            if not isinstance(only, str):
                return False
            values.answers.append(only)
        elif isinstance(only, str):
            values.others.append(only)
    return True


def _body(text: str) -> str:
    stripped = text.strip()
    begin = _FENCE.match(stripped)
    return stripped[begin.end() :].removesuffix("```").rstrip() if begin else stripped


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _TwiceError
    return dict(pairs)
