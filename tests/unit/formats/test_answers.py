import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answers import AnswerSet
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.formats.answers import read_answers, read_answers_with_notes
from safescale.formats.judged import DEFECTS_AT_MOST

OPTIONS = {letter: f"option {letter}" for letter in "ABCD"}
BANK = Benchmark("bank", tuple(Question(f"risk_radiorag_{n}", "", OPTIONS, "B") for n in (1, 2, 3)))


def judged(letter: str | None) -> dict[str, Any]:
    return {"clear_selection": "yes" if letter else "no", "reasoning": "", "confirmed_answer": letter}


def block(greedy: str | None, samples: list[str | None], **changed: Any) -> dict[str, Any]:
    single = {"parsed_answer": greedy, "elapsed_s": 1.5, "error": None, "checked_answer": judged(greedy)} | changed
    drawn = {"parsed_answers": samples, "error": None, "checked_answers": [judged(sample) for sample in samples]}
    return {"greedy": single, "stochastic": drawn}


def record(number: int, **conditions: Any) -> dict[str, Any]:
    return {"question_id": f"risk_radiorag_{number}", "correct_answer": "B", "model": "m", "conditions": conditions}


def write(folder: Path, name: str, *records: Any) -> None:
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def letters(answers: AnswerSet) -> tuple[list[list[int]], list[list[int]]]:
    return answers.greedy[0].tolist(), answers.samples[0, 0].tolist()


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz", "m/risk_radiorag_checked.jsonl"])
def test_the_judged_layout_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, record(2, zero_shot=block("B", ["A", None, "B"])), record(1, zero_shot=block(None, ["C"])))
    answers = read_answers(tmp_path, BANK)
    assert answers.models == ("m",)
    assert answers.question_ids == ("risk_radiorag_1", "risk_radiorag_2")
    assert letters(answers) == ([[-1, 1]], [[2, -2, -2], [0, -1, 1]])
    assert answers.latency_s[0, 0].tolist() == [1.5, 1.5]


def test_other_models_in_a_file_keep_their_name(tmp_path: Path) -> None:
    write(tmp_path, "m.jsonl", record(1, zero_shot=block("A", [])) | {"model": "owner/m"})
    write(tmp_path, "all.jsonl", record(1, zero_shot=block("A", [])) | {"model": "owner/other"})
    assert read_answers(tmp_path, BANK).models == ("m", "owner/other")


def test_a_failed_call_is_a_null_without_latency(tmp_path: Path) -> None:
    failed = block(None, [None], error="timeout", elapsed_s=0.0)
    write(tmp_path, "m.jsonl", record(1, zero_shot=failed), record(2, zero_shot=block("A", ["A"], elapsed_s=None)))
    answers = read_answers(tmp_path, BANK)
    assert letters(answers) == ([[-1, 0]], [[-1], [0]])
    assert np.isnan(answers.latency_s).all()


def test_conditions_that_were_not_attempted_are_absent(tmp_path: Path) -> None:
    only_greedy = {"greedy": block("A", [])["greedy"], "stochastic": None}
    only_samples = {"greedy": None, "stochastic": block(None, ["B"])["stochastic"]}
    write(tmp_path, "m.jsonl", record(1, zero_shot=only_greedy, top_1=None, top_5=only_samples, top_10={}))
    answers = read_answers(tmp_path, BANK)
    assert answers.conditions == ("zero_shot", "top_5")
    assert answers.greedy[0].tolist() == [[0], [-2]]
    assert answers.samples[0].tolist() == [[[-2]], [[1]]]


def test_a_question_is_found_by_its_number_too(tmp_path: Path) -> None:
    write(tmp_path, "m.jsonl", record(1, zero_shot=block("A", [])) | {"question_id": 3}, "")
    assert read_answers(tmp_path, BANK).question_ids == ("risk_radiorag_3",)


def test_verdicts_of_a_run_are_read(tmp_path: Path) -> None:
    cell = {"run_id": "r", "model": "owner/m", "condition": "zero_shot", "question_id": "risk_radiorag_1"}
    answered = {
        "cell": cell, "formulation": "FORMULATION_CLOZE", "greedy_asked": True, "greedy": {"letter": "B"},
        "samples_asked": 2, "samples": [{"letter": "A"}, {}], "timings": {"greedy_s": 0.25},
    }  # fmt: skip
    failed = {
        "cell": cell | {"question_id": "risk_radiorag_2"}, "formulation": "FORMULATION_CLOZE", "greedy_asked": True,
        "samples_asked": 2, "failure": {"reason": "BACKEND_TIMEOUT"}, "timings": {"greedy_s": 3},
    }  # fmt: skip
    write(tmp_path, "verdicts.jsonl", answered, failed)
    answers = read_answers(tmp_path, BANK)
    assert answers.formulation == "cloze"
    assert answers.models == ("owner/m",)
    assert letters(answers) == ([[1, -1]], [[0, -1], [-1, -1]])
    assert answers.latency_s[0, 0, 0] == 0.25
    assert np.isnan(answers.latency_s[0, 0, 1])


def test_verdicts_say_what_failed_and_what_nobody_read(tmp_path: Path) -> None:
    cell = {"run_id": "r", "model": "m", "condition": "zero_shot", "question_id": "risk_radiorag_1"}
    half = {
        "cell": cell, "formulation": "FORMULATION_LETTER", "greedy_asked": True, "samples_asked": 3,
        "greedy": {"review_reason": "JUDGE_FAILED"}, "timings": {"greedy_s": 0.25},
        "samples": [{"letter": "A", "read_by": "parser"}, {"read_by": "judge", "review_reason": "NO_ANSWER"},
                    {"review_reason": "CUT_BY_LENGTH"}],
        "failure": {"reason": "JUDGE_FAILED"},
    }  # fmt: skip
    write(tmp_path, "verdicts.jsonl", half)
    answers, notes = read_answers_with_notes(tmp_path, BANK)
    assert letters(answers) == ([[-1]], [[0, -1, -1]])
    # The model had answered when its judge failed.
    assert answers.latency_s[0, 0, 0] == 0.25
    assert any(note.startswith("1 cells failed") for note in notes)
    assert any(note.startswith("2 answers could be read by nobody") for note in notes)


def test_readings_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", record(1, zero_shot=block("A", [])))
    assert read_answers(tmp_path, BANK).reading == "strict"
    write(tmp_path, "b.jsonl", record(1, zero_shot=block("A", [])) | {"reading": "explicit", "model": "b"})
    with pytest.raises(InvalidInputError, match="the reading explicit among answers of the reading strict"):
        read_answers(tmp_path, BANK)


def test_formulations_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", record(1, zero_shot=block("A", [])))
    write(tmp_path, "b.jsonl", record(1, zero_shot=block("A", [])) | {"formulation": "cloze", "model": "b"})
    with pytest.raises(InvalidInputError, match="one formulation"):
        read_answers(tmp_path, BANK)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "m.jsonl:2: .*expected one JSON object per line"),
        ("[1]", "m.jsonl:2: conditions = .*judged layout"),
        ({"question_id": "risk_radiorag_1"}, "m.jsonl:2: conditions"),
        (record(9, zero_shot=block("A", [])), 'm.jsonl:2: question_id = "risk_radiorag_9"; expected'),
        (record(1) | {"question_id": None}, "m.jsonl:2: question_id = missing"),
        (record(1) | {"correct_answer": "C"}, "m.jsonl:2: risk_radiorag_1 correct_answer = .*expected B"),
        (record(1, zero_shot=[1]), "m.jsonl:2: risk_radiorag_1 conditions.zero_shot = .*an object"),
        ({"cell": {"question_id": "x"}}, "m.jsonl:2: question_id"),
    ],
)
def test_defects_say_where_they_stand(tmp_path: Path, line: Any, message: str) -> None:
    write(tmp_path, "m.jsonl", record(2, zero_shot=block("A", [])), line)
    with pytest.raises(InvalidInputError, match=message) as error:
        read_answers(tmp_path, BANK)
    assert len(error.value.defects) == 1


def test_defects_are_listed_together_but_not_without_end(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", *["{"] * 30)
    write(tmp_path, "b.jsonl", "{")
    with pytest.raises(InvalidInputError, match=r"\(and 19 more\)") as error:
        read_answers(tmp_path, BANK)
    assert len(error.value.defects) == DEFECTS_AT_MOST


@pytest.mark.parametrize("part", ["greedy", "stochastic"])
def test_answers_that_were_not_judged_are_refused(tmp_path: Path, part: str) -> None:
    raw = {"greedy": {"parsed_answer": "A"}, "stochastic": {"parsed_answers": ["A", "B"]}}
    write(tmp_path, "m.jsonl", record(1, zero_shot={part: raw[part]}))
    with pytest.raises(InvalidInputError, match="answers that were judged"):
        read_answers(tmp_path, BANK)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.write_text(""), "is a file"),
        (lambda path: path.mkdir(), "no answer files"),
        (lambda path: write(path, "m.jsonl", ""), "no records; expected at least one record"),
        (lambda path: (path.mkdir(), (path / "m.jsonl.gz").write_bytes(b"no gzip")), "whole gzip file"),
        (lambda path: (path.mkdir(), (path / "m.jsonl.gz").write_bytes(gzip.compress(b"{}" * 99)[:-9])), "gzip"),
    ],
)
def test_a_folder_without_answers_is_explained(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "answers")
    with pytest.raises(InvalidInputError, match=message):
        read_answers(tmp_path / "answers", BANK)


def test_a_cell_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "m.jsonl", *[record(1, zero_shot=block("A", []))] * 2)
    with pytest.raises(InvalidInputError, match="m, zero_shot, risk_radiorag_1"):
        read_answers(tmp_path, BANK)
