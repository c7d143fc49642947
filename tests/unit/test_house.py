"""Limits that keep the code easy to find and to read: sizes of folders, modules and functions, and no import circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("services", "tests", "bench", "protos", "deploy")
MODULES_OF_A_FOLDER = 15
LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 60


def modules(folder: str) -> list[Path]:
    """Every module that people write; what is generated from the protos is left out."""
    found = [path for path in sorted((ROOT / folder).rglob("*.py")) if "_pb2" not in path.name]
    assert found, folder
    return found


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_holds_more_modules_than_a_reader_takes_in(folder: str) -> None:
    counted: dict[str, int] = {}
    for path in modules(folder):
        if path.name not in {"__init__.py", "conftest.py"}:
            name = str(path.parent.relative_to(ROOT))
            counted[name] = counted.get(name, 0) + 1
    assert {name: number for name, number in counted.items() if number > MODULES_OF_A_FOLDER} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_is_longer_than_the_limit(folder: str) -> None:
    lines = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(folder)}
    assert {str(path): number for path, number in lines.items() if number > LINES_OF_A_MODULE} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_is_longer_than_the_limit(folder: str) -> None:
    found = {f"{path.relative_to(ROOT)}: {name}": lines for path in modules(folder) for name, lines in functions(path)}
    assert {name: lines for name, lines in found.items() if lines > LINES_OF_A_FUNCTION} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    # Imports inside functions count too: a circle that is put off until a call is a circle.
    graph = grimp.build_graph("safescale", cache_dir=None)
    try:
        TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        pytest.fail(f"import circle: {circle}")
