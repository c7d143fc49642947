"""One word for one thing: class names, and the glossary."""

import ast
import re
from collections import defaultdict
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
