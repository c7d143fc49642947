"""Tables as messages and back."""

import math

import numpy as np
import pytest

from safescale.core.tables import Table, table_of_rows
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.tables import CHUNK_BYTES, chunks_of, tables_of

SCHEMA = {"name": str, "count": int, "share": float, "flag": bool}


def there_and_back(*tables: Table) -> dict[str, Table]:
    sent = [chunk.SerializeToString() for table in tables for chunk in chunks_of(table)]
    return tables_of(map(pb.GetRunTablesResponse.FromString, sent))


def test_values_types_and_order_are_kept() -> None:
    rows = [("é", 2**40, 0.1, True), (None, -1, math.nan, False), ("", 0, math.inf, True)]
    found = there_and_back(table_of_rows("first", SCHEMA, rows), table_of_rows("second", {"b": int, "a": str}, []))
    assert list(found) == ["first", "second"]
    assert list(found["second"].columns) == ["b", "a"]
    assert list(found["first"].columns) == list(SCHEMA)
    assert [column.dtype for column in found["first"].columns.values()] == [object, np.int64, np.float64, np.bool_]
    back = [tuple(row.values()) for row in found["first"].rows()]
    assert back[0] == rows[0]
    assert back[1][:2] == (None, -1)
    assert math.isnan(back[1][2])
    assert back[2] == rows[2]


def test_a_table_without_rows_has_its_columns_and_their_types() -> None:
    columns = there_and_back(table_of_rows("empty", SCHEMA, []))["empty"].columns
    assert [(name, column.dtype, len(column)) for name, column in columns.items()] == [
        ("name", object, 0), ("count", np.int64, 0), ("share", np.float64, 0), ("flag", np.bool_, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["m", "a name of two hundred characters" * 6])
def test_messages_are_bounded_however_many_cells_a_run_has(text: str) -> None:
    count = 74_800
    rows = [(text, None if row % 7 == 3 else text, row) for row in range(count)]
    table = table_of_rows(
        "answers",
        {"model": str, "question_id": str, "row": int},
        rows,
    )
    chunks = list(chunks_of(table))
    assert len(chunks) > 10
    assert max(chunk.ByteSize() for chunk in chunks) <= CHUNK_BYTES
    assert sum(chunk.row_count for chunk in chunks) == count
    back = tables_of(chunks)["answers"].columns
    assert back["row"].tolist() == list(range(count))
    assert back["question_id"].tolist() == table.columns["question_id"].tolist()


def test_a_row_that_is_larger_than_a_message_goes_alone() -> None:
    texts = ["x" * (CHUNK_BYTES + 1), "y", "z"]
    chunks = list(chunks_of(table_of_rows("t", {"text": str}, [(text,) for text in texts])))
    assert chunks[0].row_count == 1
    assert tables_of(chunks)["t"].columns["text"].tolist() == texts
