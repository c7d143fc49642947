"""What plain values of YAML are: numbers and truth values only where nobody can doubt it, else the text as written."""

from typing import Any

import pytest

from safescale.core.errors import LimitExceededError, SpecError
from safescale.core.inputs.records import Source
from safescale.runtime.files.reading import MAX_YAML_BYTES, parse_yaml, parse_yaml_tree


def parse(text: str) -> Any:
    return parse_yaml(Source("s.yaml", text.encode()))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("0", 0), ("-3", -3), ("+7", 7), ("0.7", 0.7), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0),
        ("5e-2", 0.05), ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("text", "text"),
    ],
)  # fmt: skip
def test_what_is_plainly_a_number_or_a_truth_value_is_one(text: str, value: Any) -> None:
    found = parse(f"a: {text}\nb: [{text or '~'}]\n")
    assert found == {"a": value, "b": [value]}
    assert type(found["a"]) is type(value)


DOUBTFUL = [
    "010", "0042", "00", "-010", "0x1F", "0o17", "0b11", "1:30", "190:20:30", "1_000", "1_0.5", "010.5", "yes", "Yes",
    "no", "NO", "on", "off", "Off", "y", "n", "2026-01-31", "2026-01-31T10:00:00Z", "2026-13-45", ".inf", "-.INF",
    ".nan", "=", "1.2.3", "12345678901234567890", "1e9999", "tRuE",
]  # fmt: skip


@pytest.mark.parametrize("text", DOUBTFUL)
def test_what_one_could_doubt_stays_the_text_that_was_written(text: str) -> None:
    assert parse(f"a: {text}\nb: [{text}]\n") == {"a": text, "b": [text]}


def test_keys_stay_as_they_were_written() -> None:
    assert parse("no: 1\n0012: 2\n") == {"no": 1, "0012": 2}


def test_a_merge_key_takes_in_what_is_not_there() -> None:
    text = "base: &b {limit: 2, ids: [x]}\nquestions: {<<: *b, limit: 3}\nboth: {<<: [{a: 1}, {a: 2, b: 2}]}\n"
    found = parse(text)
    assert found["questions"] == {"limit": 3, "ids": ["x"]}
    assert found["both"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "s.yaml:2: the key 'a' twice"),
        ("a: {b: 1,\n b: 2}\n", "s.yaml:2: the key 'b' twice"),
        ("<<: {a: 1}\na: 1\na: 2\n", "s.yaml:3: the key 'a' twice"),
        ("a: *nowhere\n", "s.yaml:1: found undefined alias"),
        ("a:\tb: c\n", "expected valid YAML"),
        ("a: !!float 1_0\n", "'1_0' is not a number"),
        ("a: !!binary aGk=\n", "could not determine a constructor"),
        ("a: !!set {x}\n", "could not determine a constructor"),
    ],
)
def test_what_would_be_read_otherwise_is_refused_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert expected in caught.value.message


def test_merge_keys_and_aliases_do_not_grow_to_billions_of_values() -> None:
    keys = ", ".join(f"k{n}: {n}" for n in range(20))
    bomb = f"a0: &a0 {{{keys}}}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
    with pytest.raises(SpecError, match="aliases that stand for more than 1,000,000 values"):
        parse(bomb)


def test_a_long_chain_of_aliases_is_an_error_and_no_crash() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000))
    with pytest.raises(SpecError, match=r"nested too deep|more than 1,000,000 values"):
        parse(chain)


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(LimitExceededError, match="expected at most 4,194,304"):
        parse_yaml(Source("s.yaml", b"#" * (MAX_YAML_BYTES + 1)))


def test_the_tree_knows_the_lines() -> None:
    value, node = parse_yaml_tree(Source("s.yaml", b"a: 1\nb: 2\n"))
    assert value == {"a": 1, "b": 2}
    assert node is not None
    assert node.value[1][0].start_mark.line == 1
