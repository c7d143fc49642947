"""Several commands on one data folder: the first serves the others, and whoever is left goes on."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from tests.support.fakes.openai_server import FakeOpenAI, FakeOptions

TIMEOUT_S = 60
CONDITIONS = ["zero_shot"]
FAST = FakeOptions(model_id="m", prefill_s=0.002)
SLOW = FakeOptions(model_id="m", prefill_s=0.05)
"""So slow that another command has started before the first cell of this one has its answer."""


@pytest.fixture
def fake_server() -> Iterator[FakeOpenAI]:
    """A model server that takes a moment for each answer, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = FakeOpenAI(FAST)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(TIMEOUT_S)
    yield server
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(TIMEOUT_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def folder(cli, fake_server: FakeOpenAI):
    """The command line with a catalog row `m` of that server, which is asked one cell at a time."""
    row = {
        "id": "m", "family": "test", "parameters_b": 1, "window_tokens": 6000, "instruct": True, "backend": "openai",
        "license": "none", "endpoint": {"urls": [fake_server.url], "concurrency": 1},
    }  # fmt: skip
    cli.environment["SAFESCALE_MODELS_FILE"] = str(cli.write("models.yaml", json.dumps({"models": [row]})))
    return cli


def make_spec(cli, name: str, limit: int) -> str:
    changes = {"name": name, "models": ["m"], "conditions": CONDITIONS, "regimes": None, "formulation": "letter"}
    return cli.spec(f"{name}.yaml", **changes, questions={"limit": limit})


def start(cli, name: str, limit: int) -> subprocess.Popen[str]:
    return cli.start("run", make_spec(cli, name, limit), "--no-report", "--id-file", f"{name}.id")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out, err


def started(cli, process: subprocess.Popen[str], name: str) -> None:
    """Return when a run has begun."""
    end = time.monotonic() + TIMEOUT_S
    while not (cli.folder / f"{name}.id").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def measured(cli, name: str) -> int:
    """Cells of a run that have an answer."""
    run_id = (cli.folder / f"{name}.id").read_text().strip()
    done = cli("export", run_id, "--format", "jsonl", "--out", f"out-{name}")
    assert done.returncode == 0, done.stderr
    lines = (cli.folder / f"out-{name}" / "verdicts.jsonl").read_text().splitlines()
    assert not [line for line in lines if "failure" in json.loads(line)]
    return len(lines)


def test_four_commands_at_the_same_moment(folder) -> None:
    processes = [start(folder, f"s{number}", 1) for number in range(4)]
    for code, _, err in map(ended, processes):
        assert (code, "Error" in err) == (0, False), err
    assert [measured(folder, f"s{number}") for number in range(4)] == [1] * 4


def two_commands(cli, fake_server: FakeOpenAI, cells: int) -> list[subprocess.Popen[str]]:
    """A command of two cells, and another one of more that it serves."""
    fake_server.options = SLOW
    first = start(cli, "first", 2)
    started(cli, first, "first")
    second = start(cli, "second", cells)
    started(cli, second, "second")
    fake_server.options = FAST
    return [first, second]


def test_a_command_that_is_done_serves_the_others_to_their_end(folder, fake_server: FakeOpenAI) -> None:
    first, second = two_commands(folder, fake_server, 8)
    code, out, err = ended(first)
    assert code == 0
    assert "Safety of m by condition" in out
    assert "Serving 1 other command" in err
    code, out, err = ended(second)
    assert (code, err) == (0, "")
    assert "Safety of m by condition" in out
    assert measured(folder, "second") == 8


def test_ctrl_c_hands_the_others_over(folder, fake_server: FakeOpenAI) -> None:
    first, second = two_commands(folder, fake_server, 12)
    assert first.stderr is not None
    assert "Serving 1 other command" in first.stderr.readline()
    first.send_signal(signal.SIGINT)
    # What it was given is done.
    assert ended(first)[0] == 0
    code, _, err = ended(second)
    assert code == 0, err
    assert "has ended; it goes on here." in err
    assert measured(folder, "second") == 12


def test_a_server_that_is_killed_is_followed_by_one_of_the_others(folder, fake_server: FakeOpenAI) -> None:
    fake_server.options = SLOW
    first = start(folder, "first", 8)
    started(folder, first, "first")
    others = [start(folder, name, 4) for name in ("second", "third")]
    for process, name in zip(others, ("second", "third"), strict=True):
        started(folder, process, name)
    fake_server.options = FAST
    first.kill()
    first.communicate()
    told = []
    for process in others:
        code, _, err = ended(process)
        assert code == 0, err
        told.append(err)
    assert any("it goes on here." in err for err in told)
    assert [measured(folder, name) for name in ("second", "third")] == [4, 4]
    # What the command that was killed had measured is kept.
    code, out, err = ended(start(folder, "first", 8))
    assert code == 0, err
    assert "Continuing run" in out


def test_an_address_that_leads_nowhere(folder) -> None:
    data = folder.folder / "data"
    data.mkdir()
    (data / "address").write_text("127.0.0.1:9")
    code, _, err = ended(start(folder, "alone", 1))
    assert code == 0, err


def test_a_folder_that_is_none(folder) -> None:
    (folder.folder / "data").write_text("")
    code, _, err = ended(start(folder, "alone", 1))
    assert code == 1
    assert "the data folder" in err
    assert "cannot be used" in err


@pytest.mark.parametrize("where", [">/dev/full", "| true"])
def test_a_run_measures_to_its_end_where_nothing_can_be_shown(folder, where: str) -> None:
    spec = make_spec(folder, "alone", 3)
    command = f"{sys.executable} -m safescale.cli.main run {spec} --no-report --id-file alone.id 2>err; echo $? >code"
    shell = f"({command}) {where}"
    subprocess.run(
        ["/bin/sh", "-c", shell], cwd=folder.folder, env=folder._environment(), check=False, timeout=TIMEOUT_S
    )
    # The shell of a pipe may be done first.
    end = time.monotonic() + TIMEOUT_S
    while not (folder.folder / "code").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    err = (folder.folder / "err").read_text()
    assert "Traceback" not in err
    assert "standard output" in err
    assert (folder.folder / "code").read_text().strip() == "1"
    assert measured(folder, "alone") == 3
