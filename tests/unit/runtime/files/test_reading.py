import os
from pathlib import Path

import pytest

from safescale.core.errors import InvalidInputError, LimitExceededError, SpecError, StorageError
from safescale.core.inputs.records import Source
from safescale.runtime.files.reading import parse_json, parse_yaml, read_source


def test_a_file_is_read_under_the_name_given(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x\xff")
    assert read_source(path) == Source(str(path), b"x\xff")


def test_a_missing_file_and_a_directory_are_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        read_source(tmp_path / "none")
    with pytest.raises(InvalidInputError, match="is a directory; expected a file"):
        read_source(tmp_path)


def test_a_file_over_the_limit_names_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"x" * 2000)
    with pytest.raises(LimitExceededError, match="2,000 bytes; expected at most 1,999"):
        read_source(path, max_bytes=1999)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (PermissionError(13, "Permission denied"), InvalidInputError, "permission denied"),
        (OSError(5, "Input/output error"), StorageError, "cannot be read: Input/output error"),
    ],
)
def test_what_the_system_refuses_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, expected: type[Exception], message: str
) -> None:
    def refuse(_: Path) -> bytes:
        raise error

    path = tmp_path / "a"
    path.write_bytes(b"")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(expected, match=message):
        read_source(path)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        file.write(b"models: []")
    path = Path(f"/dev/fd/{read}")
    assert read_source(path).data == b"models: []"
    os.close(read)


def test_what_has_no_end_is_read_to_its_limit() -> None:
    with pytest.raises(LimitExceededError, match=r"/dev/zero: over 5,000,000 bytes; expected no more"):
        read_source(Path("/dev/zero"), max_bytes=5_000_000)


def test_yaml_gives_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("\ufeffname: x\nlist: [1, 2.5, null]\n", encoding="utf-8")
    assert parse_yaml(read_source(path)) == {"name": "x", "list": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: 1\nb: 2\na: 3\n", "s.yaml:3: the key 'a' twice at column 1; expected valid YAML"),
        (b"a: [1\n", "expected valid YAML"),
        (b"a: !!python/object:os.system x\n", "s.yaml:1: could not determine a constructor"),
        (b"a: 1\n\xe9: 2\n", "s.yaml:2: encoding = byte 0xe9 at offset 5; expected UTF-8"),
        (b"a: \x00\n", "expected valid YAML"),
        (b"a: !!int 010\n", "s.yaml:1: '010' is not a whole number"),
        (b"a: !!timestamp 2026-01-31\n", "s.yaml:1: could not determine a constructor"),
        (b"a: " + b"[" * 100_000, "s.yaml:1: values nested deeper than 60"),
        (b"- " * 100_000, "s.yaml:1: values nested deeper than 60"),
        (b"? " * 100_000, "s.yaml:1: values nested deeper than 60"),
        (b"<<: x\n", "expected a mapping"),
        (b"? [a]\n: 1\n", "expected valid YAML"),
        (b"a: 1\n---\nb: 1\n", "but found another document"),
    ],
)
def test_bad_yaml_is_named_with_its_line(data: bytes, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml(Source("s.yaml", data))
    (defect,) = caught.value.defects
    assert expected in str(defect)
    assert "\n" not in str(defect)


def test_a_few_lines_of_aliases_do_not_grow_to_billions_of_values() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    with pytest.raises(SpecError, match="aliases that stand for more than 1,000,000 values"):
        parse_yaml(Source("bomb.yaml", bomb.encode()))
    with pytest.raises(SpecError, match="aliases"):
        parse_yaml(Source("self.yaml", b"a: &a [*a]"))
    assert parse_yaml(Source("fine.yaml", b"a: &a [1]\nb: *a")) == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a": 1,\n}', "f.json:2: Illegal trailing comma|f.json:[12]: Expecting property name"),
        (b'{"a": 1, "a": 2}', "the key .a. twice"),
        (b'{"a": NaN}', "the number NaN"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b"[" * 100_000, "nested too deep"),
        (b"\xff", "encoding = byte 0xff at offset 0"),
        (b"", "Expecting value"),
    ],
)
def test_json_is_read_strictly(text: bytes, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        parse_json(Source("f.json", text))


def test_json_holds_what_yaml_would_refuse() -> None:
    text = b'{\t"a": "\\ud83d\\ude00"}'
    assert parse_json(Source("f.json", text)) == {"a": "😀"}
    with pytest.raises(SpecError, match="surrogate"):
        parse_yaml(Source("f.yaml", b'a: "\\ud800"'))
