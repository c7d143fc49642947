"""Values read from files, read again when the files change: certificates, tokens and keys are renewed in place."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from safescale.core.errors import SafescaleError
from safescale.runtime.log import get_logger

CHECK_S = 2.0
"""Seconds between two checks of the files."""

T = TypeVar("T")
State = tuple[tuple[int, int, int] | None, ...]


class ReloadingValue(Generic[T]):
    """What `load` makes of some files. A change that cannot be used is logged; the value before it stays."""

    def __init__(self, files: Sequence[Path], load: Callable[[], T], check_s: float = CHECK_S) -> None:
        """Load for the first time; a SafescaleError of `load` is raised."""
        self._files = tuple(files)
        self._load = load
        self._check_s = check_s
        # Checked before they are read: a change in between is seen at the next check.
        self._state = self._file_states()
        self._refused: State | None = None
        self._value = load()
        self._next = time.monotonic() + check_s

    def get(self) -> T:
        """Return the value; the same object until the files change. Thread-safe."""
        now = time.monotonic()
        if now < self._next:
            return self._value
        self._next = now + self._check_s
        state = self._file_states()
        if state != self._state:
            try:
                self._value = self._load()
            except SafescaleError as error:
                # Tried again at each check: a pair of files is renewed one after the other.
                if state != self._refused:
                    self._refused = state
                    get_logger("files").warning("changed file not used", reason=error.message)
                return self._value
            self._state = state
        return self._value

    def _file_states(self) -> State:
        return tuple(_state(file) for file in self._files)


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
