"""Records that version 0.1.0 wrote go on: its runs are shown, judged, exported, resumed and retried.

They were made by its own code (tests/data/released/README.md), as was what it said of them. Where a later rule says
something else, the test says which.
"""

import json
import math
import tarfile
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.data.released.make import POLICIES, REFUSED, cell_of
from tests.integration.conftest import CommandLine
from tests.integration.released.conftest import RECORDS, done, folder_of, restore_unfinished, verdicts
from tests.support.commands import CommandForker
from tests.support.fakes.varied_model import VariedModel

CALLS = 2
"""Calls that a cell takes: one greedy, one for all its samples."""


@pytest.fixture(scope="module")
def completed(model: VariedModel, forker: CommandForker, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The restored data folder with three complete runs."""
    cli = folder_of(tmp_path_factory.mktemp("completed"), model, forker)
    done(cli, "restore", str(RECORDS / "completed.jsonl.gz"))
    return cli


def same(found: Any, said: Any) -> bool:
    if isinstance(said, float) and isinstance(found, (int, float)):
        return math.isclose(found, said, rel_tol=1e-9, abs_tol=1e-12)
    return bool(found == said)


def differing(found: list[dict[str, Any]], said: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """Rows of a released table that are not the same now; further columns and further metrics are no difference.

    To version 0.1.0 an answer that nobody could read was an abstention; it is unread now, a metric of its own.
    """
    kept = {row.get("metric") for row in said} - {"abstention_rate"}
    pairs = zip(*([row for row in rows if row.get("metric") in kept] for rows in (found, said)), strict=True)
    return [(new, old) for new, old in pairs if not all(same(new[name], value) for name, value in old.items())]


@pytest.mark.parametrize("name", POLICIES)
def test_tables_and_letters_are_those_of_the_released_version(completed, expected, name: str) -> None:
    said = expected[name]
    found = verdicts(completed, said["run_id"])
    letters = [cell_of(verdict)[:4] for verdict in found.values()]
    assert sorted(letters) == sorted(cell[:4] for cell in said["cells"])
    done(completed, "report", said["run_id"], "--format", "json", "--out", "report.json")
    report = json.loads((completed.folder / "report.json").read_text())
    assert report["run"]["state"] == "RUN_STATE_COMPLETED"
    for table, rows in said["tables"].items():
        assert differing(report["tables"][table], rows) == [], table


def test_an_answer_that_the_judge_failed_on_fails_its_cell(completed, expected) -> None:
    # Version 0.1.0 asked a person to read such answers, and took the cell for measured.
    found = verdicts(completed, expected["judged"]["run_id"])
    failed = {key for key, one in found.items() if "failure" in one}
    assert {found[key]["failure"]["reason"] for key in failed} == {"JUDGE_FAILED"}
    reasons = {
        key: {reading.get("review_reason", "") for reading in (one["greedy"], *one["samples"])}
        for key, one in found.items()
    }
    assert failed == {key for key, found_reasons in reasons.items() if "JUDGE_FAILED" in found_reasons}


def cases(text: str) -> dict[str, str | None]:
    """The requirements that were judged, and why each failed."""
    found = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        failure = case.find("failure")
        found[f"{case.get('classname')} {case.get('name')}"] = None if failure is None else failure.get("message")
    return found


@pytest.mark.parametrize(
    ("name", "further"),
    [
        ("read", None),
        # Nobody had read some answers; were each of them harm, the limits would still be kept.
        ("completed", None),
        # A gate that version 0.1.0 passed though the judge had failed on some answers.
        ("judged", "run judge_failed_cells ≤ 0"),
    ],
)
def test_gates_pass_as_before_where_all_answers_were_read(completed, expected, name: str, further: str | None) -> None:
    arguments = ("gate", expected[name]["run_id"], "--policy", POLICIES[name], "--junit", "junit.xml")
    done(completed, *arguments, code=1 if further else 0)
    found = cases((completed.folder / "junit.xml").read_text())
    if further:
        assert found.pop(further)
    assert found == cases(expected[name]["junit"])


def test_runs_are_listed_shown_and_reported(completed, expected) -> None:
    listed = done(completed, "runs", "list")
    run = expected["completed"]["run_id"]
    assert all(f"{expected[name]['run_id']} completed" in listed for name in POLICIES)
    assert f"Run {run}: completed 24/24 cells" in done(completed, "runs", "show", run)
    done(completed, "report", run, "--policy", "policy.yaml", "--out", "report.html")
    assert run in (completed.folder / "report.html").read_text()
    settled = done(completed, "reviews", "list", run, "--settled")
    first, second = expected["completed"]["settled"]
    assert "settled as A by a reader" in settled.split(first)[1].split(f"{run}/")[0]
    assert "settled as no answer by a reader" in settled.split(second)[1].split(f"{run}/")[0]


def test_the_spec_of_a_complete_run_measures_anew(completed, expected, asked) -> None:
    # A complete run of another version is left alone: who runs its spec again means to measure with this one.
    assert "Starting run read-" in done(completed, "run", "read.json", "--no-report", "--id-file", "id")
    # Answers that version 0.1.0 kept lack what decides them, and are not taken.
    assert len(asked) == len(expected["read"]["cells"])
    run = (completed.folder / "id").read_text().strip()
    assert run != expected["read"]["run_id"]
    found = verdicts(completed, run)
    assert sorted(cell_of(one) for one in found.values()) == sorted(expected["read"]["cells"])


def take_folder(cli: CommandLine) -> None:
    """The data folder as the process that was killed left it, with SQLite's log."""
    with tarfile.open(RECORDS / "unfinished-folder.tar.gz") as archive:
        archive.extractall(cli.folder / "data", filter="data")


@pytest.mark.parametrize("bring", [restore_unfinished, take_folder])
def test_an_unfinished_run_goes_on_with_its_open_cells_alone(tmp_path, model, forker, expected, asked, bring) -> None:
    cli = folder_of(tmp_path, model, forker)
    bring(cli)
    run, ended = expected["unfinished"]["run_id"], expected["unfinished"]["cells"]
    before = verdicts(cli, run)
    assert sorted(cell_of(one) for one in before.values()) == sorted(ended)

    assert f"Continuing run {run}" in done(cli, "run", "unfinished.json", "--no-report", code=1)
    after = verdicts(cli, run)
    assert len(after) == 18
    assert {key: after[key] for key in before} == before
    assert len(asked) == CALLS * (18 - len(ended))
    failed = {key for key, one in after.items() if "failure" in one}
    assert failed == {key for key, one in before.items() if "failure" in one}
    assert {question for _, question in failed} == {REFUSED}

    asked.clear()
    assert "Asking 2 failed cells again." in done(cli, "runs", "retry", run)
    assert len(asked) == CALLS * len(failed)
    last = verdicts(cli, run)
    assert not [one for one in last.values() if "failure" in one]
    assert {key: one for key, one in last.items() if key not in failed} == {
        key: one for key, one in after.items() if key not in failed
    }
    assert f"Run {run}: completed 18/18 cells" in done(cli, "runs", "show", run)


def test_an_unfinished_run_of_a_model_that_changed_since_is_refused(tmp_path, model, forker, expected, asked) -> None:
    cli = folder_of(tmp_path, model, forker)
    restore_unfinished(cli)
    rows = json.loads(model.catalog())
    rows["models"][0]["window_tokens"] = 8000
    cli.write("models.yaml", json.dumps(rows))
    told = done(cli, "runs", "retry", "latest", code=2)
    assert f"run {expected['unfinished']['run_id']} cannot go on" in told
    assert "model m: window tokens was 6000 and is 8000. Restore that, or measure anew with another run" in told
    assert asked == []
