"""`safescale run` in the background, its id as soon as it is known."""

import re
import threading

from tests.integration.conftest import CommandLine
from tests.support.containers import wait_for


def run_id_in(text: str) -> str:
    found = re.search(r"(?:Starting|Continuing) run (\S+) ", text) or re.search(r"Run (\S+) is complete", text)
    assert found, text
    return found[1]


class Background:
    """`safescale run` in the background, its id as soon as it is known."""

    def __init__(self, cli: CommandLine, *arguments: str) -> None:
        self._process = cli.start("run", *arguments)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for("the run's id", lambda: self.run_id)

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.append(line)

    @property
    def run_id(self) -> str:
        return run_id_in("".join(self._lines))

    def finish(self, seconds: float = 900) -> tuple[int, str]:
        code = self._process.wait(seconds)
        self._reader.join()
        return code, "".join(self._lines) + self._process.stderr.read()
