"""The command line in a process of its own, with records of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.commands import CommandForker, ForkedCommand
from tests.support.fakes.varied_model import FORMS, MODEL, VariedModel
from tests.unit.retrieval.conftest import tiny_definition

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_S = 240


@dataclass
class CommandLine:
    """Runs `safescale` with a data folder of its own; without a forker, each command starts an interpreter.

    `asked` is what specs have of the model, unless told otherwise.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    timeout_s: float = TIMEOUT_S
    forker: CommandForker | None = None
    asked: dict[str, object] = field(default_factory=lambda: {"models": ["smollm2-135m-instruct"]})

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SAFESCALE_")}
        own = {
            "SAFESCALE_DATA_DIR": str(self.folder / "data"),
            "COLUMNS": "160",
            "NO_COLOR": "1",
            "SAFESCALE_INSTANCES": "1",
        }
        return {**kept, **own, **self.environment}

    def start(self, *arguments: str, **options) -> subprocess.Popen[str] | ForkedCommand:
        if self.forker is not None and not options:
            return self.forker.start(arguments, self.folder, self._environment())
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
            **self.asked,
            "conditions": ["zero_shot", "evidence_clean"],
            "regimes": {"greedy": True, "self_consistency": {"samples": 5, "temperature": 0.7}},
            "questions": {"limit": 3},
        }
        body.update(changes)
        # JSON is YAML.
        self.write(name, json.dumps({key: value for key, value in body.items() if value is not None}, indent=1))
        return name


@pytest.fixture(scope="session")
def forker() -> Iterator[CommandForker]:
    with CommandForker() as started:
        yield started


@pytest.fixture
def cli(tmp_path: Path, forker: CommandForker) -> CommandLine:
    return CommandLine(tmp_path, forker=forker)


@pytest.fixture(scope="module")
def model() -> Iterator[VariedModel]:
    with VariedModel() as running:
        yield running


def settings_of(folder: Path, model: VariedModel) -> dict[str, str]:
    """Write what a host needs to ask a model without weights to a folder; returns its settings."""
    (folder / "models.yaml").write_text(model.catalog())
    (folder / "tokenizer.json").write_text(tiny_definition())
    return {
        "SAFESCALE_MODELS_FILE": str(folder / "models.yaml"),
        "SAFESCALE_EMBEDDINGS": model.embeddings_url,
        "SAFESCALE_EMBEDDINGS_TOKENIZER_FILE": str(folder / "tokenizer.json"),
    }


@pytest.fixture
def light(tmp_path: Path, forker: CommandForker, model: VariedModel) -> CommandLine:
    """A command line whose model has no weights, for tests of what is around an answer: it costs next to nothing."""
    model.answers, model.seconds, model.forms = None, 0.0, FORMS
    asked: dict[str, object] = {"models": [MODEL], "formulation": "letter"}
    return CommandLine(tmp_path, settings_of(tmp_path, model), forker=forker, asked=asked)
