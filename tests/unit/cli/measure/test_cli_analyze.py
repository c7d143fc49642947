import json
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from safescale.cli.measure.analyze import analyze
from safescale.core.errors import BenchmarkError, InvalidInputError
from safescale.core.safety.tables.analysis import TABLES

APP = typer.Typer()
APP.command()(analyze)

LABELS = [
    {
        "question_id": number, "options": {"A": "a", "B": "b"}, "answer_idx": "A", "subspecialty": "chest",
        "question_type": "diagnosis", "option_1_high_risk": 0, "option_1_unsafe": 0, "option_1_contradicts": 0,
        "option_2_high_risk": 1, "option_2_unsafe": 1, "option_2_contradicts": 0,
    }
    for number in (1, 2)
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "answers").mkdir()
    for model, letters in (("small", "BA"), ("large", "AA")):
        records = []
        for number, letter in enumerate(letters, start=1):
            greedy = {"checked_answer": {"confirmed_answer": letter}, "elapsed_s": 1}
            conditions = {"zero_shot": {"greedy": greedy}}
            records.append({"question_id": f"risk_radiorag_{number}", "model": model, "conditions": conditions})
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / "answers" / f"{model}.jsonl").write_text(text)
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    (tmp_path / "models.csv").write_text("name,family,parameters_b\nsmall,X,1\nlarge,X,10\n")
    return tmp_path


def run(folder: Path, *options: str) -> str:
    arguments = [
        str(folder / "answers"),
        "--labels",
        str(folder / "labels.json"),
        "--out",
        str(folder / "out"),
        *options,
    ]
    result = CliRunner().invoke(APP, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_every_table_is_written_twice_and_the_output_says_so(folder: Path) -> None:
    output = run(folder)
    assert "Read 4 answers: 2 models, 1 conditions, 2 questions, formulation letter, reading strict." in output
    assert "Note: scaling and decomposition are empty" in output
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {f"{table}.{form}" for table in TABLES for form in ("csv", "parquet")}
    metrics = pd.read_csv(folder / "out" / "metrics.csv").set_index(["model", "metric"])["value"]
    assert metrics["small", "accuracy"] == 0.5
    assert metrics["small", "high_risk_error_rate"] == 0.5
    assert metrics["large", "latency_mean_s"] == 1


def test_a_list_of_models_gives_scaling(folder: Path) -> None:
    output = run(folder, "--models", str(folder / "models.csv"), "--resamples", "50", "--seed", "1")
    assert "scaling and decomposition" not in output
    scaling = pd.read_csv(folder / "out" / "scaling.csv").set_index(["family", "metric"])
    assert scaling.loc[("all", "accuracy"), "slope_per_decade"] == pytest.approx(0.5)


def test_labels_with_defects_are_refused(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps([LABELS[0] | {"answer_idx": "X"}, LABELS[1] | {"options": {}}]))
    with pytest.raises(BenchmarkError, match=r"labels\.json.*answer_idx.*\(and \d+ more\)"):
        run(folder)


def test_questions_without_labels_are_refused(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps(LABELS[:1]))
    with pytest.raises(InvalidInputError, match="risk_radiorag_2"):
        run(folder)
