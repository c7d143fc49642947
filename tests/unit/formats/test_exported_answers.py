import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from safescale.core.errors import InvalidInputError, StorageError
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.formats import exported_answers as answer_tables
from safescale.formats.answers import read_answers, read_answers_with_notes
from safescale.report.frames import csv_bytes, frame_of

BANK = Benchmark("bank", tuple(Question(f"q{n}", "", {"A": "a", "B": "b"}, "B") for n in (1, 2, 3)))


def verdict(question_id: str, **changed: Any) -> dict[str, Any]:
    return {
        "run_id": "r", "model": "m", "condition": "zero_shot", "question_id": question_id, "formulation": "cloze",
        "greedy_letter": "A", "greedy_correct": False, "samples_asked": 2, "greedy_s": 0.5, "failure_reason": None,
    } | changed  # fmt: skip


def answer(question_id: str, kind: str, index: int | None, letter: str | None) -> dict[str, Any]:
    return {
        "model": "m", "condition": "zero_shot", "question_id": question_id, "kind": kind, "sample_index": index,
        "letter": letter, "text": 'two\nlines, "quoted"',
    }  # fmt: skip


def export(folder: Path, form: str) -> None:
    verdicts = pd.DataFrame([
        verdict("q1"),
        verdict("q2", greedy_letter=None, failure_reason="BACKEND_TIMEOUT"),
        verdict("q3", greedy_letter=None, greedy_correct=None, greedy_s=None),
    ])  # fmt: skip
    answers = pd.DataFrame([
        answer("q1", "greedy", None, "A"), answer("q1", "sample", 1, None), answer("q1", "sample", 0, "B"),
        answer("q3", "sample", 0, "A"), answer("q3", "sample", 1, "B"),
    ])  # fmt: skip
    for name, frame in (("verdicts", verdicts), ("answers", answers)):
        getattr(frame, f"to_{form}")(folder / f"{name}.{form}", index=False)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_is_read_back(tmp_path: Path, form: str) -> None:
    export(tmp_path, form)
    answers = read_answers(tmp_path, BANK)
    assert answers.formulation == "cloze"
    assert answers.samples[0, 0].tolist() == [[1, -1], [-1, -1], [0, 1]]
    # The third question was not asked greedily while others were: a failure.
    assert answers.greedy[0, 0].tolist() == [0, -1, -1]
    assert answers.latency_s[0, 0, 0] == 0.5
    assert np.isnan(answers.latency_s[0, 0, 1:]).all()
    # What the failed cell lacks is unread, as is the greedy answer that was not asked; the null of the first is not.
    assert answers.greedy_unread is not None
    assert answers.samples_unread is not None
    assert answers.greedy_unread[0, 0].tolist() == [False, True, True]
    assert answers.samples_unread[0, 0].tolist() == [[False, False], [True, True], [False, False]]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_answers_are_unread_where_nobody_read_them(tmp_path: Path, form: str) -> None:
    rows = [
        verdict("q1", greedy_letter=None, samples_asked=1, greedy_read_by="judge"),
        verdict("q2", greedy_letter=None, samples_asked=1, greedy_read_by=None),
    ]
    drawn = [
        answer("q1", "sample", 0, None) | {"read_by": None, "review_reason": "NO_ANSWER"},
        answer("q2", "sample", 0, None) | {"read_by": "person", "review_reason": "NO_ANSWER"},
    ]
    for name, records in (("verdicts", rows), ("answers", drawn)):
        getattr(pd.DataFrame(records), f"to_{form}")(tmp_path / f"{name}.{form}", index=False)
    answers = read_answers(tmp_path, BANK)
    assert answers.greedy_unread is not None
    assert answers.samples_unread is not None
    assert answers.greedy_unread[0, 0].tolist() == [False, True]
    assert answers.samples_unread[0, 0].tolist() == [[True], [False]]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_reading_of_an_export_is_known(tmp_path: Path, form: str) -> None:
    export(tmp_path, form)
    assert read_answers(tmp_path, BANK).reading == ""
    for name in ("verdicts", "answers"):
        path = tmp_path / f"{name}.{form}"
        frame = pd.read_csv(path) if form == "csv" else pd.read_parquet(path)
        frame["formulation"], frame["reading"] = "letter", "explicit"
        getattr(frame, f"to_{form}")(path, index=False)
    assert read_answers(tmp_path, BANK).reading == "explicit"
    path = tmp_path / f"verdicts.{form}"
    frame = pd.read_csv(path) if form == "csv" else pd.read_parquet(path)
    frame.loc[1, "reading"] = "strict"
    getattr(frame, f"to_{form}")(path, index=False)
    with pytest.raises(InvalidInputError, match="the reading strict among answers of the reading explicit"):
        read_answers(tmp_path, BANK)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_failed_or_was_read_by_nobody_is_said(tmp_path: Path, form: str) -> None:
    export(tmp_path, form)
    rows = [
        verdict("q1", unread_answers=0),
        verdict("q2", greedy_letter=None, failure_reason="BACKEND_TIMEOUT", unread_answers=0),
        verdict("q3", greedy_letter=None, failure_reason="JUDGE_FAILED", unread_answers=2),
    ]
    getattr(pd.DataFrame(rows), f"to_{form}")(tmp_path / f"verdicts.{form}", index=False)
    answers, notes = read_answers_with_notes(tmp_path, BANK)
    assert any(note.startswith("2 cells failed") for note in notes)
    assert any(note.startswith("2 answers could be read by nobody") for note in notes)
    # The model of the third had answered when its judge failed.
    assert np.isnan(answers.latency_s[0, 0]).tolist() == [False, True, False]


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    export(tmp_path, "csv")
    pd.read_csv(tmp_path / "answers.csv").drop(columns="letter").to_csv(tmp_path / "answers.csv", index=False)
    with pytest.raises(InvalidInputError, match=r"answers\.csv: no column letter"):
        read_answers(tmp_path, BANK)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    export(tmp_path, "parquet")
    (tmp_path / "verdicts.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InvalidInputError, match=r"verdicts\.parquet"):
        read_answers(tmp_path, BANK)


def test_a_disk_that_fails_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tmp_path, "csv")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(answer_tables, "_read", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        read_answers(tmp_path, BANK)


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "message"),
    [
        ("verdicts", 0, "greedy_letter", "a", 'row 1 greedy_letter = "a"; expected one of the letters A, B alone'),
        ("verdicts", 0, "greedy_s", -1.0, "row 1 greedy_s = -1.0; expected seconds"),
        ("verdicts", 0, "samples_asked", 3, "row 1 samples_asked = 3; expected as many samples as .*answers.csv has"),
        ("verdicts", 0, "samples_asked", 1, "row 1 samples_asked = 1; expected as many"),
        ("verdicts", 0, "samples_asked", -2, "row 1 samples_asked = -2; expected a whole number"),
        ("verdicts", 0, "formulation", "free", 'row 1 formulation = "free"'),
        ("verdicts", 0, "model", "", "row 1 model = empty"),
        ("verdicts", 1, "question_id", "q1", "row 2 question_id = .* once"),
        ("answers", 2, "letter", "B.", 'row 3 letter = "B."'),
        ("answers", 2, "sample_index", 1, "row 3 sample_index = 1; expected each sample of a cell once"),
        ("answers", 2, "sample_index", 0.5, "row 3 sample_index = 0.5"),
        ("answers", 2, "kind", "drawn", 'row 3 kind = "drawn"; expected greedy or sample'),
        ("answers", 0, "question_id", "q9", "m / zero_shot / q9; expected a row of this cell in .*verdicts.csv"),
    ],
)
def test_tables_that_are_less_than_they_say_are_refused(
    tmp_path: Path, table: str, row: int, column: str, value: Any, message: str
) -> None:
    export(tmp_path, "csv")
    frame = pd.read_csv(tmp_path / f"{table}.csv").astype(object)
    frame.loc[row, column] = value
    frame.to_csv(tmp_path / f"{table}.csv", index=False)
    with pytest.raises(InvalidInputError) as caught:
        read_answers(tmp_path, BANK)
    assert any(re.search(rf"{table}\.csv: {message}", str(defect)) for defect in caught.value.defects)


def test_a_table_that_was_cut_is_refused(tmp_path: Path) -> None:
    export(tmp_path, "csv")
    answers = pd.read_csv(tmp_path / "answers.csv")
    answers.iloc[:-1].to_csv(tmp_path / "answers.csv", index=False)
    with pytest.raises(InvalidInputError, match="row 3 samples_asked = 2"):
        read_answers(tmp_path, BANK)


@pytest.mark.parametrize("name", ["=m", "-m", "'=m", '"=m', "@m"])
def test_names_that_were_guarded_against_spreadsheets_read_back_the_same(tmp_path: Path, name: str) -> None:
    verdicts = frame_of([verdict("q1", model=name, samples_asked=1)])
    answers = frame_of(
        [answer("q1", "greedy", None, "A") | {"model": name}, answer("q1", "sample", 0, "B") | {"model": name}]
    )
    for table, frame in (("verdicts", verdicts), ("answers", answers)):
        (tmp_path / f"{table}.csv").write_bytes(csv_bytes(frame))
    assert f"'{name}".encode() in (tmp_path / "verdicts.csv").read_bytes().replace(b'""', b'"')
    assert read_answers(tmp_path, BANK).models == (name,)
