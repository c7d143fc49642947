"""One word for one thing: class names, and the glossary."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "services" / "safescale"
SHOWN = ("client/types.py", "gateway/api/openapi/")
"""Modules whose class names users see, in the client and in the API description: each is the view of a thing inside."""


def test_no_two_classes_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(SHOWN) or "/v1/" in name:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(name)
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_a_retired_word_is_found_and_its_successor_named(tmp_path: Path) -> None:
    lines = (ROOT / "docs" / "retired-words.txt").read_text(encoding="utf-8").splitlines()
    page = tmp_path / "page.md"
    page.write_text("".join(f"A {line.partition('->')[0]}.\n" for line in lines), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", "--toml", ROOT / "pyproject.toml", page],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert [found.partition(": ")[2] for found in done.stdout.splitlines()] == [
        line.replace("->", " ==> ") for line in lines
    ]


def module_names() -> set[str]:
    """Dotted names of all modules and folders of the package, below `safescale`."""
    modules = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    return {".".join(part.parts) for module in modules for part in (module, *module.parents)} - {""}


def prose(text: str) -> Iterator[str]:
    """Yield the docstrings and comments of a module."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def missing_modules(text: str, known: set[str]) -> set[str]:
    """Return the dotted names in a module's prose that begin with a room, but lead to no module and no name in one."""
    rooms = "|".join(sorted(name for name in known if "." not in name))
    named = {
        name for each in prose(text) for name in re.findall(rf"`(?:safescale\.)?((?:{rooms})\.[a-z_.]+)[`(]", each)
    }
    files = {name for name in named if name.endswith((".html", ".json", ".py"))}
    return {name for name in named - files if name not in known and not leads_to_a_name(name, known)}


def leads_to_a_name(name: str, known: set[str]) -> bool:
    module, _, last = name.rpartition(".")
    path = PACKAGE.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return module in known and source.exists() and re.search(rf"\b{last}\b", source.read_text("utf-8")) is not None


def test_modules_named_in_docstrings_and_comments_exist() -> None:
    known = module_names()
    found = {
        path.relative_to(PACKAGE).as_posix(): names
        for path in sorted(PACKAGE.rglob("*.py"))
        if "/v1/" not in path.as_posix() and (names := missing_modules(path.read_text(encoding="utf-8"), known))
    }
    assert found == {}


def test_a_module_that_was_moved_is_found_by_its_old_name() -> None:
    known = module_names()
    assert missing_modules('"""See `core.vote`."""\n# and `core.tables`, `core.regimes.seed(1)`\n', known) == {
        "core.vote",
        "core.regimes.seed",
    }


def entries() -> list[tuple[str, str, str]]:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if line[:1] == "|"]
    assert rows[0] == ("word", "meaning", "in code")
    return [(word, meaning, code) for word, meaning, code in rows[2:]]


def test_the_glossary_is_in_alphabetical_order_and_has_each_word_once() -> None:
    words = [word for word, _, _ in entries()]
    assert len(words) > 40
    assert words == sorted(set(words))


def test_what_the_glossary_names_in_code_exists() -> None:
    sources = [*(ROOT / "protos").rglob("*.proto"), *PACKAGE.rglob("*.py")]
    known: set[str] = set()
    for path in sources:
        known |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    named = {part for _, _, code in entries() for name in re.findall(r"`([^`]+)`", code) for part in name.split(".")}
    assert len(named) > 50
    assert named - known == set()


def test_a_proto_name_with_a_field_in_the_glossary_is_a_field_of_that_message() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "protos").rglob("*.proto"))
    fields = {
        message: set(re.findall(r"(\w+) = \d+;", body))
        for message, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    }
    named = [name.split(".") for _, _, code in entries() for name in re.findall(r"`(\w+\.\w+)`", code)]
    assert named
    assert [".".join(pair) for pair in named if pair[1] not in fields[pair[0]]] == []
