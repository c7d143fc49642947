"""Conversations with a server of several exchanges, without I/O.

A conversation is a generator: it yields what to ask and is sent the answers. So one description serves callers that
block and callers that await, and tests need no server.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """One exchange: a path of the server's HTTP interface and the body to post."""

    path: str
    body: dict[str, Any]


Steps = Generator[Ask, Any, T]
"""A conversation: yields what to ask, is sent the answer (a JSON value), returns its result."""


def field(value: Any, *path: str | int) -> Any:
    """Return the part of a JSON value under these keys and indices; None where it is not there."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value
