"""Reading a user's files: whatever goes wrong is an error that names the file and says what was expected."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from safescale.core.errors import Defect, InvalidInputError, LimitExceededError, SpecError, StorageError
from safescale.core.records import Source

MAX_FILE_BYTES = 2 * 1024**3


def read_source(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> Source:
    """The bytes of a file under the name that the user gave it.

    Raises InvalidInputError where it is missing, no file or not ours to read, LimitExceededError where it is larger
    than `max_bytes`, StorageError where the disk fails.
    """
    try:
        if path.is_dir():
            raise InvalidInputError(f"{path}: is a directory; expected a file")
        size = path.stat().st_size
        if size > max_bytes:
            raise LimitExceededError(f"{path}: {size:,} bytes; expected at most {max_bytes:,}")
        return Source(str(path), path.read_bytes())
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: no such file") from error
    except PermissionError as error:
        raise InvalidInputError(f"{path}: permission denied; expected a readable file") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, that does not let a repeated key win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, refused where it has a key twice."""
        seen: list[object] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} twice", key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep=deep)


def parse_yaml(source: Source) -> Any:
    """The one document of a YAML (or JSON) file as plain values; None for an empty file.

    Raises SpecError with the line of what is wrong.
    """
    try:
        return yaml.load(source.data.decode("utf-8-sig"), Loader=_StrictLoader)  # noqa: S506 (a safe loader)
    except UnicodeDecodeError as error:
        line = source.data.count(b"\n", 0, error.start) + 1
        place = f"byte 0x{source.data[error.start]:02x} at offset {error.start}"
        defect = Defect(source.name, line, None, "encoding", place, "UTF-8")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        column = f" at column {mark.column + 1}" if mark else ""
        found = f"{error.problem or error}{column}"
        defect = Defect(source.name, mark.line + 1 if mark else None, None, None, found, "valid YAML")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        defect = Defect(source.name, None, None, None, found, "valid YAML")
    raise SpecError(str(defect), defects=[defect])


def read_yaml(path: Path) -> Any:
    """The document of a YAML file.

    Raises as `read_source` and `parse_yaml` do.
    """
    return parse_yaml(read_source(path))
