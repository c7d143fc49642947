"""Weight files of embedded models: where they are, how parts become one file, what their SHA-256 is."""

import fcntl
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safescale.core.errors import BackendError, BackendUnavailableError, StorageError
from safescale.inference.catalog import EmbeddedEndpoint, ModelRow, PackageFile

MAGIC = b"GGUF"
BLOCK_BYTES = 1024 * 1024


State = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one row. Files in several parts are joined in `cache_dir`."""

    model: str
    endpoint: EmbeddedEndpoint
    digest: str | None
    cache_dir: Path

    def missing(self) -> str:
        """Return why the files cannot be used, a sentence; empty when they are there. Reads at most four bytes."""
        if self.endpoint.path is not None:
            return _unusable(Path(self.endpoint.path))
        for reference in self.endpoint.files:
            located = _located(reference)
            if located is None:
                wanted = self.endpoint.distribution or reference.package
                return f"the package {wanted} is not installed (it holds the weights of {self.model})"
            if not located.is_file():
                return f"the package {reference.package} has no file {reference.file}"
        return ""

    def file(self) -> Path:
        """Return the path of the whole weight file, whose SHA-256 is the catalog's if it states one.

        Raises:
            BackendUnavailableError: a file or package is not there.
            BackendError: the content is not what the catalog states.
            StorageError: the parts could not be joined on disk.

        """
        if reason := self.missing():
            raise BackendUnavailableError(reason)
        if self.endpoint.path is not None:
            return self._checked(Path(self.endpoint.path))
        parts = [located for reference in self.endpoint.files if (located := _located(reference)) is not None]
        if len(parts) == 1:
            return self._checked(parts[0])
        return self._joined(parts)

    def state(self) -> State:
        """Return inode, size and time of change of each file, which reveal a replaced one at no cost."""
        paths = [Path(self.endpoint.path)] if self.endpoint.path is not None else map(_located, self.endpoint.files)
        found = [path.stat() for path in paths if path is not None and path.exists()]
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)

    def compute_digest(self) -> str:
        """Return the SHA-256 (hex) of the weights, read without joining parts.

        Raises:
            BackendUnavailableError: a file or package is not there.
            StorageError: a file cannot be read.

        """
        if reason := self.missing():
            raise BackendUnavailableError(reason)
        if self.endpoint.path is not None:
            return digest_of([Path(self.endpoint.path)])
        return digest_of([located for reference in self.endpoint.files if (located := _located(reference)) is not None])

    def _checked(self, path: Path) -> Path:
        if self.digest is not None:
            found = digest_of([path])
            if found != self.digest:
                raise BackendError(
                    f"the weights of {self.model} ({path.name}) have SHA-256 {found}; the catalog states {self.digest}"
                )
        return path

    def _joined(self, parts: Sequence[Path]) -> Path:
        digest = self.digest or digest_of(parts)
        target = self.cache_dir / "weights" / f"{digest}.gguf"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.with_suffix(".lock").open("wb") as lock:
                # Other processes may want the same file: one joins, the others find it.
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (target.is_file() and digest_of([target]) == digest):
                    _join(parts, target, digest)
        except OSError as error:
            raise StorageError(f"the weights of {self.model} cannot be joined in {target.parent}: {error}") from error
        return target


def weights_of(row: ModelRow, cache_dir: Path) -> Weights:
    """Return the weights of an embedded row.

    Raises:
        ValueError: a row of another backend.

    """
    if row.embedded is None:
        raise ValueError(f"{row.id} is not an embedded model")
    return Weights(row.id, row.embedded, row.revision, cache_dir)


def digest_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 (hex) of the files' contents, one after the other.

    Raises:
        StorageError: a file cannot be read.

    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
        except OSError as error:
            raise StorageError(f"{path.name} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _located(reference: PackageFile) -> Path | None:
    # find_spec of a top-level name runs nothing of the package, whose own imports may need a compiler.
    spec = importlib.util.find_spec(reference.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / reference.file


def _unusable(path: Path) -> str:
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        return f"the weight file {path} cannot be read: {error.strerror or error}"
    return "" if magic == MAGIC else f"{path} is not a GGUF file"


def _join(parts: Sequence[Path], target: Path, digest: str) -> None:
    handle, name = tempfile.mkstemp(prefix=target.name, dir=target.parent)
    temporary = Path(name)
    try:
        found = hashlib.sha256()
        with os.fdopen(handle, "wb") as joined:
            for part in parts:
                with part.open("rb") as file:
                    while block := file.read(BLOCK_BYTES):
                        found.update(block)
                        joined.write(block)
            joined.flush()
            os.fsync(joined.fileno())
        if found.hexdigest() != digest:
            raise BackendError(f"the parts of {target.name} join to SHA-256 {found.hexdigest()}; expected {digest}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
