"""Runs a command's coroutine and turns its end into an exit code and, at most, a sentence."""

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import typer

from safescale.cli.terminal.output import flush, lost, silence, tell
from safescale.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    SafescaleError,
    UnauthenticatedError,
)
from safescale.core.inputs.text import visible

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

USERS_MISTAKES = (
    InvalidInputError, NotFoundError, AlreadyExistsError, FailedPreconditionError, LimitExceededError,
    UnauthenticatedError, PermissionDeniedError,
)  # fmt: skip

T = TypeVar("T")


def exit_code(error: SafescaleError) -> int:
    """2 for the user's mistake, 1 for everything else."""
    return EXIT_USAGE if isinstance(error, USERS_MISTAKES) else EXIT_FAILED


def sentence(error: SafescaleError) -> str:
    """Return the text of an error: its message, and each defect that the message does not list already."""
    lines = [line for line in map(str, getattr(error, "defects", ())) if line not in error.message]
    return visible("\n".join([f"Error: {error.message}", *(f"  {line}" for line in lines)]))


def run_async(work: Coroutine[Any, Any, T], hint: str = "Stopped.") -> T:
    """Run a coroutine to its end; `hint` is shown after Ctrl-C, unless empty.

    Raises:
        typer.Exit: 130 after Ctrl-C.
        InvalidInputError: the log level does not exist.

    """
    # Here and not above: a command that asks no service needs neither.
    from safescale.runtime.log import configure_logging
    from safescale.runtime.settings import load_settings

    try:
        configure_logging(load_settings().log_level)
    except BaseException:
        work.close()
        raise
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        if hint:
            typer.echo(f"\n{hint}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def confirm(question: str, yes: bool) -> None:
    """Ask, unless the answer was given.

    Raises:
        InvalidInputError: there is no terminal to ask on.
        typer.Exit: 1 when the answer is no.

    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInputError("there is no terminal to ask on; --yes answers yes")
    if not typer.confirm(question):
        raise typer.Exit(EXIT_FAILED)


def _flushed(application: Callable[[], Any]) -> None:
    """Run, and flush standard output while a failure can still be reported.

    Raises:
        OSError: standard output cannot be written, or its reader is gone.

    """
    stream = sys.stdout
    try:
        application()
    except SystemExit as ended:
        error = flush()
        if sys.stdout is not stream:
            # Typer met the closed pipe first, and has put a quiet stream in its place.
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
        if error is not None and ended.code in (None, 0, EXIT_FAILED):
            raise error from None
        raise
    except SafescaleError:
        flush()
        raise


def guarded(application: Callable[[], Any]) -> None:
    """Run the command line: errors of the tree become a sentence on standard error, never a traceback."""
    try:
        _flushed(application)
    except SafescaleError as error:
        tell(sentence(error))
        sys.exit(exit_code(error))
    except ImportError as error:
        # Here and not above: what is needed when something is missing alone.
        from safescale.runtime.extras import lacking

        if (known := lacking(error)) is None:
            raise
        tell(sentence(known))
        sys.exit(exit_code(known))
    except UnicodeEncodeError as error:
        # An argument or a file's name of bytes that are no UTF-8: no message to a service can hold it.
        text = visible(str(error.object)[:80])
        tell(f"Error: '{text}' holds bytes that are no UTF-8; expected UTF-8 in arguments and file names")
        sys.exit(EXIT_USAGE)
    except OSError as error:
        # Readers and writers of files name them in their own errors: what is left is standard output.
        silence()
        tell(f"Error: {error if error.filename else lost(error)}")
        sys.exit(EXIT_FAILED)
