"""The tables `verdicts` and `answers` that `safescale export` writes, read back; csv or parquet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from safescale.core.errors import Defect, InvalidInputError, StorageError
from safescale.core.inputs.records import shown
from safescale.core.inputs.text import visible_line
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.answers.answer_cells import NULL_MARK, UNREAD_MARK, AnswerCells
from safescale.core.safety.answers.judge import JUDGE_FAILED
from safescale.core.safety.answers.reading import READINGS, STRICT
from safescale.core.safety.benchmark.benchmark import LETTERS
from safescale.formats.answer_notes import UnreadCounts
from safescale.formats.judged import COUNT, DEFECTS_AT_MOST, LONGEST_CALL_S, MOST_SAMPLES, Truth
from safescale.formats.spreadsheet import unguarded

_VERDICTS = (
    "model", "condition", "question_id", "formulation", "greedy_letter", "greedy_correct", "samples_asked", "greedy_s",
    "failure_reason",
)  # fmt: skip
_KINDS = frozenset(("greedy", "sample"))
_FORMULATIONS = frozenset(("letter", "cloze"))
_TEXTS = ("model", "condition", "question_id", "formulation", "greedy_letter", "failure_reason", "kind", "letter",
    "greedy_read_by", "read_by", "review_reason", "reading",
)  # fmt: skip
_GUARDED = ("model", "condition", "question_id")
_OPTIONAL = ("unread_answers", "greedy_read_by", "read_by", "review_reason", "reading")
"""Columns that exports of versions 0.1.0 or 0.2.0 lack, or one of the two tables."""

_ANSWERS = ("model", "condition", "question_id", "kind", "sample_index", "letter")


@dataclass(frozen=True, slots=True)
class ExportedTables:
    """The paths of both tables of an export."""

    verdicts: Path
    answers: Path


def exported_tables(folder: Path) -> ExportedTables | None:
    """Return the tables of an export in a folder; None where it has none."""
    for form in ("parquet", "csv"):
        tables = ExportedTables(folder / f"verdicts.{form}", folder / f"answers.{form}")
        if tables.verdicts.is_file() and tables.answers.is_file():
            return tables
    return None


Place = tuple[str, str, str]


def add_exported_tables(tables: ExportedTables, cells: AnswerCells, truths: Mapping[str, Truth]) -> UnreadCounts:
    """Add every cell of the tables; what of them failed or was not read.

    Raises InvalidInputError where a file is damaged, lacks a column or a row, or holds what cannot be; StorageError
    where the disk fails.
    """
    reader = _TableReader(tables, truths)
    samples = reader.samples()
    for number, row in enumerate(_rows(tables.verdicts, _VERDICTS), start=1):
        reader.verdict(number, row, samples, cells)
    reader.leftover(samples)
    if reader.defects:
        raise defects_error(reader.defects)
    return reader.unread


def defects_error(defects: list[Defect]) -> InvalidInputError:
    """Return the error that lists the defects of answer files."""
    more = f" (and {len(defects) - 1} more)" if len(defects) > 1 else ""
    return InvalidInputError(f"{defects[0]}{more}", defects=defects[:DEFECTS_AT_MOST])


class _TableReader:
    """Holds each row to what it must be, and the two tables to each other: rows that a cut file lacks are missed."""

    def __init__(self, tables: ExportedTables, truths: Mapping[str, Truth]) -> None:
        self.defects: list[Defect] = []
        self.unread = UnreadCounts()
        self._tables = tables
        self._truths = truths
        self._seen: set[Place] = set()

    def samples(self) -> dict[Place, dict[int, str]]:
        """Return the letters of the samples of each cell, by index."""
        found: dict[Place, dict[int, str]] = {}
        for number, row in enumerate(_rows(self._tables.answers, _ANSWERS), start=1):
            at = _Row(self._tables.answers, number, row)
            if row["kind"] not in _KINDS:
                self._defect(at, "kind", row["kind"], "greedy or sample")
            place, letter = _place(row), _unless_unread(self._letter(at, "letter"), row, "read_by")
            drawn = found.setdefault(place, {})
            if row["kind"] != "sample":
                continue
            index = _count(row["sample_index"])
            if index is None:
                self._defect(at, "sample_index", row["sample_index"], COUNT)
            elif index in drawn:
                self._defect(at, "sample_index", index, "each sample of a cell once")
            else:
                drawn[index] = letter
        return found

    def verdict(
        self, number: int, row: dict[str, Any], samples: dict[Place, dict[int, str]], cells: AnswerCells
    ) -> None:
        """Add the cell of one row of the verdicts, and remove its samples from `samples`."""
        at, place = _Row(self._tables.verdicts, number, row), _place(row)
        if place in self._seen:
            self._defect(at, "question_id", place[2], "each model, condition and question once")
            return
        self._seen.add(place)
        for name, value in zip(("model", "condition", "question_id"), place, strict=True):
            fault = ("empty", "a name") if not value else name_fault(value)
            if fault is not None:
                self.defects.append(at.defect(name, *fault))
        if row["formulation"] not in _FORMULATIONS:
            self._defect(at, "formulation", row["formulation"], "letter or cloze")
            return
        reading = row.get("reading") or (STRICT if row["formulation"] == "letter" else "")
        if reading and reading not in READINGS:
            self._defect(at, "reading", reading, " or ".join(READINGS))
            return
        cells.formulated(row["formulation"])
        cells.read(reading)
        drawn, asked = samples.pop(place, {}), _count(row["samples_asked"])
        if asked is None:
            self._defect(at, "samples_asked", row["samples_asked"], COUNT)
            return
        failed = bool(row["failure_reason"])
        self.unread.cells += failed
        self.unread.answers += _count(row.get("unread_answers")) or 0
        # A judge that failed was asked after the model had answered.
        answered = not failed or row["failure_reason"] == JUDGE_FAILED
        if len(drawn) != asked and (answered or len(drawn) > asked):
            expected = f"as many samples as {self._tables.answers} has of the cell, {len(drawn)}"
            self._defect(at, "samples_asked", asked, expected)
        elif drawn and max(drawn) >= asked:
            self._defect(at, "samples_asked", asked, f"more than the sample_index {max(drawn)} of the cell")
        letters = "".join(drawn.get(index, UNREAD_MARK) for index in range(asked))
        greedy = self._letter(at, "greedy_letter") if row["greedy_correct"] is not None else ""
        greedy = UNREAD_MARK if greedy == NULL_MARK and not answered else _unless_unread(greedy, row, "greedy_read_by")
        seconds = row["greedy_s"]
        if seconds is not None and not (_is_number(seconds) and 0 <= seconds <= LONGEST_CALL_S):
            self._defect(at, "greedy_s", seconds, f"seconds from 0 to {LONGEST_CALL_S:,.0f}")
            seconds = None
        cells.add(place, greedy, letters, seconds if answered else None)

    def leftover(self, samples: Mapping[Place, Any]) -> None:
        """Report answers of cells that the verdicts do not have."""
        for place in samples:
            found = " / ".join(place)
            expected = f"a row of this cell in {self._tables.verdicts}"
            self.defects.append(Defect(str(self._tables.answers), None, None, None, visible_line(found), expected))

    def _letter(self, at: "_Row", field: str) -> str:
        value = at.row[field]
        truth = self._truths.get(str(at.row["question_id"]))
        letters = truth.letters if truth else frozenset(LETTERS)
        if value is None or value == "":
            return NULL_MARK
        if isinstance(value, str) and value in letters:
            return value
        self._defect(at, field, value, f"one of the letters {', '.join(sorted(letters))} alone, or nothing")
        return NULL_MARK

    def _defect(self, at: "_Row", field: str, value: object, expected: str) -> None:
        self.defects.append(at.defect(field, shown(value), expected))


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a table, counted from 1 without the header."""

    path: Path
    number: int
    row: Mapping[str, Any]

    def defect(self, field: str, value: str, expected: str) -> Defect:
        """Return a defect of this row."""
        return Defect(str(self.path), None, f"row {self.number}", field, value, expected)


def _unless_unread(letter: str, row: Mapping[str, Any], reader: str) -> str:
    """Return the letter, or the mark of an answer that nobody could read.

    Where an export does not hold who read it, an answer with a reason for a review counts as such.
    """
    unread = not row[reader] if reader in row else bool(row.get("review_reason"))
    return UNREAD_MARK if letter == NULL_MARK and unread else letter


def _place(row: Mapping[str, Any]) -> Place:
    return str(row["model"] or ""), str(row["condition"] or ""), str(row["question_id"] or "")


def _count(value: object) -> int | None:
    """Return a whole number of at least 0; tables of data frames hold it as a float where others are missing."""
    if not _is_number(value) or not 0 <= value <= MOST_SAMPLES or value != int(value):
        return None
    return int(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
    from_csv = path.suffix == ".csv"
    optional = [column for column in _OPTIONAL if column in table.column_names]
    for row in table.select([*columns, *optional]).to_pylist():
        if from_csv:
            for name in _GUARDED:
                row[name] = unguarded(row[name] or "")
        yield row


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    convert = pyarrow.csv.ConvertOptions(
        column_types={column: pa.string() for column in _TEXTS if column in (*columns, *_OPTIONAL)},
        strings_can_be_null=True,
        null_values=[""],
    )
    # Answers can be texts of several lines.
    return pyarrow.csv.read_csv(
        path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True), convert_options=convert
    )
