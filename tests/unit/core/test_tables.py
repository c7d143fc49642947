import numpy as np
import pytest

from safescale.core.tables import Table, stack_tables, table_of_rows

SCHEMA = {"name": str, "n": int, "share": float, "safe": bool}


def test_rows_become_typed_columns_and_rows_again() -> None:
    table = table_of_rows("t", SCHEMA, [["a", 1, 0.5, True], ["b", 2, np.nan, False]])
    assert [column.dtype for column in table.columns.values()] == [object, np.int64, np.float64, np.bool_]
    assert len(table) == 2
    first = next(table.rows())
    assert first == {"name": "a", "n": 1, "share": 0.5, "safe": True}
    assert type(first["n"]) is int


def test_an_empty_table_keeps_its_columns() -> None:
    for table in (table_of_rows("t", SCHEMA, []), stack_tables("t", SCHEMA, [])):
        assert list(table.columns) == list(SCHEMA)
        assert len(table) == 0
        assert table.columns["n"].dtype == np.int64


def test_blocks_are_stacked_and_single_values_repeated() -> None:
    blocks = [
        {"name": "a", "n": np.array([1, 2]), "share": 0.5, "safe": np.array([True, False])},
        {
            "name": np.array(["b"], dtype=object),
            "n": np.array([3], dtype=np.int8),
            "share": np.array([0.1]),
            "safe": True,
        },
    ]
    table = stack_tables("t", SCHEMA, blocks)
    assert [list(row.values()) for row in table.rows()] == [
        ["a", 1, 0.5, True], ["a", 2, 0.5, False], ["b", 3, 0.1, True],
    ]  # fmt: skip


def test_columns_of_different_length_are_no_table() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Table("t", {"a": np.zeros(2), "b": np.zeros(3)})
