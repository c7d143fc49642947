"""Kinds: every one that services store is declared, and no two keys share an id."""

import ast
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

import safescale
from safescale.runtime.documents.elastic_kinds import KINDS, MAX_ID_BYTES, Kind, Naming, decode_found, encode, id_of
from safescale.runtime.documents.port import NewDocument
from safescale.scoring.records import KEY_FIELDS, LETTER_FIELDS

keys = st.text(st.characters(exclude_categories=("Cs",)), max_size=700)


def constants(tree: ast.Module) -> dict[str, str]:
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }  # fmt: skip


def stored_kinds() -> set[str]:
    """Kinds of every NewDocument that the services make, read from their source."""
    found = set()
    for path in Path(safescale.__file__).parent.rglob("*.py"):
        if path.name == "backup.py":
            continue  # It writes what it read, and refuses a kind that is not declared.
        tree = ast.parse(path.read_text())
        named = constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "NewDocument":
                first = node.args[0]
                assert isinstance(first, ast.Name), f"{path}: a kind is a constant of its module"
                found.add(named[first.id])
    return found


def test_every_kind_that_is_stored_is_declared() -> None:
    assert stored_kinds() == {kind.name for kind in KINDS}


def test_letters_are_light() -> None:
    light = set(next(kind.light for kind in KINDS if kind.name == "verdict"))
    assert set(LETTER_FIELDS) == light
    assert set(KEY_FIELDS) <= light


def test_names() -> None:
    naming = Naming("hospital")
    assert naming.alias(Kind("generation_cell")) == "hospital-generation-cell"
    assert naming.index(Kind("generation_cell", version=3)) == "hospital-generation-cell-v3"


@given(keys, keys)
def test_ids_fit_and_differ_where_keys_differ(one: str, two: str) -> None:
    assert 0 < len(id_of(one).encode()) <= MAX_ID_BYTES
    assert (id_of(one) == id_of(two)) == (one == two)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=513, max_size=700))
def test_an_id_that_looks_like_a_hash_is_hashed_too(long: str) -> None:
    assert id_of(id_of(long)) != id_of(long)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=("Cs",)))
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "b", "key", "body", ""]), json_values), keys)
def test_what_is_stored_comes_back(body: dict, key: str) -> None:
    for kind in (Kind("k"), Kind("k", light=("a", "absent"))):
        source = orjson.loads(encode(kind, NewDocument("k", key, body, "g"), "me"))
        found = decode_found(kind, source, 3)
        assert (found.key, found.group, found.body, found.version) == (key, "g", body, 3)
