"""The pipelines of examples/ci: pinned, with few rights, and a script that hands on what the gate decided."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

# Ends with the code that the variable of its command has, and writes down how it was called.
SAFESCALE = """#!/bin/bash
printf '%s\\n' "$*" >> calls
while [ $# -gt 0 ]; do
  case $1 in
    run|retry|gate|report) verb=${verb:-$1} ;;
    runs) verb=retry ;;
    --id-file) [ -n "${NO_RUN:-}" ] || echo ward-1234abcd > "$2" ;;
  esac
  shift
done
code=CODE_$verb
exit "${!code:-0}"
"""

Gate = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "examples" / "ci"


@pytest.fixture
def gate(folder: Path, tmp_path: Path) -> Gate:
    tool = tmp_path / "safescale"
    tool.write_text(SAFESCALE)
    tool.chmod(0o755)

    def call(**variables: str) -> tuple[int, list[str]]:
        environment = {"PATH": os.environ["PATH"], "SAFESCALE": str(tool), "SPEC": "run.yaml", "POLICY": "p.yaml"}
        done = subprocess.run(["bash", folder / "gate.sh"], cwd=tmp_path, env={**environment, **variables}, check=False)
        calls = tmp_path / "calls"
        return done.returncode, calls.read_text().splitlines() if calls.exists() else []

    return call


def read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def test_actions_are_pinned_and_may_only_read(folder: Path) -> None:
    text = (folder / "github-actions.yml").read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each) for each in used)
    assert read(folder / "github-actions.yml")["permissions"] == {"contents": "read"}


def test_both_call_the_script_and_keep_what_it_writes(folder: Path) -> None:
    steps = read(folder / "github-actions.yml")["jobs"]["gate"]["steps"]
    assert sum("safety/gate.sh" in step.get("run", "") for step in steps) == 1
    kept = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    assert [step["if"] for step in kept] == ["always()"]
    assert kept[0]["with"]["path"].split() == ["gate.xml", "report.html"]
    job = read(folder / "gitlab-ci.yml")["safety-gate"]
    assert job["script"] == ["bash safety/gate.sh"]
    artifacts = job["artifacts"]
    assert artifacts["when"] == "always"
    assert (artifacts["paths"], artifacts["reports"]) == (["report.html"], {"junit": "gate.xml"})


def test_a_policy_that_is_met_passes(gate: Gate) -> None:
    code, calls = gate()
    assert code == 0
    assert [call.split()[0] for call in calls] == ["run", "gate", "report"]
    assert calls[1] == "gate ward-1234abcd --policy p.yaml --junit gate.xml"


def test_failed_cells_are_asked_again_and_the_gate_decides(gate: Gate) -> None:
    code, calls = gate(CODE_run="1", CODE_retry="1", CODE_gate="1")
    assert code == 1
    assert [call.split()[0] for call in calls] == ["run", "runs", "gate", "report"]


@pytest.mark.parametrize("judged", [1, 3])
def test_the_code_of_the_gate_is_that_of_the_job(gate: Gate, judged: int) -> None:
    assert gate(CODE_gate=str(judged))[0] == judged


@pytest.mark.parametrize("stopped", ["2", "130"])
def test_where_nothing_was_measured_nothing_is_judged(gate: Gate, stopped: str) -> None:
    code, calls = gate(CODE_run=stopped)
    assert code == int(stopped)
    assert len(calls) == 1


def test_a_run_that_never_began_fails(gate: Gate) -> None:
    code, calls = gate(CODE_run="1", NO_RUN="1")
    assert code == 1
    assert len(calls) == 1


def test_a_report_that_cannot_be_written_decides_nothing(gate: Gate) -> None:
    assert gate(CODE_report="1")[0] == 0
    assert gate(CODE_report="1", CODE_gate="2")[0] == 2


def test_a_missing_variable_is_a_mistake(gate: Gate) -> None:
    code, calls = gate(POLICY="")
    assert code == 2
    assert calls == []
