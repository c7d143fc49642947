"""Reading a user's files: whatever goes wrong is an error that names the file and says what was expected."""

import json
from pathlib import Path
from typing import Any

import yaml

from safescale.core.errors import Defect, InvalidInputError, LimitExceededError, SpecError, StorageError
from safescale.core.inputs.records import Source, shown
from safescale.core.inputs.text import visible_line
from safescale.runtime.files.yaml_core import MAX_NODES, CoreLoader

MAX_FILE_BYTES = 2 * 1024**3

PIECE_BYTES = 1024**2

MAX_YAML_BYTES = 4 * 1024**2
"""Bytes of a YAML file: specs, policies and catalogs are far smaller, and reading takes seconds for each megabyte."""


def read_source(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> Source:
    """Return the bytes of a file under the name that the user gave it.

    Raises InvalidInputError where it is missing, no file or not ours to read, LimitExceededError where it is larger
    than `max_bytes`, StorageError where the disk fails.
    """
    try:
        if path.is_dir():
            raise InvalidInputError(f"{path}: is a directory; expected a file")
        size = path.stat().st_size
        if size > max_bytes:
            raise LimitExceededError(f"{path}: {size:,} bytes; expected at most {max_bytes:,}")
        return Source(str(path), path.read_bytes() if path.is_file() else _piped(path, max_bytes))
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: no such file") from error
    except PermissionError as error:
        raise InvalidInputError(f"{path}: permission denied; expected a readable file") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _piped(path: Path, max_bytes: int) -> bytes:
    """Read a pipe or a device, which reports no size and may have no end."""
    data = bytearray()
    with path.open("rb") as file:
        while part := file.read(PIECE_BYTES):
            data += part
            if len(data) > max_bytes:
                raise LimitExceededError(f"{path}: over {max_bytes:,} bytes; expected no more")
    return bytes(data)


def parse_yaml(source: Source) -> Any:
    """Return the one document of a YAML (or JSON) file as plain values; None for an empty file.

    Raises SpecError with the line of what is wrong, LimitExceededError for a file over 4 MiB.
    """
    return parse_yaml_tree(source)[0]


def parse_yaml_tree(source: Source) -> tuple[Any, yaml.Node | None]:
    """Return the document as `parse_yaml` does, and the tree of its nodes, which know their lines."""
    if len(source.data) > MAX_YAML_BYTES:
        raise LimitExceededError(f"{source.name}: {len(source.data):,} bytes; expected at most {MAX_YAML_BYTES:,}")
    try:
        value, node = _loaded(source.data.decode("utf-8-sig"))
        return _checked(value), node
    except UnicodeDecodeError as error:
        defect = _not_utf8(source, error)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        column = f" at column {mark.column + 1}" if mark else ""
        found = visible_line(f"{(error.problem or str(error))[:200]}{column}")
        defect = Defect(source.name, mark.line + 1 if mark else None, None, None, found, "valid YAML")
    except RecursionError:
        defect = Defect(source.name, None, None, None, "values nested too deep", "valid YAML")
    except (yaml.YAMLError, ValueError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        defect = Defect(source.name, None, None, None, found, "valid YAML")
    raise SpecError(str(defect), defects=[defect])


def parse_json(source: Source) -> Any:
    """Return the value of a JSON file, read strictly: no key twice, no NaN, no half of a surrogate pair.

    Raises SpecError with the line of what is wrong.
    """
    try:
        text = source.data.decode("utf-8-sig")
        return _checked(json.loads(text, object_pairs_hook=_object, parse_constant=_constant))
    except UnicodeDecodeError as error:
        defect = _not_utf8(source, error)
    except json.JSONDecodeError as error:
        defect = Defect(source.name, error.lineno, None, None, f"{error.msg} at column {error.colno}", "valid JSON")
    except (ValueError, RecursionError) as error:
        found = "values nested too deep" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        defect = Defect(source.name, None, None, None, found, "valid JSON")
    raise SpecError(str(defect), defects=[defect])


def _loaded(text: str) -> tuple[Any, yaml.Node | None]:
    loader = CoreLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        if _size(node, {}) > MAX_NODES:
            raise ValueError(f"aliases that stand for more than {MAX_NODES:,} values")
        return loader.construct_document(node), node
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Values below a node, aliases written out; one that holds itself has no size."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MAX_NODES + 1
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    known[id(node)] = min(1 + sum(_size(child, known) for child in children), MAX_NODES + 1)
    return known[id(node)]


def _checked(value: Any) -> Any:
    """Return the value if its texts can be written: an escape can bring in half a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False, default=str, skipkeys=True).encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair in a text") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {shown(key)} twice in one object")
        seen.add(key)
    return dict(pairs)


def _constant(name: str) -> Any:
    raise ValueError(f"the number {name}")


def _not_utf8(source: Source, error: UnicodeDecodeError) -> Defect:
    line = source.data.count(b"\n", 0, error.start) + 1
    place = f"byte 0x{source.data[error.start]:02x} at offset {error.start}"
    return Defect(source.name, line, None, "encoding", place, "UTF-8")
