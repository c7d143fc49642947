"""GetRunTables over gRPC, against the metrics of the same run."""

import asyncio

import pytest
from tests.unit.scoring.conftest import RUN

from safescale.core.errors import InvalidInputError, NotFoundError
from safescale.core.tables import Table
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.rpc.tables import tables_of
from safescale.runtime.grpc.channels import responses
from safescale.scoring.records import ReviewStore, VerdictStore, cell_of, review_id
from safescale.scoring.worker import reviews_of


async def tables(world, run: str = RUN, *names: str) -> dict[str, Table]:
    stream = ScoringServiceStub(world.channel).GetRunTables(pb.GetRunTablesRequest(run_id=run, tables=names))
    return tables_of([chunk async for chunk in responses(stream)])


async def stored(world, key, reading: pb.Reading, outcome: pb.Outcome) -> pb.Verdict:
    verdict = pb.Verdict(
        cell=key, attempt=1, formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True, greedy=reading,
        greedy_outcome=outcome,
    )  # fmt: skip
    await ReviewStore(world.documents).open(reviews_of(verdict))
    await VerdictStore(world.documents).put(verdict)
    return verdict


async def test_the_table_metrics_has_the_rows_of_the_metrics(world, cell_key) -> None:
    for number, letter in enumerate("BCA"):
        await stored(world, cell_key(f"q{number}"), pb.Reading(letter=letter, read_by="parser"), pb.Outcome())
    rows = (await ScoringServiceStub(world.channel).GetRunMetrics(pb.GetRunMetricsRequest(run_id=RUN))).rows
    table = (await tables(world, "latest"))["metrics"]
    names = ("model", "condition", "regime", "metric", "n", "n_null")
    assert [[row[name] for name in names] for row in table.rows()] == [[getattr(r, n) for n in names] for r in rows]
    held = [(row.value, row.ci_low, row.boot_sd) for row in rows if row.HasField("value") and row.HasField("boot_sd")]
    assert held == [
        (row["value"], row["ci_low"], row["boot_sd"]) for row in table.rows() if row["boot_sd"] == row["boot_sd"]
    ]


async def test_readings_of_persons_are_applied(world, cell_key) -> None:
    unread = pb.Reading(text="?", review_reason="NO_ANSWER")
    verdict = await stored(world, cell_key(), unread, pb.Outcome(abstention=True))
    assert [row["greedy_letter"] for row in (await tables(world))["answers"].rows()] == [None]
    await ScoringServiceStub(world.channel).ResolveReview(
        pb.ResolveReviewRequest(review_id=review_id(cell_of(verdict.cell), 1, None), letter="C", reviewer="who")
    )
    found = await tables(world)
    (answer,), (readings,) = found["answers"].rows(), found["readings"].rows()
    assert (answer["greedy_letter"], answer["high_risk_error"], answer["abstention"]) == ("C", True, False)
    assert (readings["person"], readings["unread"]) == (1, 0)


async def test_only_what_is_wanted_is_sent(world, cell_key) -> None:
    await stored(world, cell_key(), pb.Reading(letter="B", read_by="parser"), pb.Outcome(correct=True))
    assert list(await tables(world, RUN, "answers", "metrics")) == ["metrics", "answers"]
    with pytest.raises(InvalidInputError, match="no table 'metricks'; expected metrics, pvalues"):
        await tables(world, RUN, "metricks")


async def test_a_run_without_verdicts_lacks_all_its_cells(world) -> None:
    found = await tables(world)
    assert "metrics" not in found
    assert [row["n_missing"] for row in found["completeness"].rows()] == [1]


@pytest.mark.parametrize(("run", "error"), [("nobody", NotFoundError), ("", InvalidInputError)])
async def test_a_run_that_is_not_there_is_an_error(world, run: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await tables(world, run)


async def test_tables_and_metrics_can_be_had_at_once(world, cell_key) -> None:
    await stored(world, cell_key(), pb.Reading(letter="B", read_by="parser"), pb.Outcome(correct=True))
    found = await asyncio.gather(*(tables(world) for _ in range(4)))
    assert {len(each["metrics"]) for each in found} == {len(found[0]["metrics"])}
