"""Tables as messages of bounded size, and back to columns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from safescale.core.tables import Column, Table
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

CHUNK_ROWS = 5_000
"""Rows of a message at most."""

CHUNK_BYTES = 1024 * 1024
"""Bytes of a message; only one of a single row can have more."""

Values = list[Any]


def chunks_of(table: Table) -> Iterator[pb.GetRunTablesResponse]:
    """Yield a table as messages, at least one: a table without rows has columns, too."""
    pending = [(begin, min(begin + CHUNK_ROWS, len(table))) for begin in range(0, max(1, len(table)), CHUNK_ROWS)]
    while pending:
        begin, end = pending.pop(0)
        chunk = pb.GetRunTablesResponse(table=table.name, row_count=end - begin)
        for name, column in table.columns.items():
            _add(chunk.columns.add(name=name), column[begin:end])
        if chunk.ByteSize() > CHUNK_BYTES and end - begin > 1:
            middle = (begin + end) // 2
            pending[:0] = [(begin, middle), (middle, end)]
        else:
            yield chunk


def _add(message: pb.TableColumn, column: Column) -> None:
    held = getattr(message, _FIELDS[column.dtype.kind])
    # A column without values has a type, too.
    held.SetInParent()
    values = column.tolist()
    if column.dtype == object:
        held.nulls.extend(row for row, text in enumerate(values) if text is None)
        values = ["" if text is None else text for text in values]
    held.values.extend(values)


_FIELDS = {"f": "doubles", "i": "integers", "b": "flags", "O": "texts"}
_TYPES = {"doubles": np.float64, "integers": np.int64, "flags": np.bool_, "texts": object}


def tables_of(chunks: Iterable[pb.GetRunTablesResponse]) -> dict[str, Table]:
    """Return the tables of messages by name, in the order in which they came."""
    found: dict[str, dict[str, tuple[str, Values]]] = {}
    for chunk in chunks:
        columns = found.setdefault(chunk.table, {})
        for column in chunk.columns:
            kind = column.WhichOneof("values") or "texts"
            columns.setdefault(column.name, (kind, []))[1].extend(_values(column, kind))
    return {
        name: Table(name, {column: _array(kind, values) for column, (kind, values) in columns.items()})
        for name, columns in found.items()
    }


def _values(column: pb.TableColumn, kind: str) -> Sequence[Any]:
    values = getattr(column, kind).values
    if kind != "texts" or not column.texts.nulls:
        return values  # type: ignore[no-any-return]
    texts = list(values)
    for row in column.texts.nulls:
        texts[row] = None
    return texts


def _array(kind: str, values: Values) -> Column:
    column: Column = np.empty(len(values), dtype=_TYPES[kind])
    column[:] = values
    return column
