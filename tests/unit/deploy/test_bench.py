"""Benchmarks that need containers say so in a sentence where there are none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "arguments", [("grid.py",), ("grid.py", "start"), ("bench_driver.py",), ("bench_planning.py",), ("bench_start.py",)]
)
def test_no_engine_is_one_sentence(root: Path, arguments: tuple[str, ...]) -> None:
    file, *rest = arguments
    done = subprocess.run(
        [sys.executable, root / "bench" / file, *rest], capture_output=True, text=True, check=False,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"},
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("no container engine answers")
    assert "deploy/airgap/engine.sh start" in done.stderr


def test_a_benchmark_that_is_none_is_named(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, root / "bench/grid.py", "nothing"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'nothing'" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_command_starts_them(root: Path) -> None:
    target = (root / "Makefile").read_text().partition("\nbench-grid:")[2].partition("\n\n")[0]
    assert "bench/grid.py" in target
