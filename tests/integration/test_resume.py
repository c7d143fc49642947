"""SIGKILL at any moment: the same command goes on, nothing is lost, nothing is there twice."""

import json
import signal
import sqlite3
import time

import pytest

CELLS = 6
CALLS = 2
"""Calls that a cell takes: one greedy, one for all its samples."""


def counts(path) -> dict[str, int]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as db:
        return dict(db.execute("SELECT kind, count(*) FROM documents GROUP BY kind").fetchall())


def wait_for_verdicts(path, number: int, process) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if path.exists():
            try:
                if counts(path).get("verdict", 0) >= number:
                    return
            except sqlite3.OperationalError:
                pass
        time.sleep(0.02)
    raise AssertionError("no verdicts in time")


def letters(cli) -> list[tuple]:
    done = cli("export", "latest", "--format", "jsonl", "--out", "export")
    assert done.returncode == 0, done.stderr
    lines = (cli.folder / "export" / "verdicts.jsonl").read_text().splitlines()
    found = []
    for line in lines:
        verdict = json.loads(line)
        cell = verdict["cell"]
        samples = tuple(sample.get("letter") for sample in verdict["samples"])
        found.append((cell["condition"], cell["question_id"], verdict["greedy"].get("letter"), samples))
    return sorted(found)


def test_killed_twice_then_complete_with_the_letters_of_an_undisturbed_run(light, model, tmp_path) -> None:
    spec = light.spec(questions={"limit": 3})
    records = tmp_path / "data" / "records.db"
    for ended in (1, 4):
        # It waits within a cell when it is killed: one call is answered, the other is not.
        model.answers = CALLS * (ended - (counts(records)["verdict"] if records.exists() else 0)) + 1
        process = light.start("run", spec, "--no-report")
        wait_for_verdicts(records, ended, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    model.answers = None
    done = light("run", spec, "--no-report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Continuing run test-" in done.stdout
    found = counts(records)
    assert (found["run"], found["verdict"], found["generation_cell"]) == (1, CELLS, CELLS)
    disturbed = letters(light)
    assert len({row[:2] for row in disturbed}) == len(disturbed) == CELLS

    light.environment["SAFESCALE_DATA_DIR"] = str(tmp_path / "other")
    assert light("run", spec, "--no-report").returncode == 0
    assert letters(light) == disturbed


@pytest.mark.models
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(cli, tmp_path) -> None:
    spec = cli.spec(questions={"limit": 2})
    process = cli.start("run", spec, "--no-report")
    wait_for_verdicts(tmp_path / "data" / "records.db", 1, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert f"`safescale run {spec}` goes on from there" in " ".join(err.split())
    assert not (tmp_path / "data" / "address").exists()
    again = cli("run", spec, "--no-report")
    assert again.returncode == 0
    assert "Continuing" in again.stdout


def test_a_complete_run_is_shown_again_and_new_starts_another_from_the_cache(light) -> None:
    spec = light.spec(questions={"limit": 1})
    first = light("run", spec, "--no-report")
    assert first.returncode == 0, first.stderr
    again = light("run", spec, "--no-report")
    assert "is complete already" in again.stdout
    new = light("run", spec, "--new", "--no-report")
    assert new.returncode == 0
    assert "Starting run" in new.stdout
    listed = light("runs", "list")
    assert listed.stdout.count("completed") == 2


@pytest.mark.models
def test_a_dry_run_asks_nothing(cli, tmp_path) -> None:
    done = cli("run", cli.spec(), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Cells        6" in done.stdout
    assert "Answers      36" in done.stdout
    assert "at the speed just measured" in done.stdout
    assert "run" not in counts(tmp_path / "data" / "records.db")
