"""Text from elsewhere, for a terminal."""

import errno
import os
from collections.abc import Iterator
from typing import IO, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from safescale.cli.terminal.narrow import fitting
from safescale.core.inputs.text import visible, visible_line

LEAST_WIDTH = 20


def printable(text: str) -> str:
    """Text for one line of a terminal: what no reader can see, or could steer the terminal, is escaped."""
    return visible_line(text)


def say(text: object, *, err: bool = False) -> None:
    """Print a line or several, as `visible` shows them."""
    typer.echo(visible(str(text)), err=err)


def terminal(file: IO[str] | None = None) -> Console:
    """Return a console of standard output that shows every text as `visible` does, that of tables and live views too.

    A text is what it is: brackets are no markup, and words between colons no emoji. Lines are not broken, so that an id
    or a path can be copied; a table that is wider than the terminal is shown row by row, and nothing is cut.
    """
    made = _Console(file=file, markup=False, emoji=False, highlight=False)
    made.width = max(made.width, LEAST_WIDTH)
    return made


class _Console(Console):
    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        texts = bool(objects) and all(isinstance(each, str | Text) for each in objects)
        shown = [fitting(each, self) if isinstance(each, Table) else each for each in objects]
        super().print(*shown, soft_wrap=texts if soft_wrap is None else soft_wrap, **{"crop": False, **options})

    def on_broken_pipe(self) -> None:
        """Leave it to who runs the command: rich itself would end the process without a word."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render as rich does, which lets escape sequences through; live views and cells of tables come by here too."""
        if isinstance(renderable, Text) and visible(renderable.plain) != renderable.plain:
            # Longer now than its column is wide: on more lines, so that nothing of it is cut.
            renderable = Text(visible(renderable.plain), renderable.style, overflow="fold", no_wrap=False)
        for segment in super().render(renderable, options):
            # Control segments are rich's own; the texts are what came from elsewhere.
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def render_str(self, text: str, **options: Any) -> Text:
        # Before rich looks at it, which drops some of these characters without a trace.
        return super().render_str(visible(text), **options)
