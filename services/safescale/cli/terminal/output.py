"""Standard output as it may be: any locale, any width, a full disk behind it, or a reader that is gone."""

import codecs
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, TextIO, cast

import typer

from safescale.core.errors import StorageError

if TYPE_CHECKING:
    from rich.console import Console

PLAIN = "safescale-plain"
"""Name of our way to encode what an encoding does not have."""

PLAIN_TEXTS: Mapping[str, str] = {
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u2026": "...",
    "\u00b7": "-", "\u2022": "*", "\u00d7": "x", "\u2264": "<=", "\u2265": ">=", "\u2192": "->", "\u2190": "<-",
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " ", "\u202f": " ",
}  # fmt: skip
"""What replaces our signs where they cannot be shown; everything else is escaped."""

SIZES: Mapping[str, tuple[int, int]] = {"COLUMNS": (20, 500), "LINES": (5, 500)}
"""Bounds of a terminal's size. What cannot be a size is left to the terminal itself."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_shown, error.object[error.start : error.end])), error.end


def _shown(char: str) -> str:
    return PLAIN_TEXTS.get(char) or char.encode("ascii", "backslashreplace").decode()


def _ascii(name: str) -> codecs.CodecInfo | None:
    """ASCII under a name of ours: Typer takes the real one for a mistake, and would write UTF-8 beside it."""
    if name.replace("_", "-") != PLAIN:
        return None
    real = codecs.lookup("ascii")
    return codecs.CodecInfo(
        real.encode, real.decode, real.streamreader, real.streamwriter, real.incrementalencoder,
        real.incrementaldecoder, PLAIN,
    )  # fmt: skip


def prepare() -> None:
    """Make standard output and error take every text, and the size of the terminal one that can be."""
    codecs.register_error(PLAIN, _plain)
    codecs.register(_ascii)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Closed by who started us: there is nowhere to print to.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=PLAIN if ascii_only else stream.encoding, errors=PLAIN)
    for name, (least, most) in SIZES.items():
        text = os.environ.get(name, "")
        if text.isascii() and text.isdigit() and int(text[:9]) > 0:
            os.environ[name] = str(min(max(int(text[:9]), least), most))
        else:
            os.environ.pop(name, None)


def lost(error: OSError) -> str:
    """Return the sentence about standard output that could not be written."""
    if isinstance(error, BrokenPipeError):
        return "standard output was closed before everything was written"
    return f"standard output cannot be written: {error.strerror or error}"


def tell(text: str) -> None:
    """Print to standard error, if that can be written."""
    with suppress(OSError, ValueError):
        typer.echo(text, err=True)


def flush() -> OSError | None:
    """Write what waits for standard output; the error when it cannot be, after which nothing waits."""
    try:
        sys.stdout.flush()
    except OSError as error:
        silence()
        return error
    except ValueError:
        # Closed in the meantime: whoever closed it flushed it.
        return None
    return None


def silence() -> None:
    """Send what is still to come to nowhere, so that the interpreter's own flush at the end succeeds."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Lasting(io.TextIOBase):
    """A stream that ignores writes after the first failure; `error` holds its reason."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the stream."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Its descriptor."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write, or pass by what cannot be written."""
        if self.error is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush, or note that it cannot be."""
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.error = error
        tell(f"Note: {lost(error)}; the work goes on without it.")
        silence()


@contextmanager
def lasting_terminal() -> "Iterator[Console]":
    """Return the console of a command that measures and continues when standard output cannot be written.

    Raises:
        StorageError: at the end, when something could not be shown.

    """
    # Here and not above: help of every command passes through this module.
    from safescale.cli.terminal.text import terminal

    stream = _Lasting(sys.stdout)
    yield terminal(cast(IO[str], stream))
    stream.flush()
    if stream.error is not None:
        raise StorageError(f"{lost(stream.error)}; everything else was done, and the records have it")
