"""Processes of `safescale` that start in no time: forked from one that has imported the command line already.

Most of what a short command costs is imports. Where the start of a process is not what is tested, tests take theirs
from here; each is a process of its own all the same, with the interface of `subprocess.Popen`.
"""

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Self

from tests.support.command_forker import Order

ROOT = Path(__file__).parents[2]
LOOK_S = 0.005
"""Seconds between two looks for the end of a command."""


def _pipe() -> tuple[io.TextIOWrapper, int]:
    reader, writer = os.pipe()
    return open(reader, encoding="utf-8"), writer


class ForkedCommand:
    """A command that runs, as `subprocess.Popen` shows one. `end` has its id, then its wait status."""

    def __init__(self, arguments: Sequence[str], out: io.TextIOWrapper, err: io.TextIOWrapper, end: io.TextIOWrapper):
        self.args = arguments
        self.stdout, self.stderr = out, err
        self.returncode: int | None = None
        self._end = end
        self.pid = int(end.readline())
        os.set_blocking(end.fileno(), False)

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self.returncode is None and (line := self._end.readline()):
            self.returncode = os.waitstatus_to_exitcode(int(line))
            self._end.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(LOOK_S)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it writes from now on, once it has ended. It is killed where that takes too long."""
        with ThreadPoolExecutor(2) as readers:
            texts = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return texts[0].result(), texts[1].result()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(9)


class CommandForker:
    """The process that commands are forked from. Use as a context manager."""

    def __init__(self) -> None:
        own, its = socket.socketpair()
        environment = {**os.environ, "GRPC_VERBOSITY": "NONE", "COLUMNS": "160", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "tests.support.command_forker"]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=its, stdout=subprocess.DEVNULL)
        its.close()
        self._socket = own

    def __enter__(self) -> Self:
        """Return itself: the process imports, meanwhile."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait()

    def start(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> ForkedCommand:
        """Start a command."""
        order = Order(list(arguments), str(folder), dict(environment))
        pipes = [_pipe() for _ in ("out", "err", "end")]
        writers = [writer for _, writer in pipes]
        socket.send_fds(self._socket, [json.dumps(asdict(order)).encode() + b"\n"], writers)
        for writer in writers:
            os.close(writer)
        out, err, end = (reader for reader, _ in pipes)
        return ForkedCommand(arguments, out, err, end)
