"""Tables on terminals that are too narrow for them: row by row, so that nothing is cut."""

import re
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

MANY = 100_000
"""More columns than any table needs."""

EDGES = 2
"""Columns of a table's edges, which are blank in ours."""


def fitting(table: Table, console: Console) -> RenderableType:
    """Return the table, or its rows one below the other where the console is too narrow for its longest words."""
    needed = _needed(table, console)
    if console.width < needed <= console.width + EDGES:
        table.show_edge = False
        needed -= EDGES
    return table if needed <= console.width else Group(*_blocks(table))


def _needed(table: Table, console: Console) -> int:
    """Columns in which no word is broken, and no text of a column that does not wrap."""
    wide = console.options.update(width=MANY)
    needed = Measurement.get(console, wide, table).minimum
    for column in table.columns:
        if column.no_wrap:
            sizes = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
            needed += max(size.maximum for size in sizes) - max(size.minimum for size in sizes)
    return needed


def _blocks(table: Table) -> Iterator[Text]:
    if table.title:
        yield _text(table.title)
    headings = [_line(column.header) for column in table.columns]
    section = ""
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *rest = map(_line, cells)
        indented = _text(cells[0]).plain.startswith(" ")
        if not indented:
            section = first
        if not any(rest):
            continue
        # A row that is indented belongs to the one above it.
        yield Text(f"{section} / {first}" if indented and section else first, "bold", no_wrap=True, overflow="ignore")
        for heading, value in zip(headings[1:], rest, strict=True):
            if value:
                yield Text(f"  {heading}: {value}" if heading else f"  {value}")
    if table.caption:
        yield _text(table.caption)


def _text(cell: RenderableType) -> Text:
    return cell.copy() if isinstance(cell, Text) else Text(str(cell))


def _line(cell: RenderableType) -> str:
    """Return a cell as one line; words broken by a heading are rejoined, and only "high-risk" keeps its hyphen."""
    return " ".join(re.sub(r"(?<!high)-\n", "", _text(cell).plain).replace("-\n", "-").split())
