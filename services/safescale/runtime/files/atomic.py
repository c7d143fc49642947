"""Files that appear whole: written under another name beside the target, then given its name. An older file stays until
then, and when the disk is full nothing is left of the new one.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from safescale.core.errors import AlreadyExistsError, StorageError

PRIVATE = 0o600
"""Mode of files that only their owner may read."""

NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EROFS)
"""What file systems say that cannot wait for the disk."""

NO_LINK = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What file systems say that know no second name of a file."""


class Staged:
    """Files that are written together and take their names together, at the end of `with`. On an error none does.

    A name of something that is no regular file, such as /dev/stdout or a pipe, is written to directly.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Path, Path]] = []

    def __enter__(self) -> "Staged":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                for temporary, target in self._waiting:
                    with _told(target):
                        os.replace(temporary, target)
                for folder in {target.parent for _, target in self._waiting}:
                    _sync_folder(folder)
        finally:
            for temporary, _ in self._waiting:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)

    @contextmanager
    def open(self, path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
        """Open a file to write to, for the length of the context; missing parent folders are created.

        `mode` are its permissions; unless given, those of the older file, or what the process gives to new files.

        Raises:
            StorageError: it cannot be written.

        """
        with _told(path):
            if not _is_regular(path):
                with path.open("wb") as out:
                    yield out
                return
            # The name of a link stays a link: its target is what is replaced.
            target = Path(os.path.realpath(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".safescale-{os.getpid()}-{secrets.token_hex(4)}.part")
            self._waiting.append((temporary, target))
            with os.fdopen(_created(temporary, _mode(target, mode)), "wb") as out:
                yield out
                _synced(out)


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file that replaces `path` when the body ends without an error; see `Staged.open`.

    Raises:
        StorageError: it cannot be written; what was at `path` is as it was.

    """
    with Staged() as staged, staged.open(path, mode) as out:
        yield out


@contextmanager
def creating(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """As `replacing`, of a file that must not be there.

    Raises:
        AlreadyExistsError: it is there, perhaps since a moment ago; it is as it was.
        StorageError: it cannot be written.

    """
    temporary = path.with_name(f".safescale-{os.getpid()}-{secrets.token_hex(4)}.part")
    with ExitStack() as stack, _told(path):
        descriptor = _created(temporary, mode)
        stack.callback(temporary.unlink, missing_ok=True)
        with os.fdopen(descriptor, "wb") as out:
            yield out
            _synced(out)
        _named(temporary, path)
        _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a whole file, and the folders above it.

    Raises:
        StorageError: it cannot be written; what was at `path` is as it was.

    """
    with replacing(path, mode) as out:
        out.write(content)


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Write a whole file in UTF-8, whatever the locale, and the folders above it.

    Raises:
        StorageError: it cannot be written; what was at `path` is as it was.

    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"), mode)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def _is_regular(path: Path) -> bool:
    if path.is_relative_to("/dev"):
        # /dev/stdout may lead to a regular file, which others have open.
        return False
    try:
        found = path.stat()
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return stat.S_ISREG(found.st_mode)


def _mode(target: Path, mode: int | None) -> int | None:
    if mode is not None:
        return mode
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except OSError:
        return None


def _created(temporary: Path, mode: int | None) -> int:
    """Create a file. Without a mode the process's umask decides; with one it never has more rights, at no moment."""
    opened = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666 if mode is None else mode)
    if mode is not None:
        os.fchmod(opened, mode)
    return opened


def _synced(out: IO[bytes]) -> None:
    """Wait for the disk: some file systems report only here that there is no space."""
    out.flush()
    try:
        os.fsync(out.fileno())
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def _named(temporary: Path, path: Path) -> None:
    """Give a file its name unless another has it."""
    try:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            # The name is taken first, so that no other can.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.replace(temporary, path)
    except FileExistsError as error:
        raise AlreadyExistsError(f"{path} exists; expected the name of a new file") from error


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
