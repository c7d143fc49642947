import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from safescale.cli.terminal.narrow import fitting
from safescale.cli.terminal.output import PLAIN, lasting_terminal, prepare
from safescale.cli.terminal.text import terminal
from safescale.core.errors import StorageError

RUN_ID = "a-name-of-forty-characters-or-so-yes-more-f3917238"


EACH = """
import sys
from safescale.cli.main import main

for command in sys.argv[1:]:
    sys.argv = ["safescale", *command.split()]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    print(end=chr(0x1E), flush=True)
"""
"""Runs commands one after the other in one process, with a separator behind the output of each."""


def _python(
    *arguments: str, stdout: object = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**kept, "NO_COLOR": "1", **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=100,
        check=False,
    )


def _safescale(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return _python("-m", "safescale.cli.main", *arguments, **options)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict"},
        {"PYTHONIOENCODING": "cp1252"},
    ],
)
def test_every_locale_gets_what_it_can_show(environment: dict[str, str]) -> None:
    commands = ["--help", "run --help", "metrics", "benchmark schema"]
    ended = _python("-c", EACH, *commands, **environment)
    assert (ended.returncode, ended.stderr) == (0, b"")
    shown = ended.stdout.split(b"\x1e")
    assert len(shown) == len(commands) + 1
    assert all(len(each) > 500 for each in shown[:-1])


def test_an_error_with_a_name_that_the_locale_has_not(tmp_path: Path) -> None:
    ended = _safescale("run", str(tmp_path / "spéc-胸.yaml"), PYTHONIOENCODING="ascii")
    assert ended.returncode == 2
    assert b"sp\\xe9c-\\u80f8.yaml: no such file" in ended.stderr


def test_signs_of_ours_have_a_plain_form() -> None:
    prepare()
    assert "10–90 % · ≤ 5 … 胸 \udcff".encode("ascii", PLAIN) == b"10-90 % - <= 5 ... \\u80f8 \\udcff"
    assert "20 °C – 胸".encode("latin-1", PLAIN) == b"20 \xb0C - \\u80f8"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("0", None),
        ("-5", None),
        ("wide", None),
        ("²", None),
        ("", None),
        ("7", "20"),
        ("64", "64"),
        ("1" + "0" * 30, "500"),
    ],
)
def test_a_width_that_is_none_is_left_to_the_terminal(
    given: str, left: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", given)
    prepare()
    assert os.environ.get("COLUMNS") == left


def _shown(table: Table, width: int) -> str:
    stream = io.StringIO()
    console = terminal(stream)
    console.width = width
    console.print(table)
    return stream.getvalue()


def make_table() -> Table:
    table = Table(title="Runs", caption="All of them.")
    table.add_column("run", overflow="fold")
    table.add_column("created (UTC)", no_wrap=True)
    table.add_column("contra-\ndiction", justify="right")
    table.add_row(RUN_ID, "2026-11-30 20:52", "33.3\n0–100")
    return table


@pytest.mark.parametrize("width", [200, 80, 64, 40, 20])
def test_no_width_cuts_an_id_or_a_number(width: int) -> None:
    text = _shown(make_table(), width)
    words = text.replace("│", " ").split()
    for word in (RUN_ID, "2026-11-30", "20:52", "33.3", "0–100"):
        assert word in words, text
    assert "…" not in text
    assert ("contradiction:" in text) == (width < 100)


def test_rows_below_a_heading_keep_it_where_the_table_is_narrow() -> None:
    table = Table()
    for heading in ("condition, model", "accuracy"):
        table.add_column(heading)
    for cells in (("evidence_clean",), (" a-model-of-a-long-name", "10.0"), (" another-model", "20.0")):
        table.add_row(*cells)
    lines = _shown(table, 24).splitlines()
    assert lines == [
        "evidence_clean / a-model-of-a-long-name", "  accuracy: 10.0",
        "evidence_clean / another-model", "  accuracy: 20.0",
    ]  # fmt: skip


def test_a_table_that_fits_stays_one() -> None:
    console = terminal(io.StringIO())
    console.width = 120
    table = make_table()
    assert fitting(table, console) is table


def test_a_long_line_is_not_broken() -> None:
    stream = io.StringIO()
    console = terminal(stream)
    console.width = 40
    console.print(f"Continuing run {RUN_ID} (digest 0123456789ab).")
    assert stream.getvalue() == f"Continuing run {RUN_ID} (digest 0123456789ab).\n"


@pytest.mark.parametrize("command", [("metrics",), ("--help",), ("--version",), ("benchmark", "schema")])
def test_a_full_device_is_told_in_a_sentence(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = _safescale(*command, stdout=full)
    assert ended.returncode == 1
    assert ended.stderr == b"Error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("command", [("metrics",), ("benchmark", "schema")])
def test_a_reader_that_went_away_is_told_in_a_sentence(command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = _safescale(*command, stdout=writing)
    os.close(writing)
    assert ended.returncode == 1
    assert ended.stderr == b"Error: standard output was closed before everything was written\n"


def test_a_mistake_keeps_its_exit_code_on_a_full_device(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = _safescale("run", str(tmp_path / "nowhere.yaml"), stdout=full)
    assert ended.returncode == 2
    assert b"no such file" in ended.stderr


def test_closed_streams(tmp_path: Path) -> None:
    command = f"{sys.executable} -m safescale.cli.main metrics >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], check=False, timeout=100).returncode == 0


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_work_goes_on_where_nothing_can_be_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []
    monkeypatch.setattr(sys, "stdout", Full())

    def work() -> None:
        with lasting_terminal() as console:
            for number in range(3):
                console.print(f"line {number}")
                done.append(number)

    with pytest.raises(StorageError, match="standard output cannot be written: No space left on device; every"):
        work()
    assert done == [0, 1, 2]
    assert capsys.readouterr().err.count("the work goes on") == 1
