"""Make the records of a released version with its own code: see the README beside this file.

python -m tests.data.released.make CHECKOUT [--python PYTHON]
"""

import argparse
import gzip
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.fakes.varied_model import VariedModel
from tests.unit.retrieval.conftest import tiny_definition

HERE = Path(__file__).parent
INPUTS = (
    "benchmark.jsonl", "corpus.jsonl", "completed.json", "judged.json", "read.json", "unfinished.json", "policy.yaml",
    "policy-read.yaml",
)  # fmt: skip
POLICIES = {"completed": "policy.yaml", "judged": "policy.yaml", "read": "policy-read.yaml"}
REFUSED = "chest-1"
"""The question that the model refused while the unfinished run was made."""

ANSWERS = 13
"""Answers that the model gave before the unfinished run was killed."""

QUIET_S = 2.0
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Released:
    """Runs commands of a released version in a folder, on a data folder of their own."""

    checkout: Path
    python: str
    folder: Path
    data: str
    model: VariedModel

    def start(self, *arguments: str, messages: str = "") -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SAFESCALE_")}
        own = {
            "PYTHONPATH": str(self.checkout / "services"), "SAFESCALE_DATA_DIR": self.data, "COLUMNS": "160",
            "SAFESCALE_MODELS_FILE": "models.yaml", "SAFESCALE_EMBEDDINGS": self.model.embeddings_url,
            "SAFESCALE_EMBEDDINGS_TOKENIZER_FILE": "tokenizer.json", "NO_COLOR": "1",
        }  # fmt: skip
        program = [str(HERE / "record_messages.py"), messages] if messages else ["-m", "safescale.cli.main"]
        return subprocess.Popen(
            [self.python, *program, *arguments], cwd=self.folder, env=kept | own,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=TIMEOUT_S)
        if process.returncode != code:
            raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{out}{err}")
        return out

    def verdict_count(self) -> int:
        path = self.folder / self.data / "records.db"
        if not path.exists():
            return 0
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as db:
            try:
                return int(db.execute("SELECT count(*) FROM documents WHERE kind = 'verdict'").fetchone()[0])
            except sqlite3.OperationalError:
                return 0


def results(released: Released, run: str) -> dict[str, Any]:
    """What the released version says of a run: its tables, and the letters of each cell."""
    released("report", run, "--format", "json", "--out", "report.json")
    report = json.loads((released.folder / "report.json").read_text())
    released("export", run, "--format", "jsonl", "--out", "export")
    lines = (released.folder / "export" / "verdicts.jsonl").read_text().splitlines()
    cells = [cell_of(json.loads(line)) for line in lines]
    return {"run_id": run, "state": report["run"]["state"], "cells": sorted(cells), "tables": report["tables"]}


def cell_of(verdict: dict[str, Any]) -> list[Any]:
    """Condition, question, greedy letter, letters of the samples, reason of a failure."""
    cell = verdict["cell"]
    letters = [sample.get("letter") for sample in verdict.get("samples", [])]
    greedy = verdict.get("greedy", {}).get("letter")
    return [cell["condition"], cell["question_id"], greedy, letters, verdict.get("failure", {}).get("reason", "")]


def make_completed(released: Released) -> dict[str, Any]:
    """A folder with three runs, each judged by a policy, one partly settled by hand; what its version says of them."""
    ids = {}
    for name in POLICIES:
        released("run", f"{name}.json", "--no-report", "--id-file", "id")
        ids[name] = (released.folder / "id").read_text().strip()
    reviews = re.findall(r"^\S+$", released("reviews", "list", ids["completed"]), re.MULTILINE)
    released("reviews", "resolve", reviews[0], "--reviewer", "a reader", "--letter", "A", "--note", "its text says so")
    released("reviews", "resolve", reviews[1], "--reviewer", "a reader")
    expected = {}
    for name, run in ids.items():
        released("gate", run, "--policy", POLICIES[name], "--junit", "junit.xml")
        expected[name] = {**results(released, run), "junit": (released.folder / "junit.xml").read_text()}
    expected["completed"]["settled"] = reviews[:2]
    released("backup", "completed.jsonl.gz")
    return expected


def make_unfinished(released: Released) -> dict[str, Any]:
    """A folder whose run was killed in the middle, with failed, finished and open cells, and the bus's messages."""
    questions = [json.loads(line) for line in (HERE / "benchmark.jsonl").read_text().splitlines()]
    released.model.refused = {one["question_text"] for one in questions if one["question_id"] == REFUSED}
    released.model.answers = ANSWERS
    process = released.start("run", "unfinished.json", "--no-report", "--id-file", "id", messages="messages.jsonl")
    count, since = 0, time.monotonic()
    while not count or time.monotonic() - since < QUIET_S:
        time.sleep(0.1)
        if process.poll() is not None:
            raise SystemExit(f"the run ended by itself:\n{process.communicate()}")
        if (found := released.verdict_count()) != count:
            count, since = found, time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    keep_folder(released.folder / released.data, released.folder / "unfinished-folder.tar.gz")
    released.model.answers, released.model.refused = None, set()
    expected = results(released, (released.folder / "id").read_text().strip())
    del expected["tables"]
    released("backup", "unfinished.jsonl.gz")
    return expected


def keep(source: Path, target: Path) -> None:
    """Write a file compressed, without the time and its name."""
    with gzip.GzipFile(filename="", fileobj=target.open("wb"), mode="wb", mtime=0) as out:
        out.write(source.read_bytes())


def keep_folder(data: Path, target: Path) -> None:
    """Write the records of a data folder to an archive: the database and its log, as a process that was killed left it.

    The file of shared memory is left out: SQLite makes it anew.
    """
    with tarfile.open(target, "w:gz") as archive:
        for name in ("records.db", "records.db-wal"):
            archive.add(data / name, name, filter=anonymous)


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry of an archive that says nothing of where it was made."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def main() -> None:
    """Make everything in a temporary folder, then put it in its place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="checkout of the released version")
    parser.add_argument("--python", default=sys.executable, help="interpreter with what that version needs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, VariedModel() as model:
        folder = Path(name)
        for path in INPUTS:
            shutil.copy(HERE / path, folder)
        (folder / "models.yaml").write_text(model.catalog())
        (folder / "tokenizer.json").write_text(tiny_definition())
        completed = Released(options.checkout.absolute(), options.python, folder, "completed", model)
        unfinished = Released(completed.checkout, options.python, folder, "unfinished", model)
        expected = {**make_completed(completed), "unfinished": make_unfinished(unfinished)}
        target = HERE / completed("--version").split()[-1]
        target.mkdir(exist_ok=True)
        (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
        for made in ("completed.jsonl.gz", "unfinished.jsonl.gz", "unfinished-folder.tar.gz"):
            shutil.copyfile(folder / made, target / made)
        for made in ("expected.json", "messages.jsonl"):
            keep(folder / made, target / f"{made}.gz")


if __name__ == "__main__":
    main()
