from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from safescale.core.benchmark import Benchmark, Question
from safescale.core.errors import InvalidInputError, StorageError
from safescale.runtime import answer_tables
from safescale.runtime.answers_io import read_answers

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
