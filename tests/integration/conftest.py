"""The command line in a subprocess, with records of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_S = 240


@dataclass
class CommandLine:
    """Runs `safescale` with a data folder of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    timeout_s: float = TIMEOUT_S

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SAFESCALE_")}
        own = {
            "SAFESCALE_DATA_DIR": str(self.folder / "data"),
            "COLUMNS": "160",
            "NO_COLOR": "1",
            "SAFESCALE_INSTANCES": "1",
        }
        return {**kept, **own, **self.environment}

    def start(self, *arguments: str, **options) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "safescale.cli.main", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def __call__(self, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **options)
        try:
            out, err = process.communicate(timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert "Traceback" not in out + err, out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def spec(self, name: str = "spec.yaml", /, **changes: object) -> str:
        body: dict[str, object] = {
            "name": "test",
            "benchmark": str(EXAMPLES / "benchmark" / "radiology-mini.jsonl"),
            "models": ["smollm2-135m-instruct"],
            "conditions": ["zero_shot", "evidence_clean"],
            "regimes": {"greedy": True, "self_consistency": {"samples": 5, "temperature": 0.7}},
            "questions": {"limit": 3},
        }
        body.update(changes)
        # JSON is YAML.
        self.write(name, json.dumps({key: value for key, value in body.items() if value is not None}, indent=1))
        return name


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)
