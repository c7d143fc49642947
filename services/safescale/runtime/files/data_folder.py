"""The data folder: one process writes to it, others find that process's address in it and say that they use it."""

import fcntl
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from safescale.core.errors import FailedPreconditionError, StorageError
from safescale.runtime.files.atomic import PRIVATE, write_text

LOCK = "lock"
ADDRESS = "address"
USERS = "users"
RECORDS = "records.db"
SERVER = "server"

PATIENCE_S = 1.0
"""Seconds to wait for a folder that is held: another process may only be checking whether it is."""


class DataDir:
    """A data folder that this process holds; released on exit, also after SIGKILL (the lock is the kernel's)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    @property
    def records(self) -> Path:
        """File of the records."""
        return self.path / RECORDS

    def try_hold(self) -> bool:
        """Hold the folder, unless another process does.

        Raises:
            StorageError: the folder cannot be made or written.

        """
        if self._lock is not None:
            return True
        lock = None
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.path / LOCK).open("ab")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # That of a process which was killed leads to nobody, or to a server of somebody else.
            self._clear()
        except OSError as error:
            if lock is not None:
                lock.close()
            if isinstance(error, BlockingIOError):
                return False
            raise StorageError(f"the data folder {self.path} cannot be used: {error.strerror}") from error
        self._lock = lock
        return True

    def __enter__(self) -> "DataDir":
        """Hold the folder.

        Raises:
            StorageError: the folder cannot be made or written.
            FailedPreconditionError: another process holds it.

        """
        until = time.monotonic() + PATIENCE_S
        while not self.try_hold():
            if time.monotonic() > until:
                raise in_use(self.path)
            time.sleep(PATIENCE_S / 20)
        return self

    def announce(self, address: str, *, server: bool = False) -> None:
        """Write the address at which this process answers, for other processes of the same user.

        `server` says that it is no command that ends by itself: when it ends, it may be started again. That stands in
        a file of its own, since scripts take the other one's whole content for the address.

        Raises:
            StorageError: it cannot be written.

        """
        if server:
            write_text(self.path / SERVER, f"{address}\n", PRIVATE)
        write_text(self.path / ADDRESS, f"{address}\n", PRIVATE)

    def withdraw(self) -> None:
        """Take the address back: commands that start from now on wait until the folder is free."""
        with suppress(OSError):
            self._clear()

    def _clear(self) -> None:
        for name in (ADDRESS, SERVER):
            (self.path / name).unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self.withdraw()
            self._lock.close()
            self._lock = None


def in_use(path: Path, more: str = "") -> FailedPreconditionError:
    """Return the error about a folder that another process holds."""
    return FailedPreconditionError(
        f"the data folder {path} is in use by another safescale process{more}; wait for it, or name another "
        "folder in SAFESCALE_DATA_DIR"
    )


def announced_address(path: Path) -> str | None:
    """Address of the process that holds the folder; None when nobody does, or it does not serve yet."""
    return _announced(path, ADDRESS)


def announced_server(path: Path) -> bool:
    """Whether that process is a server, which may be started again when it ends."""
    server = _announced(path, SERVER)
    return server is not None and server == _announced(path, ADDRESS)


def _announced(path: Path, name: str) -> str | None:
    try:
        with (path / LOCK).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except BlockingIOError:
        try:
            return (path / name).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None
    except OSError:
        return None


class Use:
    """Says, from `begin` to `end` or the death of the process, that this process uses the server of a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / USERS / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._file: IO[bytes] | None = None

    def begin(self) -> None:
        """Say so, before the address is read; where it cannot be written, the server may end before us."""
        if self._file is not None:
            return
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            while self._file is None:
                file = self._path.open("ab")
                fcntl.flock(file, fcntl.LOCK_EX)
                # Who counts users takes away files that nobody locks, this one too between the two steps.
                if self._path.exists():
                    self._file = file
                else:
                    file.close()

    def end(self) -> None:
        """Say so no more."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def users(folder: Path) -> int:
    """Return how many processes use the server of a folder; traces of killed ones are removed."""
    found = 0
    try:
        paths = list((folder / USERS).iterdir())
    except OSError:
        return 0
    for path in paths:
        try:
            with path.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except BlockingIOError:
            found += 1
        except OSError:
            continue
    return found
