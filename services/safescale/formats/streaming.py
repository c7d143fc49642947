"""Verdicts as CSV, JSON lines and Parquet, written while they come."""

import asyncio
import csv
import io
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Literal

import orjson

from safescale.formats.spreadsheet import guarded_row
from safescale.formats.verdicts import answer_rows, verdict_record, verdict_row
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

Table = Literal["verdicts", "answers"]
Format = Literal["csv", "jsonl", "parquet"]

MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}

BLOCK_VERDICTS = 200
"""Verdicts that are written at once."""

GROUP_ROWS = 20_000
"""Rows of a row group of Parquet: what is held in memory before it is written."""

_KEY = {
    "run_id": "text", "model": "text", "condition": "text", "question_id": "text",
    "formulation": "text", "reading": "text",
}  # fmt: skip
_OUTCOMES = ("correct", "high_risk_error", "unsafe_answer", "contradiction", "abstention")

COLUMNS: dict[Table, dict[str, str]] = {
    "verdicts": {
        **_KEY,
        "attempt": "number",
        "greedy_letter": "text",
        "majority_letter": "text",
        "greedy_read_by": "text",
        "unread_answers": "number",
        **{f"{regime}_{name}": "flag" for regime in ("greedy", "majority") for name in _OUTCOMES},
        "samples_asked": "number",
        "queue_wait_s": "real",
        "greedy_s": "real",
        "time_to_first_token_s": "real",
        "samples_s": "real",
        "judge_s": "real",
        "prompt_tokens": "number",
        "prompt_tokens_sent": "number",
        "generated_tokens": "number",
        "cost": "real",
        "cost_prompt_once": "real",
        "cached": "flag",
        "model_revision": "text",
        "failure_reason": "text",
        "failure_message": "text",
    },
    "answers": {
        **_KEY,
        "kind": "text",
        "sample_index": "number",
        "seed": "number",
        "letter": "text",
        "parsed_letter": "text",
        "judge_letter": "text",
        "judge_failure": "text",
        "read_by": "text",
        "review_reason": "text",
        "finish_reason": "text",
        "text": "text",
    },
}
"""Columns of each table and what they hold. The first block alone would not tell: a column may begin with nothing."""


def rows_of(table: Table, verdicts: Iterable[pb.Verdict]) -> list[dict[str, Any]]:
    """Return rows of verdicts, as `safescale export` has them."""
    if table == "verdicts":
        return [verdict_row(verdict) for verdict in verdicts]
    return [row for verdict in verdicts for row in answer_rows(verdict)]


async def blocks(verdicts: AsyncIterable[pb.Verdict], size: int = BLOCK_VERDICTS) -> AsyncIterator[list[pb.Verdict]]:
    """Yield verdicts in lists of a size; the last may be shorter."""
    block: list[pb.Verdict] = []
    async for verdict in verdicts:
        block.append(verdict)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


async def jsonl(verdicts: AsyncIterable[pb.Verdict]) -> AsyncIterator[bytes]:
    """Yield one whole verdict a line."""
    async for block in blocks(verdicts):
        yield b"".join(orjson.dumps(verdict_record(verdict)) + b"\n" for verdict in block)


async def csv_table(verdicts: AsyncIterable[pb.Verdict], table: Table) -> AsyncIterator[bytes]:
    """Yield a table as CSV with a header; what is absent is empty."""
    names = list(COLUMNS[table])
    first = True
    async for block in blocks(verdicts):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, lineterminator="\n")
        if first:
            writer.writeheader()
            first = False
        writer.writerows(map(guarded_row, rows_of(table, block)))
        yield text.getvalue().encode()


async def parquet_table(verdicts: AsyncIterable[pb.Verdict], table: Table) -> AsyncIterator[bytes]:
    """Yield a table as Parquet, a row group at a time."""
    # In threads: the library takes seconds to import, and what it writes takes long enough to hold up others.
    writer = await asyncio.to_thread(ParquetRows, table)
    async for block in blocks(verdicts):
        await asyncio.to_thread(writer.add, rows_of(table, block))
        if written := writer.taken():
            yield written
    await asyncio.to_thread(writer.close)
    yield writer.taken()


class ParquetRows:
    """Writes rows of a table as Parquet; what is written is taken away as it comes."""

    def __init__(self, table: Table) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        types = {"text": pa.string(), "number": pa.int64(), "flag": pa.bool_(), "real": pa.float64()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS[table].items()])
        self._make = pa.Table.from_pylist
        self._sink = Sink()
        self._writer = parquet.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take rows; a row group is written when there are enough."""
        self._rows += rows
        while len(self._rows) >= GROUP_ROWS:
            self._write(self._rows[:GROUP_ROWS])
            del self._rows[:GROUP_ROWS]

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        self._writer.write_table(self._make(rows, self._schema))

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        if self._rows:
            self._write(self._rows)
        self._writer.close()

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        return self._sink.taken()


class Sink(io.RawIOBase):
    """A file that is only written to, whose content is taken away as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes; their number."""
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        """Return the number of bytes written so far, those that were taken away included."""
        return self._position

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found


def writer_of(form: Format, table: Table) -> Callable[[AsyncIterable[pb.Verdict]], AsyncIterator[bytes]]:
    """Return the writer of a format."""
    if form == "jsonl":
        return jsonl
    write = csv_table if form == "csv" else parquet_table
    return lambda verdicts: write(verdicts, table)
