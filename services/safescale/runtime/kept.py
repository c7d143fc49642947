"""Values kept by key, up to a bound in number and in bytes of real memory: a cache whose size is what it takes."""

import dataclasses
import sys
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

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


class Kept(Generic[K, V]):
    """The values used last. The newest is kept though it alone may be over the bound: it is in use."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._values: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value of a key, which is then the one used last; None when it is not kept."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value of so many bytes; those used longest ago go."""
        self.bytes += size - self._sizes.get(key, 0)
        self._values[key], self._sizes[key] = value, size
        self._values.move_to_end(key)
        self._trim()

    def grow(self, key: K, more: int) -> None:
        """Say that the value of a key takes so many bytes more; nothing for one that is gone."""
        if key in self._sizes:
            self._sizes[key] += more
            self.bytes += more
            self._trim()

    def _trim(self) -> None:
        while len(self._values) > 1 and (len(self._values) > self._most or self.bytes > self._most_bytes):
            dropped, _ = self._values.popitem(last=False)
            self.bytes -= self._sizes.pop(dropped)
