"""A run is backed up while the process that made it serves, restored elsewhere, and is the same run there."""

import json
import sqlite3
from pathlib import Path


def records(folder: Path) -> dict[tuple[str, str], tuple[str, object]]:
    with sqlite3.connect(f"file:{folder / 'records.db'}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT kind, key, grp, body FROM documents").fetchall()
    return {(kind, key): (group, json.loads(body)) for kind, key, group, body in rows}


def test_a_restored_run_has_all_its_records_and_is_used_as_before(light, tmp_path) -> None:
    spec = light.spec(questions={"limit": 2}, conditions=["zero_shot"])
    ran = light("run", spec, "--no-report")
    assert ran.returncode == 0, ran.stderr
    made = light("backup", "b.jsonl.gz")
    assert made.returncode == 0, made.stderr

    light.environment["SAFESCALE_DATA_DIR"] = str(tmp_path / "restored")
    restored = light("restore", "b.jsonl.gz")
    assert restored.returncode == 0, restored.stderr
    before = records(tmp_path / "data")
    assert {kind for kind, _ in before} >= {"benchmark", "run", "generation", "generation_cell", "verdict", "audit"}
    assert records(tmp_path / "restored") == before

    shown = light("export", "latest", "--format", "jsonl", "--out", "export")
    assert shown.returncode == 0, shown.stderr
    assert len((tmp_path / "export" / "verdicts.jsonl").read_text().splitlines()) == 2
    # Generations came along: a new run of the same spec asks the model nothing.
    again = light("run", spec, "--no-report", "--new", "--id-file", "id")
    assert again.returncode == 0, again.stderr
    assert f"Starting run {(tmp_path / 'id').read_text().strip()} " in again.stdout
    after = records(tmp_path / "restored")
    assert {key for key in after if key[0] == "generation"} == {key for key in before if key[0] == "generation"}


def test_a_mistake_is_a_sentence(cli) -> None:
    done = cli("restore", "missing.jsonl.gz")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: missing.jsonl.gz: no such file")
