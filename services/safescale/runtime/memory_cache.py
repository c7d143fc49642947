"""Caches bounded by the memory that their values really take."""

import dataclasses
import math
import sys
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def memory_of(value: Any) -> int:
    """Return about how many bytes a value of plain data takes as Python holds it, not as it is encoded.

    Texts, bytes, numbers, lists, tuples, sets, mappings and dataclasses of them; what is in it twice counts once.
    """
    seen: set[int] = set()
    waiting = [value]
    total = 0
    while waiting:
        one = waiting.pop()
        if one is None or isinstance(one, bool) or id(one) in seen:
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, Mapping):
            waiting.extend(one.keys())
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting.extend(one)
        elif dataclasses.is_dataclass(one) and not isinstance(one, type):
            waiting.extend(getattr(one, field.name) for field in dataclasses.fields(one))
            total += sys.getsizeof(vars(one)) if hasattr(one, "__dict__") else 0
    return total


class MemoryCache(Generic[K, V]):
    """The values used last, up to a number and to bytes. The newest is kept even alone over the bound: it is in use."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        # Unbounded itself, since a bounded one refuses a value over its bound.
        self._entries: LRUCache[K, tuple[V, int]] = LRUCache(math.inf, getsizeof=lambda entry: entry[1])

    @property
    def bytes(self) -> int:
        """Memory that the values take."""
        return int(self._entries.currsize)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return the value of a key, which is then the one used last; None when it is not kept."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value of so many bytes; those used longest ago go."""
        self._entries[key] = (value, size)
        while len(self) > 1 and (len(self) > self._most or self.bytes > self._most_bytes):
            self._entries.popitem()

    def grow(self, key: K, more: int) -> None:
        """Note that the value of a key, which is in use, takes so many bytes more; nothing for one that is gone."""
        if key in self._entries:
            value, size = self._entries[key]
            self.put(key, value, size + more)
