"""YAML as its version 1.2 reads it, and less: a plain value is a number or a truth value only where that is sure.

`10`, `-3`, `0.7`, `1e3`, `true`, `null` are what they look like. `010`, `1:30`, `1_000`, `yes`, `off`, `2026-01-31` and
all else stay the text that was written: an id keeps its zeros, and a field that wants a number says that it got a text.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

MAX_NODES = 1_000_000
"""Values of a document with its aliases and merge keys written out: a few lines of them can expand to billions."""

MAX_DEPTH = 60
"""Mappings and lists in one another."""

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
# 18 digits: longer ones are ids or hashes that somebody forgot to quote.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?\Z")
_TAG = "tag:yaml.org,2002:"
_KEPT = ("null", "bool", "int", "float", "str", "seq", "map")


class CoreLoader(yaml.SafeLoader):
    """Loader of one document by the rules above; a key twice and values nested too deep are errors with their line."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (filled below)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; refuse one that is nested too deep."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            place = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"values nested deeper than {MAX_DEPTH}", place)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping; refuse a repeated key. `<<` adds the keys of another mapping that are missing."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _int(_: CoreLoader, node: yaml.ScalarNode) -> int:
    return int(_plain(node, _INT, "a whole number"))


def _float(_: CoreLoader, node: yaml.ScalarNode) -> float:
    return float(_plain(node, _FLOAT, "a number"))


def _plain(node: yaml.ScalarNode, pattern: re.Pattern[str], expected: str) -> str:
    """Return the text of a scalar that the file tags as a number, as in `!!int 010`."""
    if not pattern.match(node.value):
        raise yaml.constructor.ConstructorError(None, None, f"{node.value[:40]!r} is not {expected}", node.start_mark)
    return str(node.value)


def _set_up() -> None:
    """Give the loader its rules in place of those that it has from YAML 1.1."""
    kept = {f"{_TAG}{name}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{name}"] for name in _KEPT}
    # The key None means every other tag: an error.
    unknown: dict[Any, Any] = {None: yaml.SafeLoader.yaml_constructors[None]}
    CoreLoader.yaml_constructors = kept | unknown | {f"{_TAG}int": _int, f"{_TAG}float": _float}
    for name, pattern, first in (
        ("null", _NULL, ["~", "n", "N", ""]), ("bool", _BOOL, list("tTfF")), ("int", _INT, list("-+0123456789")),
        ("float", _FLOAT, list("-+0123456789.")), ("merge", re.compile(r"<<\Z"), ["<"]),
    ):  # fmt: skip
        CoreLoader.add_implicit_resolver(f"{_TAG}{name}", pattern, first)


_set_up()
