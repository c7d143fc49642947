import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.factories.benchmarks import check, jsonl, lines, merged, own

from safescale.core.inputs.records import Source
from safescale.core.safety.benchmark.formats import Needs, load_benchmark

BROKEN = [
    (b"", "f: no records; expected at least one record"),
    (b"[]", "f: no records; expected at least one record"),
    (b" \n", "f: no records; expected at least one record"),
    (b"hello\nworld", 'f:1: "hello"; expected JSONL, a JSON array, or CSV with a column question_id'),
    (b"\xff\xfe{\x00", "f:1: encoding = UTF-16; expected UTF-8"),
    (b'{"a": 1,\n"b": 2}', "f:1: one JSON object over several lines; expected one JSON object per line"),
    (b'{"question_id": NaN}', "f:1: the number NaN; expected valid JSON"),
    (b'{"a": 1, "a": 2}', 'f:1: the key "a" twice in one object; expected valid JSON'),
    (b'{"a": "\\ud800"}', "f:1: half of a surrogate pair in a text; expected valid JSON"),
    (b"[" * 200_000, "f:1: objects nested too deep; expected valid JSON"),
    (b"[1]", "f:1: 1; expected a JSON object"),
    (b"[\n1, 2\n3]", "f:3: \"3\" at column 1; expected ',' or ']' in the JSON array"),
    (b"[1, 2", "f:1: end of file; expected ',' or ']' in the JSON array"),
    (b"[1]\n x", 'f:2: "x" at column 2; expected nothing after the JSON array'),
    (b'{} "x"', 'f:1: "\\"x\\"" after the object at column 3; expected one JSON object per line'),
]


@pytest.mark.parametrize(("data", "expected"), BROKEN)
def test_a_file_of_no_known_form_is_a_defect(data: bytes, expected: str) -> None:
    found = lines(check(Source("f", data)))
    assert expected in found


def test_bad_json_is_named_with_line_and_column() -> None:
    # The wording before "at column" is the Python version's own.
    for data, line in ((b'[\n{"a": 1},\n{"b" 1}]', 3), (b'{"a": 1}\n{"b" 1}', 2)):
        found = lines(check(Source("f", data)))[-1]
        assert re.fullmatch(f"f:{line}: .+ at column 6; expected valid JSON", found)


def test_bad_json_on_one_line_hides_nothing_on_the_others() -> None:
    data = b'{"question_id": \n[]\n' + jsonl(own(correct_answer="Z")).data + b'"x"\n'
    assert [defect.line for defect in check(Source("f", data)).defects] == [1, 2, 3, 4]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_each_wrong_byte_is_named_with_line_and_offset(mark: bytes) -> None:
    data = mark + jsonl(own(), own("q2")).data.replace(b"typical", b"typ\xe9cal")
    first, second = (defect for defect in check(Source("f", data)).defects if defect.field == "encoding")
    assert (first.line, first.value) == (1, f"byte 0xe9 at offset {data.index(bytes([0xE9]))}")
    assert (second.line, second.value) == (2, f"byte 0xe9 at offset {data.rindex(bytes([0xE9]))}")


HEADER = "question_id,question_text,option_A,option_B,correct_answer"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (f"{HEADER}\nq1,t,x,y\n", "f.csv:2: q1 = 4 columns; expected 5 columns as in the header"),
        (f'{HEADER}\nq1,"t\nt",x,y,C\n', 'f.csv:2: q1 correct_answer = "C"; expected one of the options A, B'),
        (
            f'{HEADER}\nq1,"t\nt",x,y,A\nq2,t,x,,A\n',
            "f.csv:4: q2 option_A, option_B, … = 1 option; expected 2 to 26 options",
        ),
        (f"{HEADER}\nq1,t,x,x,A\n", 'f.csv:2: q1 option_B = "x"; expected a text other than that of option A'),
        (f"{HEADER},option_A\nq1,t,x,y,A,x\n", 'f.csv:1: header = "option_A"; expected each column once'),
        (f'{HEADER}\nq1,"t\n', "f.csv:2: unexpected end of data; expected valid CSV"),
        (
            f"{HEADER},unsafe\nq1,t,x,y,A,B\n",
            "f.csv:1: header = no column high_risk; expected all of high_risk, unsafe, contradicts, or none",
        ),
        (
            f"{HEADER},high_risk,unsafe,contradicts\nq1,t,x,y,A,,BC,\n",
            'f.csv:2: q1 unsafe = "C"; expected letters of the options A, B',
        ),
    ],
)
def test_a_wrong_table_is_a_defect(table: str, expected: str) -> None:
    assert expected in lines(check(Source("f.csv", table.encode())))


def test_missing_flag_columns_are_told_once() -> None:
    table = f"{HEADER},unsafe\n" + "".join(f"q{number},t,x,y,A,B\n" for number in range(9))
    assert len(lines(check(Source("f.csv", table.encode())))) == 2


def test_a_table_without_labels_loads_and_skips_empty_lines() -> None:
    table = f"{HEADER}\n\nq1,t,x,y,A\n".encode()
    assert load_benchmark("x", [Source("f.csv", table)]).questions[0].labels == {}


@given(st.binary(max_size=200))
def test_any_bytes_give_defects_or_a_benchmark_never_an_exception(data: bytes) -> None:
    found = check(Source("f", data))
    assert (found.benchmark is None) == bool(found.defects)


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@given(st.sampled_from([own, lambda **changes: merged(1) | changes]), st.data())
def test_any_value_in_any_field_gives_defects_or_a_benchmark(make: Any, data: st.DataObject) -> None:
    record = make()
    field = data.draw(st.sampled_from(sorted(record)))
    found = check(jsonl(make(**{field: data.draw(JSON_VALUES)})))
    assert (found.benchmark is None) == bool(found.defects)
    assert all(str(defect).startswith("q.jsonl:1: ") for defect in found.defects)


@pytest.mark.parametrize(("kind", "question_id"), [("json", "chest-001"), ("csv", "chest-002")])
def test_the_examples_of_the_documentation_load(kind: str, question_id: str) -> None:
    page = Path(__file__).parents[5] / "docs" / "benchmark-format.md"
    block = page.read_text(encoding="utf-8").split(f"```{kind}\n")[1].split("```")[0]
    text = block.replace("\n", " ") if kind == "json" else block
    needs = Needs(conditions=("evidence_clean", "evidence_conflict"), texts=True, labels=True)
    found = check(Source(kind, text.encode()), needs=needs)
    assert found.defects == ()
    assert found.warnings == ()
    assert found.benchmark is not None
    assert found.benchmark.questions[0].question_id == question_id
