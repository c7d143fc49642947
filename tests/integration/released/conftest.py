"""Data folders that version 0.1.0 wrote, and the models that its runs asked."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.data.released.make import INPUTS
from tests.integration.conftest import CommandLine, settings_of
from tests.support.commands import CommandForker
from tests.support.fakes.varied_model import VariedModel

RELEASED = Path(__file__).parents[2] / "data" / "released"
RECORDS = RELEASED / "0.1.0"


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What version 0.1.0 said of each run."""
    return json.loads(gzip.decompress((RECORDS / "expected.json.gz").read_bytes()))


@pytest.fixture
def asked(model: VariedModel) -> list[str]:
    """The prompts that the model is asked from now on."""
    model.server.asked.clear()
    return model.server.asked


def folder_of(path: Path, model: VariedModel, forker: CommandForker) -> CommandLine:
    """A command line with the specs that the runs were made with, and their model."""
    for name in INPUTS:
        shutil.copy(RELEASED / name, path)
    return CommandLine(path, settings_of(path, model), forker=forker)


def done(cli: CommandLine, *arguments: str, code: int = 0) -> str:
    """Output of a command that ends with a code."""
    ended = cli(*arguments)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return " ".join((ended.stdout + ended.stderr).split())


def verdicts(cli: CommandLine, run: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The exported verdicts of a run by condition and question."""
    done(cli, "export", run, "--format", "jsonl", "--out", "export")
    found = map(json.loads, (cli.folder / "export" / "verdicts.jsonl").read_text().splitlines())
    return {(one["cell"]["condition"], one["cell"]["question_id"]): one for one in found}


def restore_unfinished(cli: CommandLine) -> None:
    """Bring the run that was killed into the data folder of a command line."""
    done(cli, "restore", str(RECORDS / "unfinished.jsonl.gz"))
