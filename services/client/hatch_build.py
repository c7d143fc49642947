"""Gathers the modules of the light client from the sources of the full package and puts them into the wheel.

The modules are copied with their imports moved from `safescale` to `safescale_client`. What they use of modules that
need more packages (settings, logs, the servers' guard) comes from `shims`. The messages are made at import from the
descriptors of the generated stubs. Such messages run on every protobuf from 6.30 on, while generated code
demands the runtime that it was generated for; and they have a pool of their own, so that both packages can be loaded.
"""

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent / "safescale"
NAME = "safescale_client"
IMPORT = re.compile(r"^(\s*(?:from|import) )safescale(?=[. ])", re.MULTILINE)
FIRST = "client"
PROTOS = ("common", "scoring")


def gather(target: Path) -> None:
    """Write the package into a folder.

    Raises:
        FileNotFoundError: a module is neither in the sources nor in `shims`.

    """
    shims = HERE / "shims"
    left = [path.relative_to(SOURCES) for path in sorted((SOURCES / FIRST).glob("*.py"))]
    done: set[Path] = set()
    while left:
        module = left.pop()
        if module in done:
            continue
        done.add(module)
        shim = shims / module
        text = (shim if shim.is_file() else SOURCES / module).read_text(encoding="utf-8")
        left += _needed(text)
        _write(target / module, IMPORT.sub(rf"\g<1>{NAME}", text))
    for folder in {parent for module in done for parent in module.parents}:
        if not (target / folder / "__init__.py").exists():
            _write(target / folder / "__init__.py", "")
    _write(target / "__init__.py", IMPORT.sub(rf"\g<1>{NAME}", (SOURCES / FIRST / "__init__.py").read_text("utf-8")))
    _write(target / "rpc" / "descriptors.py", _descriptors())
    _write(target / "py.typed", "")


def _needed(text: str) -> Iterator[Path]:
    """Modules of the package that a module imports."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("safescale."):
            continue
        base = Path(*node.module.split(".")[1:])
        for name in node.names:
            for candidate in (base / f"{name.name}.py", base.with_suffix(".py")):
                if (HERE / "shims" / candidate).is_file() or (SOURCES / candidate).is_file():
                    yield candidate
                    break


def _descriptors() -> str:
    """Return the module with the serialized descriptors of the generated stubs."""
    lines = [
        '"""Descriptors of the messages, serialized, in the order in which they need each other."""',
        "",
        "FILES = (",
    ]
    for name in PROTOS:
        stub = (SOURCES / "rpc" / name / "v1" / f"{name}_pb2.py").read_text(encoding="utf-8")
        calls = [node for node in ast.walk(ast.parse(stub)) if isinstance(node, ast.Call)]
        added = [call for call in calls if getattr(call.func, "attr", "") == "AddSerializedFile"]
        lines += [f"    {ast.literal_eval(call.args[0])!r}," for call in added]
    return "\n".join([*lines, ")", ""])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class ClientHook(BuildHookInterface[Any]):
    """Adds the gathered package to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Gather, and have the folder included under the package's name."""
        folder = tempfile.mkdtemp(prefix="safescale-client-")
        gather(Path(folder) / NAME)
        build_data["force_include"][str(Path(folder) / NAME)] = NAME
        self._folder = folder

    def finalize(self, *_: Any) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
