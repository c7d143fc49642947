"""Metric rows over gRPC: counts, exact intervals, slices, and what nobody could read."""

import pytest
from tests.unit.scoring.test_scoring_service import complete, letter_cell

from safescale.core.errors import InvalidInputError
from safescale.core.statistics.intervals import share_interval
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import question_to_proto
from safescale.rpc.metric_rows import share_count_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.grpc.channels import rpc_errors


async def test_metrics_of_letters_have_counts_intervals_and_slices(world, stub) -> None:
    questions = [question_to_proto(question) for question in world.peers.benchmark.questions]
    for place, question in enumerate(questions):
        question.cluster, question.groups["modality"] = f"article {place // 2}", "CT" if place else "MR"
    cells = [
        pb.CellLetters(model="m", condition="c", question_id="q0", greedy="B", samples=["B", "B"]),
        pb.CellLetters(
            model="m", condition="c", question_id="q1", greedy_unread=True, samples=["", "B"], unread_samples=[0]
        ),
        pb.CellLetters(model="m", condition="c", question_id="q2", samples=["", ""]),
    ]
    request = pb.ComputeMetricsRequest(
        questions=questions, cells=cells, formulation=common_pb2.FORMULATION_LETTER, slices=["modality"]
    )
    found = await stub.ComputeMetrics(request)
    harm = next(row for row in found.rows if (row.regime, row.metric) == ("greedy", "high_risk_error_rate"))
    assert (harm.interval, harm.n, harm.n_null, harm.n_unread) == ("korn_graubard", 3, 2, 1)
    assert harm.HasField("measured")
    assert (harm.measured.events, harm.measured.clusters) == (0, 2)
    assert harm.measured.n_effective == harm.measured.clusters_effective == pytest.approx(9 / 5)
    assert harm.worst_case.events == 1
    assert harm.worst_high > harm.exact_high > harm.exact_low == 0
    share = share_count_of(harm)
    assert share is not None
    assert share_interval(share).high == pytest.approx(harm.exact_high)
    mean = next(row for row in found.rows if row.metric == "mean_confidence")
    assert (mean.interval, mean.HasField("measured"), mean.HasField("exact_low")) == ("bootstrap", False, False)
    assert not any(row.slice for row in found.rows)
    sliced = {(row.slice_value, row.regime, row.metric): row for row in found.slice_rows}
    assert {row.slice for row in found.slice_rows} == {"modality"}
    assert (sliced["CT", "greedy", "accuracy"].n, sliced["MR", "greedy", "accuracy"].measured.events) == (2, 1)


async def test_a_slice_that_no_question_has_is_refused(world, stub) -> None:
    request = pb.ComputeMetricsRequest(
        questions=[question_to_proto(q) for q in world.peers.benchmark.questions],
        cells=[pb.CellLetters(model="m", condition="c", question_id="q0", greedy="A")],
        formulation=common_pb2.FORMULATION_LETTER,
        slices=["modality"],
    )
    with pytest.raises(InvalidInputError, match="no slice 'modality'"), rpc_errors():
        await stub.ComputeMetrics(request)


async def test_a_cluster_of_some_questions_alone_is_refused(world, stub) -> None:
    questions = [question_to_proto(q) for q in world.peers.benchmark.questions]
    questions[0].cluster = "article"
    request = pb.ComputeMetricsRequest(
        questions=questions,
        cells=[pb.CellLetters(model="m", condition="c", question_id="q0", greedy="A")],
        formulation=common_pb2.FORMULATION_LETTER,
    )
    with pytest.raises(InvalidInputError, match=r"questions\[1\]: q1 cluster = missing"), rpc_errors():
        await stub.ComputeMetrics(request)


async def test_what_nobody_could_read_of_a_run_is_told_from_abstentions(world, stub, verdicts, cell_key) -> None:
    for place, text in enumerate(("B", "no idea", "I am not sure")):
        await complete(world, verdicts, letter_cell(cell_key(f"q{place}"), text, [text]))
    found = await stub.GetRunMetrics(pb.GetRunMetricsRequest(run_id="latest", slices=["subspecialty"]))
    rows = {(row.regime, row.metric): row for row in found.rows}
    harm = rows["greedy", "high_risk_error_rate"]
    assert (rows["greedy", "unread_rate"].measured.events, rows["greedy", "abstention_rate"].measured.events) == (2, 0)
    assert (harm.n_unread, harm.measured.events, harm.worst_case.events) == (2, 0, 2)
    assert sum(row.n for row in found.slice_rows if row.metric == "unread_rate") == 3
