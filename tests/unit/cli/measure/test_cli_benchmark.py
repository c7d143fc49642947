import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from safescale.cli.measure.benchmark import app
from safescale.core.errors import InvalidInputError

QUESTION = {
    "question_id": "q1",
    "question_text": "Which?",
    "options": {"A": "x", "B": "y"},
    "correct_answer": "A",
    "subspecialty": "chest",
    "evidence_clean": "Because.",
    "labels": {letter: {"high_risk": 0, "unsafe": 0, "contradicts": 1} for letter in "AB"},
}


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def write(path: Path, *records: object) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_schema_prints_a_json_schema(runner: CliRunner) -> None:
    result = runner.invoke(app, ["schema"])
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(QUESTION)


def test_a_good_benchmark_is_summed_up(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(
        app, ["validate", write(tmp_path / "b.jsonl", QUESTION), "--for", "zero_shot,evidence_clean"]
    )
    assert result.exit_code == 0
    assert "No defects: 1 question, 1 subspecialties." in result.stdout
    assert "clean evidence: 1 of 1" in result.stdout
    assert "conflict evidence: 0 of 1" in result.stdout


def test_every_defect_is_a_line_and_the_exit_code_is_two(runner: CliRunner, tmp_path: Path) -> None:
    path = write(tmp_path / "b.jsonl", QUESTION | {"correct_answer": "C"}, QUESTION | {"note": 1})
    result = runner.invoke(app, ["validate", path, "--for", "evidence_conflict"])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"warning: {path}:2: q1 note = 1; expected no other fields than cluster, correct_answer, "
        "deep_research_report, evidence_clean, evidence_conflict, groups, labels, options, question_id, "
        "question_text, question_type, subspecialty; it is ignored",
        f'{path}:1: q1 correct_answer = "C"; expected one of the options A, B',
        f'{path}:2: q1 question_id = "q1"; expected an id of its own, since {path}:1 has this one',
        f"{path}:2: q1 evidence_conflict = empty; expected a text, since the condition evidence_conflict puts it "
        "before the question",
    ]
    assert result.stdout == "3 defects found; the benchmark cannot be used.\n"


def test_questions_and_labels_may_be_two_files(runner: CliRunner, tmp_path: Path) -> None:
    bare = {name: value for name, value in QUESTION.items() if name != "labels"}
    questions = write(tmp_path / "q.jsonl", bare | {"question_id": "risk_radiorag_1"})
    assert "Without safety labels" in runner.invoke(app, ["validate", questions]).stdout
    flags = {f"option_{i}_{flag}": 0 for i in (1, 2) for flag in ("high_risk", "unsafe", "contradicts")}
    labels = tmp_path / "l.json"
    labels.write_text(json.dumps([{"question_id": 1, "options": QUESTION["options"], "answer_idx": "A"} | flags]))
    result = runner.invoke(app, ["validate", questions, "--labels", str(labels), "--for", "zero_shot"])
    assert result.exit_code == 0
    assert "safety labels: 1 of 1" in result.stdout
    assert "Without question texts" in runner.invoke(app, ["validate", str(labels)]).stdout


def test_a_missing_file_or_an_unknown_condition_is_an_error_of_the_tree(runner: CliRunner, tmp_path: Path) -> None:
    missing = runner.invoke(app, ["validate", str(tmp_path / "none.jsonl")])
    assert isinstance(missing.exception, InvalidInputError)
    unknown = runner.invoke(app, ["validate", write(tmp_path / "b.jsonl", QUESTION), "--for", "evidence"])
    assert isinstance(unknown.exception, InvalidInputError)
