import csv
import io

import pyarrow.parquet as pq
import pytest

from safescale.formats import streaming as exports
from safescale.formats.verdicts import answer_rows, verdict_row
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


def verdict(number: int, *, failed: bool = False) -> pb.Verdict:
    made = pb.Verdict(
        cell=common_pb2.CellKey(run_id="r-1", model="m", condition="zero_shot", question_id=f"q{number}"),
        formulation=common_pb2.FORMULATION_LETTER,
        attempt=1,
        greedy_asked=True,
        samples_asked=1,
    )
    if failed:
        made.failure.CopyFrom(common_pb2.Failure(code="UNAVAILABLE", reason="BACKEND_FAILED", message="gone"))
        return made
    made.greedy.CopyFrom(pb.Reading(letter="A", parsed_letter="A", text='It is "A",\nof course'))
    made.samples.append(pb.Reading(text="ä", seed=7))
    made.greedy_outcome.correct = True
    made.timings.greedy_s = 0.5
    return made


async def stream(verdicts):
    for each in verdicts:
        yield each


@pytest.fixture
def verdicts() -> list[pb.Verdict]:
    # A failed one first: what a column holds is not told by its begin.
    return [verdict(0, failed=True), *(verdict(number) for number in range(1, 500))]


@pytest.mark.parametrize("table", ["verdicts", "answers"])
def test_columns_are_those_of_the_command_line(table: exports.Table) -> None:
    rows = [verdict_row(verdict(1))] if table == "verdicts" else answer_rows(verdict(1))
    assert all(list(row) == list(exports.COLUMNS[table]) for row in rows)


async def test_csv_has_one_header_and_every_row(verdicts) -> None:
    parts = [part async for part in exports.csv_table(stream(verdicts), "answers")]
    assert len(parts) > 1
    rows = list(csv.DictReader(io.StringIO(b"".join(parts).decode(), newline="")))
    expected = [row for each in verdicts for row in answer_rows(each)]
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in expected]


async def test_parquet_is_written_in_groups_while_verdicts_come(verdicts, monkeypatch) -> None:
    monkeypatch.setattr(exports, "GROUP_ROWS", 150)
    parts = [part async for part in exports.parquet_table(stream(verdicts), "verdicts")]
    assert len(parts) > 2
    file = pq.ParquetFile(io.BytesIO(b"".join(parts)))
    assert file.num_row_groups == 4
    assert file.read().to_pylist() == [verdict_row(each) for each in verdicts]


async def test_parquet_of_failures_alone_keeps_its_types() -> None:
    parts = [part async for part in exports.parquet_table(stream([verdict(0, failed=True)]), "answers")]
    found = pq.read_table(io.BytesIO(b"".join(parts)))
    assert (found.num_rows, str(found.schema.field("seed").type)) == (0, "int64")


async def test_jsonl_has_a_whole_verdict_a_line(verdicts) -> None:
    text = b"".join([part async for part in exports.jsonl(stream(verdicts))]).decode()
    assert len(text.splitlines()) == 500
    assert '"reason":"BACKEND_FAILED"' in text.splitlines()[0]


async def test_texts_of_csv_are_no_formulas(verdicts) -> None:
    made = verdict(1)
    made.cell.model, made.greedy.text = "=m", "-A\n"
    text = b"".join([part async for part in exports.csv_table(stream([made]), "answers")]).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert (rows[0]["model"], rows[0]["text"], rows[1]["seed"]) == ("'=m", "'-A\n", "7")
