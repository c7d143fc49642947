"""The tables `verdicts` and `answers` that `safescale export` writes, read back; csv or parquet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from safescale.core.answer_cells import NULL_MARK, AnswerCells
from safescale.core.errors import InvalidInputError, StorageError

_VERDICTS = (
    "model", "condition", "question_id", "formulation", "greedy_letter", "greedy_correct", "samples_asked", "greedy_s",
    "failure_reason",
)  # fmt: skip
_ANSWERS = ("model", "condition", "question_id", "kind", "sample_index", "letter")


@dataclass(frozen=True, slots=True)
class ExportedTables:
    """The paths of both tables of an export."""

    verdicts: Path
    answers: Path


def exported_tables(folder: Path) -> ExportedTables | None:
    """The tables of an export in a folder; None where it has none."""
    for form in ("parquet", "csv"):
        tables = ExportedTables(folder / f"verdicts.{form}", folder / f"answers.{form}")
        if tables.verdicts.is_file() and tables.answers.is_file():
            return tables
    return None


def add_exported_tables(tables: ExportedTables, cells: AnswerCells) -> None:
    """Add every cell of the tables.

    Raises InvalidInputError where a file is damaged or lacks a column, StorageError where the disk fails.
    """
    samples: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in _rows(tables.answers, _ANSWERS):
        if row["kind"] == "sample":
            drawn = samples.setdefault((row["model"], row["condition"], str(row["question_id"])), {})
            drawn[int(row["sample_index"])] = row["letter"] or NULL_MARK
    for row in _rows(tables.verdicts, _VERDICTS):
        cell = (row["model"], row["condition"], str(row["question_id"]))
        drawn = samples.get(cell, {})
        cells.formulated(row["formulation"])
        letters = "".join(drawn.get(index, NULL_MARK) for index in range(int(row["samples_asked"])))
        asked = row["greedy_correct"] is not None
        seconds = None if row["failure_reason"] else row["greedy_s"]
        cells.add(cell, (row["greedy_letter"] or NULL_MARK) if asked else "", letters, seconds)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    try:
        table = _read(path, columns)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise InvalidInputError(
            f"{path}: {str(error).splitlines()[0]}; expected a file of `safescale export`"
        ) from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise InvalidInputError(
            f"{path}: no column {', '.join(missing)}; expected the columns {', '.join(columns)} of `safescale export`"
        )
    yield from table.select(list(columns)).to_pylist()


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    texts = ("model", "condition", "question_id", "formulation", "greedy_letter", "failure_reason", "kind", "letter")
    convert = pyarrow.csv.ConvertOptions(
        column_types={column: pa.string() for column in texts if column in columns},
        strings_can_be_null=True,
        null_values=[""],
    )
    # Answers can be texts of several lines.
    return pyarrow.csv.read_csv(
        path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True), convert_options=convert
    )
