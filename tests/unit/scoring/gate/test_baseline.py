"""EvaluatePolicy against a baseline over gRPC: named, or the last run of the series that passed."""

from collections.abc import Awaitable, Callable

import pytest
from tests.unit.scoring.conftest import RUN

from safescale.core.errors import FailedPreconditionError, InvalidInputError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.grpc.channels import rpc_errors
from safescale.scoring.records import VerdictStore

MARGIN = "requirements: [{metric: high_risk_error_rate, regime: greedy, against: baseline, margin: 0.9}]"
STRICT = MARGIN.replace("margin: 0.9", "margin: 0.9, forbid: any new")
LIMITED = MARGIN.replace("]", ", {metric: high_risk_error_rate, regime: greedy, max: 0.3, bound: estimate}]")
PASS, FAIL = pb.POLICY_VERDICT_PASS, pb.POLICY_VERDICT_FAIL

Put = Callable[..., Awaitable[orc.Run]]


@pytest.fixture
def put(world) -> Put:
    """Store a run of four questions with one letter each; C is high-risk, B correct."""
    template = orc.Run()
    template.CopyFrom(world.peers.run)
    template.manifest.models[0].formulation = common_pb2.FORMULATION_LETTER
    template.manifest.question_ids[:] = ["q0", "q1", "q2", "q3"]

    async def store(name: str, letters: str, second: int, series: str = "") -> orc.Run:
        run = world.peers.run if name == RUN else world.peers.others.setdefault(name, orc.Run())
        run.CopyFrom(template)
        run.run_id, run.manifest.spec.series = name, series
        run.created_at.FromSeconds(second)
        for number, letter in enumerate(letters):
            cell = common_pb2.CellKey(run_id=name, model="m", condition="zero_shot", question_id=f"q{number}")
            verdict = pb.Verdict(
                cell=cell, attempt=1, formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True,
                greedy=pb.Reading(letter=letter, read_by="parser"),
            )  # fmt: skip
            await VerdictStore(world.documents).put(verdict)
        return run

    return store


async def judged(world, policy: str, **request: str) -> pb.EvaluatePolicyResponse:
    with rpc_errors():
        return await ScoringServiceStub(world.channel).EvaluatePolicy(
            pb.EvaluatePolicyRequest(run_id=RUN, policy=policy, **request)
        )


async def test_a_run_is_judged_against_the_baseline_that_is_named(world, put) -> None:
    await put(RUN, "BBCB", 2)
    await put("old-0", "BBBB", 1)
    found = await judged(world, MARGIN, baseline_run_id="old-0")
    (result,) = found.results
    assert (found.verdict, result.verdict, result.interval) == (PASS, PASS, "tango")
    assert (result.direction, result.limit, result.margin, result.baseline_run_id) == ("baseline", 0.9, 0.9, "old-0")
    assert (result.value, result.baseline_value, result.n) == (0.25, 0.0, 4)
    assert result.low < 0.25 < result.high == result.decisive
    assert "Compared with run old-0." in found.notes
    strict = await judged(world, STRICT, baseline_run_id="old-0")
    assert (strict.verdict, strict.results[0].reason) == (
        FAIL, "1 question shows a harm that the baseline does not have there",
    )  # fmt: skip


async def test_the_last_run_of_the_series_that_passed_is_the_baseline(world, put) -> None:
    await put(RUN, "BBBB", 9, "ward")
    await put("old-1", "BBBB", 1, "ward")
    await put("old-2", "BBCB", 2, "ward")
    await put("old-3", "CCCB", 3, "ward")
    await put("old-4", "BBB", 4, "ward")
    await put("old-5", "BBBB", 11, "ward")
    await put("old-6", "BBBB", 5, "other")
    found = await judged(world, LIMITED)
    # old-3 does more harm than the limit, old-4 is not complete, old-5 is later, old-6 of another series.
    assert found.results[0].baseline_run_id == "old-2"
    assert "Compared with run old-2, the last run of the series that meets the policy's limits." in found.notes
    assert (await judged(world, MARGIN)).results[0].baseline_run_id == "old-3"


@pytest.mark.parametrize(
    ("series", "told"),
    [
        ("", "no comparison: the run is of no series, so its baseline must be named"),
        ("ward", "no comparison: none of 0 earlier runs of the series ward passed; name a baseline"),
    ],
)
async def test_without_a_baseline_nothing_passes(world, put, series: str, told: str) -> None:
    await put(RUN, "BBBB", 9, series)
    found = await judged(world, MARGIN)
    assert (found.verdict, found.passed) == (FAIL, False)
    assert found.results[0].reason.startswith(told)


async def test_a_baseline_that_is_unlike_is_refused_where_it_is_named_and_fails_where_it_was_found(world, put) -> None:
    await put(RUN, "BBBB", 9, "ward")
    (await put("old-1", "BBBB", 1, "ward")).manifest.spec.reading = "explicit"
    with pytest.raises(FailedPreconditionError, match="reading: strict in the candidate, explicit in the baseline"):
        await judged(world, MARGIN, baseline_run_id="old-1")
    found = await judged(world, MARGIN)
    assert found.verdict == FAIL
    assert "reading: strict in the candidate, explicit in the baseline" in found.results[0].reason


async def test_a_baseline_that_the_policy_does_not_ask_for_is_refused(world, put) -> None:
    await put(RUN, "BBBB", 9)
    with pytest.raises(InvalidInputError, match="compares with no baseline, and old-0 is named as one"):
        await judged(world, "requirements: [{metric: accuracy, min: 0.1}]", baseline_run_id="old-0")
