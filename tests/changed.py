"""Chooses the unit and reference tests of what changed: `python -m tests.changed [BASE]` prints their paths.

What changed is what differs from the merge base with main (where main itself is checked out: from the commit before),
with what is not committed yet. The rules, by the path of what changed:

- a test module, or a conftest: itself, or its folder
- a helper of tests: the test modules that import it
- a module of `core`: all of tests/unit/core and tests/reference
- another module of the package: the tests at its own place, and the tests of its room that import it
- everything else: the tests of the pages and of the house alone, which always run
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
ALWAYS = ("tests/unit/test_house.py", "tests/unit/test_docs.py")
CORE = ("tests/unit/core", "tests/reference")
FAST = ("tests/unit", "tests/reference")
PACKAGE = PurePosixPath("services/safescale")


def git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def merge_base() -> str:
    """The commit that main and this branch have in common; on main itself, the commit before."""
    heads = git("for-each-ref", "--format=%(refname)", "refs/heads/main", "refs/remotes/origin/main")
    head = git("rev-parse", "HEAD")[0]
    for name in heads:
        base = git("merge-base", name, "HEAD")[0]
        if base != head:
            return base
    return f"{head}~1"


def changed_files(base: str) -> set[str]:
    """Paths that differ from a commit, among them those that Git does not track yet."""
    return {*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")}


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names that a module imports, with each name that it takes from a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def importers(module: str, folders: Iterable[str], root: Path) -> Iterator[str]:
    """Test modules below some folders that import a module; those below a conftest that does, too."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            if module in imports(path):
                if path.name == "conftest.py":
                    yield str(path.parent.relative_to(root))
                elif path.name.startswith("test_"):
                    yield str(path.relative_to(root))


def tests_of(changed: str, root: Path) -> set[str]:
    """Paths of the tests that a changed file asks for."""
    path = PurePosixPath(changed)
    if path.suffix != ".py":
        return set()
    if path.parts[0] == "tests":
        return _of_a_test(path, root)
    if not path.is_relative_to(PACKAGE):
        return set()
    inside = path.relative_to(PACKAGE)
    room = inside.parts[0]
    if room == "core":
        return set(CORE)
    module = ".".join(("safescale", *inside.with_suffix("").parts)).removesuffix(".__init__")
    folders = [f"tests/unit/{room}"] if (root / "tests/unit" / room).is_dir() else ["tests/unit"]
    own = PurePosixPath("tests/unit") / inside.parent / f"test_{inside.name}"
    return {*importers(module, folders, root), *([str(own)] if (root / own).exists() else [])}


def _of_a_test(path: PurePosixPath, root: Path) -> set[str]:
    if not str(path).startswith(tuple(f"{folder}/" for folder in FAST)):
        return set(importers(".".join(path.with_suffix("").parts), FAST, root))
    if not (root / path).exists():
        return set()
    if path.name == "conftest.py":
        return {str(path.parent)}
    if path.name.startswith("test_"):
        return {str(path)}
    return set(importers(".".join(path.with_suffix("").parts), FAST, root))


def selection(changed: Iterable[str], root: Path = ROOT) -> list[str]:
    """Paths for pytest, none of them within another."""
    found = {*ALWAYS, *(test for each in changed for test in tests_of(each, root))}
    return sorted(each for each in found if not any(str(parent) in found for parent in PurePosixPath(each).parents))


if __name__ == "__main__":
    print(*selection(changed_files(sys.argv[1] if len(sys.argv) > 1 else merge_base())), sep="\n")
