"""A condition, a pair and a metric more are one row each: tables, report and terminal have them by that."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]

ROWS = {
    "core/safety/conditions.py": [
        ("CONDITIONS: tuple[Condition, ...] = (\n", '    Condition("made_up", "fake evidence", TopK(3)),\n'),
        ("PAIRS: tuple[tuple[str, str], ...] = (\n", '    ("made_up", "zero_shot"),\n'),
    ],
    "core/safety/metrics/__init__.py": [
        (
            "METRICS: tuple[MetricDefinition, ...] = (\n",
            '    _share("severe_rate", "drop_null", _BOTH, parts.high_risk_error, ("severe error", "severe")),\n',
        ),
    ],
}

SCRIPT = """
import importlib.util, io, sys
from rich.console import Console
spec = importlib.util.spec_from_file_location("made", sys.argv[1])
made = importlib.util.module_from_spec(spec)
sys.modules["made"] = made
spec.loader.exec_module(made)
scenario = made.Scenario(conditions=("zero_shot", "made_up"), question_count=12, samples=4, failures=0)
report = made.build(scenario)
for name in ("metrics", "paired_differences"):
    print(name, sorted(set(report.tables[name]["metric"])))
from safescale.cli.terminal.tables import columns_of
from safescale.core.safety.tables.analysis import SAFE_REGION
from safescale.report.safety.page import render
print("columns", columns_of([]))
print(render(report))
"""


def test_a_row_more_is_everywhere(tmp_path: Path) -> None:
    # With what is compiled: times are copied, too, so that it stays valid for the modules that do not change.
    shutil.copytree(ROOT / "services/safescale", tmp_path / "safescale")
    for name, rows in ROWS.items():
        path = tmp_path / "safescale" / name
        text = path.read_text()
        for head, row in rows:
            assert text.count(head) == 1
            text = text.replace(head, head + row)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(ROOT / "tests/unit/report/conftest.py")],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics, differences, columns, page = done.stdout.split("\n", 3)
    assert "severe_rate" in metrics
    assert "severe_rate" in differences
    assert "heading='severe', metric='severe_rate', regime='greedy'" in columns
    assert '<th scope="col">severe error</th>' in page
    assert ">Severe error" in page
    assert "fake evidence \u2212 closed-book" in page
    assert "Fake evidence against closed-book: accuracy went from" in page
