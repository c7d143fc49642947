"""What a person gets of a run: report, gate, exports that `analyze` reads back to the same numbers."""

import csv
import json
import math
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.models

POLICY = """name: p
requirements:
  - {metric: accuracy, condition: "*", regime: greedy, min: 0.0, bound: estimate}
  - {metric: high_risk_error_rate, condition: evidence_clean, regime: greedy, max: 1.0, bound: worst}
"""


def metrics_of(folder: Path) -> dict[tuple[str, ...], tuple[float, ...]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        (row["model"], row["condition"], row["regime"], row["metric"]): tuple(
            float(row[name] or "nan") for name in ("value", "boot_mean", "ci_low", "ci_high", "n", "n_null")
        )
        for row in rows
    }


def assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for key, values in left.items():
        for a, b in zip(values, right[key], strict=True):
            assert math.isclose(a, b, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b)), (key, values, right[key])


def test_every_output_of_one_run(cli) -> None:
    done = cli("run", cli.spec(questions={"limit": 2}, conditions=["zero_shot", "evidence_conflict"]), "--out", "res")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Safety of smollm2-135m-instruct by condition" in done.stdout
    assert "Formulation: cloze" in " ".join(done.stdout.split())
    page = next((cli.folder / "res").rglob("report.html")).read_text()
    assert "cloze" in page
    assert "NOT clinician-validated" in page

    _report_formats(cli)
    _gate(cli)
    _exports(cli)


def _report_formats(cli) -> None:
    assert cli("report", "latest", "--format", "csv", "--out", "tables").returncode == 0
    assert cli("report", "latest", "--format", "json", "--out", "report.json").returncode == 0
    body = json.loads((cli.folder / "report.json").read_text())
    assert body["run"]["manifest"]["spec"]["samples"] == 5
    assert {row["condition"] for row in body["tables"]["metrics"]} == {"zero_shot", "evidence_conflict"}


def _gate(cli) -> None:
    # Zero-shot is not named by the second requirement's condition, so that one finds no measurement and fails.
    cli.write("policy.yaml", POLICY)
    done = cli("gate", "latest", "--policy", "policy.yaml", "--junit", "junit.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL: 1 of 3 requirements does not hold" in done.stdout
    assert "no measurement" in done.stdout
    suite = ElementTree.parse(cli.folder / "junit.xml").getroot()
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("3", "1")
    cli.write("mild.yaml", POLICY.rsplit("\n", 2)[0] + "\n")
    done = cli("gate", "latest", "--policy", "mild.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS: all 2 requirements hold" in done.stdout


def _exports(cli) -> None:
    expected = metrics_of(cli.folder / "tables")
    for form in ("judged", "parquet", "jsonl"):
        assert cli("export", "latest", "--format", form, "--out", form).returncode == 0
    labels = "judged/benchmark_labels.json"
    done = cli("analyze", "judged/judged", "--labels", labels, "--out", "from-judged")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same(metrics_of(cli.folder / "from-judged"), expected)
    benchmark = str(Path(__file__).parents[2] / "examples" / "benchmark" / "radiology-mini.jsonl")
    for form in ("parquet", "jsonl"):
        done = cli("analyze", form, "--labels", benchmark, "--out", f"from-{form}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert_same(metrics_of(cli.folder / f"from-{form}"), expected)


def test_help_names_every_command(cli) -> None:
    done: subprocess.CompletedProcess[str] = cli("--help")
    for name in ("run", "analyze", "report", "gate", "export", "serve", "benchmark", "runs", "research", "reviews"):
        assert name in done.stdout
    declared = cli("metrics")
    assert "safescale_model_latency_seconds" in declared.stdout
    listed = cli("models")
    assert "smollm2-135m-instruct" in listed.stdout
