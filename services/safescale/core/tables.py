"""Tables: named columns of equal length, the form of every result. Files and data frames are made of them elsewhere."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]

_DTYPES: dict[type, Any] = {str: object, int: np.int64, float: np.float64, bool: np.bool_}


@dataclass(frozen=True, slots=True)
class Table:
    """A table: `columns` by name, each (n,) of int64, float64, bool, or str as objects. NaN: no such number."""

    name: str
    columns: dict[str, Column]

    def __post_init__(self) -> None:
        if len({len(column) for column in self.columns.values()}) > 1:
            raise ValueError(f"the columns of the table {self.name} differ in length")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict of plain Python values."""
        values = [column.tolist() for column in self.columns.values()]
        for row in zip(*values, strict=True):
            yield dict(zip(self.columns, row, strict=True))


def table_of_rows(name: str, schema: Mapping[str, type], rows: Iterable[Sequence[Any]]) -> Table:
    """Make a table of rows; `schema` gives each column's name and type (str, int, float or bool), in row order."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return Table(
        name,
        {column: _column(values, kind) for (column, kind), values in zip(schema.items(), columns, strict=True)},
    )


def stack_tables(name: str, schema: Mapping[str, type], parts: Iterable[Mapping[str, Any]]) -> Table:
    """Stack blocks of rows, each a mapping from column to an array or to one value for all its rows.

    A block must hold at least one array of length n; single values are repeated n times.
    """
    blocks = [_expand(part, schema) for part in parts]
    return Table(
        name,
        {
            column: np.concatenate([block[column] for block in blocks]) if blocks else _column((), kind)
            for column, kind in schema.items()
        },
    )


def _expand(part: Mapping[str, Any], schema: Mapping[str, type]) -> dict[str, Column]:
    length = next(len(value) for value in part.values() if isinstance(value, np.ndarray))
    expanded = {}
    for column, kind in schema.items():
        value = part[column]
        dtype = _DTYPES[kind]
        if isinstance(value, np.ndarray):
            expanded[column] = value.astype(dtype, copy=False)
        else:
            expanded[column] = np.full(length, value, dtype=dtype)
    return expanded


def _column(values: Sequence[Any], kind: type) -> Column:
    column: Column = np.empty(len(values), dtype=_DTYPES[kind])
    column[:] = values
    return column
