"""The data folder: one process writes to it, others find that process's address in it."""

import fcntl
from pathlib import Path
from types import TracebackType
from typing import IO

from safescale.core.errors import FailedPreconditionError, StorageError
from safescale.runtime.atomic import PRIVATE, write_text

LOCK = "lock"
ADDRESS = "address"
RECORDS = "records.db"


class DataDir:
    """A data folder that this process holds; released on exit, also after SIGKILL (the lock is the kernel's)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    @property
    def records(self) -> Path:
        """File of the records."""
        return self.path / RECORDS

    def __enter__(self) -> "DataDir":
        """Hold the folder.

        Raises:
            StorageError: the folder cannot be made or written.
            FailedPreconditionError: another process holds it.

        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (self.path / LOCK).open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FailedPreconditionError(
                f"the data folder {self.path} is in use by another safescale process; wait for it, or name another "
                "folder in SAFESCALE_DATA_DIR"
            ) from error
        except OSError as error:
            raise StorageError(f"the data folder {self.path} cannot be used: {error.strerror}") from error
        return self

    def announce(self, address: str) -> None:
        """Write the address at which this process answers, for other processes of the same user."""
        write_text(self.path / ADDRESS, address, PRIVATE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder back."""
        (self.path / ADDRESS).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()


def announced_address(path: Path) -> str | None:
    """Address of the process that holds the folder; None when nobody does."""
    try:
        with (path / LOCK).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except BlockingIOError:
        try:
            return (path / ADDRESS).read_text(encoding="utf-8").strip() or None
        except OSError:
            return None
    except OSError:
        return None
