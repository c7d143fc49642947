"""The tables of a run as scoring makes them of its verdicts."""

from collections.abc import Iterable

from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.tables import Table
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.rpc.tables import chunks_of
from safescale.scoring.clients import RunTruth
from safescale.scoring.kinds.port import MeasuredRun
from safescale.scoring.kinds.safety_tables import NAMES, safety_tables, scored_cell


def run_tables(
    run: orchestration_pb2.Run,
    benchmark: Benchmark,
    verdicts: Iterable[scoring_pb2.Verdict],
    wanted: Iterable[str] = NAMES,
) -> dict[str, Table]:
    truth = RunTruth(run.manifest, benchmark, {question.question_id: question for question in benchmark.questions})
    cells = [scored_cell(verdict) for verdict in verdicts]
    return {table.name: table for table in safety_tables(MeasuredRun(run, truth), cells, NAMES)}


def sent_tables(
    run: orchestration_pb2.Run, benchmark: Benchmark, verdicts: Iterable[scoring_pb2.Verdict]
) -> list[scoring_pb2.GetRunTablesResponse]:
    """The same as messages."""
    return [chunk for table in run_tables(run, benchmark, verdicts).values() for chunk in chunks_of(table)]
