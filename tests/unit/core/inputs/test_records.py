"""How much is said of a file with very many defects, and what spreadsheets and other programs do to files."""

import json

import pytest
from tests.support.factories.benchmarks import check, jsonl, lines, own

from safescale.core.inputs.corpus import CorpusReader, check_corpus
from safescale.core.inputs.records import LISTED_AT_MOST, Source, shown


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": \n' * 5000,
        jsonl(*[own()] * 5000).data,
        jsonl(*[own(f"q{n}", correct_answer="Z") for n in range(5000)]).data,
        b"[" + b"1,\n" * 5000 + b"1]",
        b"question_id,option_A,option_B,correct_answer\n" + b"q,x,y,Z\n" * 5000,
        b'{"question_id": "\xff"}\n' * 5000,
    ],
)
def test_very_many_defects_are_not_all_listed(data: bytes) -> None:
    found = check(Source("f", data)).defects
    assert LISTED_AT_MOST <= len(found) <= LISTED_AT_MOST + 50
    assert any("the rest was not read" in str(each) for each in found) or len(found) == LISTED_AT_MOST


def test_one_record_lists_twenty_of_its_defects_and_warnings() -> None:
    many = {f"key{number}": 1 for number in range(3000)}
    found = check(jsonl(own(**many)))
    assert [each.value for each in found.warnings][-1] == "2,980 more"
    assert len(found.warnings) == 21
    found = check(jsonl(own(options=many)))
    assert str(found.defects[-1]).startswith("q.jsonl:1: q1 = 2,9")
    assert len([each for each in found.defects if each.field and each.field.startswith("options.")]) <= 20


def test_very_many_warnings_are_counted() -> None:
    found = check(jsonl(*[own(f"q{n}", note="x") for n in range(LISTED_AT_MOST + 5)]))
    assert found.benchmark is not None
    assert found.warnings[-1].value == "5 more warnings"


def test_a_column_that_nobody_reads_is_told_once() -> None:
    rows = "".join(f"q{n},t,x,y,A,z\n" for n in range(50))
    found = check(Source("f.csv", f"question_id,question_text,option_A,option_B,correct_answer,note\n{rows}".encode()))
    assert [str(each) for each in found.warnings] == [
        'f.csv:1: header = "note"; expected no other columns than cluster, contradicts, correct_answer, '
        "deep_research_report, evidence_clean, evidence_conflict, high_risk, labels, question_id, question_text, "
        "question_type, subspecialty, unsafe; it is ignored"
    ]


def test_a_corpus_in_parts_with_very_many_defects_ends_once() -> None:
    reader = CorpusReader()
    for part in range(10):
        reader.read(Source("c", b'{"id": "a"}\n' * 500), first_line=1 + 500 * part)
    assert len(reader.defects) == LISTED_AT_MOST + 1
    assert "the rest was not read" in str(reader.defects[-1])


def test_rows_of_empty_cells_are_skipped_and_said() -> None:
    head = "question_id,question_text,option_A,option_B,correct_answer\n"
    found = check(Source("f.csv", f"{head}q1,t,x,y,A\n,,,,\n , ,,,\n".encode()))
    assert found.benchmark is not None
    (warning,) = found.warnings
    assert str(warning) == "f.csv:3: a row of empty cells (and 1 more); expected a question in each row; it is skipped"


@pytest.mark.parametrize(
    ("record", "hint"),
    [
        (
            own(correct_answer="b"),
            'correct_answer = "b"; expected one of the options A, B, C: letters are capitals, "B"',
        ),
        (own(options={"A": "x", "b": "y"}, labels=...), 'options.b = "b"; expected one letter of A to Z'),
    ],
)
def test_small_letters_get_the_hint_that_helps(record: dict[str, object], hint: str) -> None:
    assert any(hint in line for line in lines(check(jsonl(record))))


def test_small_letters_of_a_flag_get_the_hint_that_helps() -> None:
    table = "question_id,question_text,option_A,option_B,correct_answer,high_risk,unsafe,contradicts\nq1,t,x,y,A,b,,\n"
    assert lines(check(Source("f.csv", table.encode()))) == [
        'f.csv:2: q1 high_risk = "b"; expected letters of the options A, B: letters are capitals, "B"'
    ]


@pytest.mark.parametrize("text", ["Größe", "37 °C", "it’s", "5 µg – 7 µg"])
def test_a_file_of_windows_says_how_to_save_it(text: str) -> None:
    record = json.dumps(own(question_text=text), ensure_ascii=False)
    found = check(Source("f", record.encode("cp1252"))).defects
    assert "the file looks like one of Windows (ANSI): save it again as UTF-8" in str(found[0])


def test_a_broken_utf8_sequence_is_not_taken_for_windows() -> None:
    found = check(
        Source("f", json.dumps(own(question_text="é—"), ensure_ascii=False).encode()[:-1] + b"\xe2\x80")
    ).defects
    assert "ANSI" not in "".join(map(str, found))


def test_ids_and_titles_of_a_corpus_can_be_shown() -> None:
    records = [
        {"id": "a\x0bb", "text": "t"},
        {"id": "b", "title": "x\u202ey", "text": "t"},
        {"id": "c", "text": "\x1b["},
    ]
    _, defects = check_corpus([Source("c", "".join(json.dumps(each) + "\n" for each in records).encode())])
    assert [(each.line, each.field, each.value[:6]) for each in defects] == [
        (1, "id", "U+000B"), (2, "title", "U+202E"), (3, "text", "U+001B"),
    ]  # fmt: skip
    assert "\x0b" not in str(defects[0])


def test_a_value_is_shown_in_one_line_that_can_be_seen() -> None:
    assert shown("a\x7f\u202e\n") == '"a\\x7f\\u202e\\n"'
    assert len(shown("x" * 1_000_000)) == 60


def test_a_cell_that_is_too_long_for_csv_is_said_to_be() -> None:
    head = "question_id,question_text,option_A,option_B,correct_answer,evidence_clean"
    found = check(Source("f.csv", f"{head}\nq0,t,x,y,A,short\nq1,t,x,y,A,{'z' * 200_000}\n".encode()))
    expected = "f.csv:3: a cell of more than 131,072 characters; expected shorter cells; JSONL takes longer texts"
    assert lines(found) == [expected]
