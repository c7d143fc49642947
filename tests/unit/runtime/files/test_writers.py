"""Every file is written by one helper and in UTF-8: the sources are read for calls that would do otherwise."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parents[4] / "services" / "safescale"

OWN_WAY = {
    "runtime/files/atomic.py": "the helper itself",
    "cli/terminal/output.py": "the null device, in place of a closed stream",
    "runtime/files/data_folder.py": "locks have no content",
    "inference/backends/llama/weights.py": "checks the digest of what it joined before the name is given",
    "inference/backends/llama/model_server.py": "a log, which grows",
}
"""Modules that may open a file for writing, and why."""

MODE = re.compile("[rwaxbt+]+")


def _calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            yield node, name


def _mode(call: ast.Call) -> str | None:
    """Mode of a call that opens a file; None of other methods of the name."""
    values = [each.value for each in (*call.args, *call.keywords) if isinstance(each, ast.Constant | ast.keyword)]
    texts = [getattr(each, "value", each) for each in values]
    found = [each for each in texts if isinstance(each, str) and MODE.fullmatch(each)]
    builtin = isinstance(call.func, ast.Name)
    return found[0] if found else ("r" if builtin or (not call.args and not call.keywords) else None)


def _wrong(module: str) -> Iterator[str]:
    tree = ast.parse((SOURCES / module).read_text(encoding="utf-8"))
    for call, name in _calls(tree):
        encoded = any(each.arg == "encoding" for each in call.keywords)
        method = isinstance(call.func, ast.Attribute)
        past = False
        if name == "read_text" and method and not encoded:
            yield f"{module}:{call.lineno} reads a text in the encoding of the locale"
        if name in ("write_text", "write_bytes"):
            past = method
        if name in ("to_csv", "to_parquet", "to_json", "to_excel"):
            past = bool(call.args)
        if name == "open" and (mode := _mode(call)) is not None:
            past = bool(set(mode) & set("wax+"))
            if "b" not in mode and not encoded:
                yield f"{module}:{call.lineno} opens a text in the encoding of the locale"
        if past and module not in OWN_WAY:
            yield f"{module}:{call.lineno} writes a file past runtime/files/atomic.py"


def test_every_module_writes_through_the_helper_and_names_the_encoding() -> None:
    modules = [str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.py")]
    assert [line for module in sorted(modules) if not module.startswith("rpc/") for line in _wrong(module)] == []
