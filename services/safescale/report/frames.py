"""Rows as data frames whose whole numbers stay whole, and data frames as CSV that no spreadsheet takes for formulas."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from safescale.core.tables import Table
from safescale.formats.spreadsheet import guarded


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows of the same columns as a data frame.

    A column of whole numbers of which some are absent holds them as such: as floats a seed would end in `.0`, and a
    long one in other digits.
    """
    names = list(rows[0]) if rows else []
    return pd.DataFrame({name: _column([row[name] for row in rows]) for name in names})


def frame_of_table(table: Table) -> pd.DataFrame:
    """Return a table as a data frame."""
    return pd.DataFrame(table.columns)


def _column(values: list[Any]) -> Any:
    held = [value for value in values if value is not None]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in held)
    return pd.array(values, dtype="Int64") if held and whole and len(held) < len(values) else values


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """Return a data frame as CSV in UTF-8: texts guarded as in `formats.spreadsheet`, numbers as they are."""
    texts = {
        name: column.map(lambda value: guarded(value) if isinstance(value, str) else value)
        for name, column in frame.items()
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))
    }
    text: str = frame.assign(**{str(name): column for name, column in texts.items()}).to_csv(index=False)
    return text.encode()
