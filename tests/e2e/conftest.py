"""One grid for all tests of this folder; what the embedded run says is measured beside it."""

import csv
import signal
from collections.abc import Iterator

import pytest
from tests.e2e.grid import Grid
from tests.integration.conftest import EXAMPLES, CommandLine

PATIENCE_S = 1200.0
"""Seconds for a command, on a machine that does other things, too."""

Letters = dict[tuple[str, str], str]
"""Greedy letter by (condition, question); empty for an abstention."""


@pytest.fixture(scope="session", autouse=True)
def _end_like_an_interrupt() -> Iterator[None]:
    """SIGTERM ends the tests as Ctrl-C does, so that containers are removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    folder = tmp_path_factory.mktemp("requests")
    for parent in folder.parents:
        if parent.is_relative_to(tmp_path_factory.getbasetemp()):
            parent.chmod(0o755)
    with Grid(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def _logs_of_a_failed_test(request: pytest.FixtureRequest, grid: Grid) -> Iterator[None]:
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        grid.tell_logs()


@pytest.fixture(scope="session")
def remote(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line of a person at the grid."""
    return CommandLine(tmp_path_factory.mktemp("remote"), grid.client_environment(), PATIENCE_S)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line of a person without a grid."""
    return CommandLine(tmp_path_factory.mktemp("embedded"), {"SAFESCALE_INSTANCES": "2"}, PATIENCE_S)


def letters_of(cli: CommandLine, run: str) -> Letters:
    """Greedy letters of a run, from its export."""
    folder = cli.folder / f"export-{run}"
    done = cli("export", run, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    with (folder / "verdicts.csv").open(newline="") as source:
        rows = list(csv.DictReader(source))
    found = {(row["condition"], row["question_id"]): row["greedy_letter"] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="session")
def demo_letters(embedded: CommandLine) -> Letters:
    """Letters of the demo, measured in one process."""
    done = embedded("run", str(EXAMPLES / "runs" / "demo.yaml"), "--no-report")
    assert done.returncode == 0, done.stdout + done.stderr
    return letters_of(embedded, "latest")
