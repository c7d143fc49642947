"""A process that has imported the command line, and forks a process of it for each command it is told to run.

`tests/support/commands.py` starts it. It is told of commands over the socket that is its standard input: each message
is a line that holds an `Order`, with the descriptors of standard output, standard error and a pipe for the command's
end. What is forked is a process like any other: it has a folder, an environment, signals and an exit code of its own.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass

PART = 1 << 16
"""Bytes that are received at once."""

IMPORTED = (
    "safescale.cli.main", "safescale.app.host", "safescale.runtime.bus.memory", "safescale.runtime.documents.sqlite",
    "safescale.inference.service", "safescale.inference.backends.openai.backend", "safescale.retrieval.service",
    "safescale.retrieval.embed.embedded", "safescale.orchestration.service", "safescale.scoring.service",
)  # fmt: skip


@dataclass(frozen=True)
class Order:
    """A command: its arguments, and where it runs."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]


def import_commands() -> None:
    """Import what a command imports, none of which may start a thread."""
    for name in IMPORTED:
        importlib.import_module(name)
    main = sys.modules["safescale.cli.main"]
    for target in main.COMMANDS.values():
        importlib.import_module(f"safescale.cli.{target.split(':')[0]}")


def keep(end: int) -> bool:
    """Fork a command and write its id, then its wait status, to a pipe. Returns true in the command itself."""
    command = os.fork()
    if command == 0:
        os.close(end)
        return True
    for stream in (0, 1, 2):
        os.close(stream)
    # A signal to all processes of a terminal is for the command.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(end, f"{command}\n".encode())
    _, status = os.waitpid(command, 0)
    os.write(end, f"{status}\n".encode())
    os._exit(0)


def become(order: Order, out: int, err: int) -> None:
    """Make this process that of a command."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    # As the interpreter opens them, since it keeps what the old ones were able to do.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = ["safescale", *order.arguments]


def received(control: socket.socket) -> tuple[bytes, list[int]]:
    """The next message, empty at the end of the socket, and its descriptors."""
    message, descriptors, _, _ = socket.recv_fds(control, PART, 3)
    while message and not message.endswith(b"\n"):
        message += control.recv(PART)
    return message, descriptors


def forked(control: socket.socket) -> bool:
    """Fork the commands that are told, to the end of the socket. Returns true in each of them, false here."""
    while True:
        message, descriptors = received(control)
        if not message:
            return False
        out, err, end = descriptors
        if os.fork() == 0:
            control.close()
            if keep(end):
                become(Order(**json.loads(message)), out, err)
                return True
        for descriptor in descriptors:
            os.close(descriptor)
        # Keepers that are done, so that none stays as a zombie.
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_commands()
    # What is imported stays shared with the commands: the collector does not write to it.
    gc.collect()
    gc.freeze()
    if forked(socket.socket(fileno=os.dup(0))):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.modules["safescale.cli.main"].main()
