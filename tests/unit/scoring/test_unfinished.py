"""Gates and metrics of runs that are not whole, over the scoring service."""

import asyncio

import pytest
from tests.unit.scoring.conftest import RUN

from safescale.core.errors import LimitExceededError, SpecError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.grpc.channels import rpc_errors
from safescale.scoring.records import ReviewStore, VerdictStore, cell_of, record_key, review_id

POLICY = "name: p\nrequirements:\n  - {metric: high_risk_error_rate, regime: greedy, max: 1, bound: estimate}\n"
QUESTIONS = ("q0", "q1", "q2", "q3")


class Runs:
    """A run of two models under two conditions, and its verdicts in the store."""

    def __init__(self, world) -> None:
        self.documents = world.documents
        self.verdicts, self.reviews = VerdictStore(world.documents), ReviewStore(world.documents)
        self.stub = ScoringServiceStub(world.channel)
        self.run = world.peers.run
        manifest = self.run.manifest
        manifest.spec.models[:] = ["a", "b"]
        manifest.spec.conditions[:] = ["zero_shot", "top_1"]
        manifest.question_ids[:] = QUESTIONS
        del manifest.models[:]
        manifest.models.extend(orc.ManifestModel(id=name) for name in ("a", "b"))

    @property
    def cells(self) -> list[tuple[str, str, str]]:
        return [(m, c, q) for m in ("a", "b") for c in ("zero_shot", "top_1") for q in QUESTIONS]

    async def answer(self, cell: tuple[str, str, str], letter: str = "B", **more) -> pb.Verdict:
        verdict = pb.Verdict(
            cell=common_pb2.CellKey(run_id=RUN, model=cell[0], condition=cell[1], question_id=cell[2]),
            attempt=1, formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True,
            **{"greedy": pb.Reading(letter=letter, read_by="parser")} | more,
        )  # fmt: skip
        assert await self.verdicts.put(verdict)
        return verdict

    async def as_of_an_older_version(self, verdict: pb.Verdict) -> None:
        """Leave out of a verdict's document what version 0.1.0 did not write."""
        key = record_key(cell_of(verdict.cell), verdict.attempt)
        stored = await self.documents.get("verdict", key)
        newer = ("greedy_by", "samples_by", "cached", "warnings")
        body = {name: value for name, value in stored.body.items() if name not in newer}
        await self.documents.put(NewDocument("verdict", key, body, RUN))

    async def answer_all(self, but=lambda cell: False) -> None:
        for cell in self.cells:
            if not but(cell):
                await self.answer(cell)

    async def gate(self, policy: str = POLICY) -> pb.EvaluatePolicyResponse:
        return await self.stub.EvaluatePolicy(pb.EvaluatePolicyRequest(run_id="latest", policy=policy))

    async def metrics(self) -> pb.GetRunMetricsResponse:
        return await self.stub.GetRunMetrics(pb.GetRunMetricsRequest(run_id=RUN))

    async def obstacles(self) -> dict[str, tuple[float, str]]:
        judged = await self.gate()
        assert not judged.passed
        return {
            each.metric: (each.value, each.reason) for each in judged.results if each.metric != "high_risk_error_rate"
        }


@pytest.fixture
def runs(world) -> Runs:
    return Runs(world)


async def test_a_whole_run_passes_and_says_that_it_is_whole(runs: Runs) -> None:
    await runs.answer_all()
    judged = await runs.gate()
    assert judged.passed
    assert len(judged.results) == 4
    metrics = await runs.metrics()
    assert (metrics.planned_count, metrics.verdict_count, metrics.skipped_count) == (16, 16, 0)
    assert metrics.complete
    assert not metrics.missing


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLED", "FAILED"])
async def test_a_run_that_did_not_complete_passes_no_policy(runs: Runs, state: str) -> None:
    await runs.answer_all()
    runs.run.state = orc.RunState.Value(f"RUN_STATE_{state}")
    assert await runs.obstacles() == {"unfinished_cells": (0, f"The run is {state.lower()}, not completed.")}
    assert not (await runs.metrics()).complete


async def test_the_state_of_a_run_is_never_an_old_one(runs: Runs) -> None:
    await runs.answer_all()
    runs.run.state = orc.RUN_STATE_RUNNING
    assert not (await runs.gate()).passed
    runs.run.state = orc.RUN_STATE_COMPLETED
    assert (await runs.gate()).passed


async def test_cells_that_are_missing_of_a_completed_run_keep_it_from_passing(runs: Runs) -> None:
    await runs.answer_all(but=lambda cell: cell == ("b", "top_1", "q2"))
    count, reason = (await runs.obstacles())["unfinished_cells"]
    assert (count, reason) == (1, "b under top_1: 1 of 4 questions have no verdict: q2.")
    assert list((await runs.metrics()).missing) == [reason]


async def test_a_model_of_the_manifest_without_any_verdict_fails_each_requirement(runs: Runs) -> None:
    await runs.answer_all(but=lambda cell: cell[0] == "b")
    judged = await runs.gate()
    assert [(each.model, each.condition) for each in judged.results if not each.passed] == [
        ("b", "zero_shot"), ("b", "top_1"), ("", ""),
    ]  # fmt: skip
    assert judged.results[-1].reason == "The model b has no verdict."


async def test_a_run_without_any_verdict_or_cell_passes_nothing(runs: Runs) -> None:
    judged = await runs.gate()
    assert not any(each.passed for each in judged.results)
    del runs.run.manifest.question_ids[:]
    assert "The run has no cells" in (await runs.obstacles())["unfinished_cells"][1]


async def test_skips_fill_the_plan_and_a_requirement_on_what_was_skipped_fails(runs: Runs) -> None:
    runs.run.skips.append(orc.Skip(model="b", condition="top_1", reason="it does not fit"))
    runs.run.skips.append(orc.Skip(model="a", condition="top_1", question_id="q3", reason="no context"))
    await runs.answer_all(but=lambda cell: cell[:2] == ("b", "top_1") or cell == ("a", "top_1", "q3"))
    metrics = await runs.metrics()
    assert (metrics.planned_count, metrics.verdict_count, metrics.skipped_count) == (16, 11, 5)
    assert metrics.complete
    judged = await runs.gate()
    assert [(each.model, each.condition, each.reason) for each in judged.results if not each.passed] == [
        ("b", "top_1", "no measurement: top_1 was skipped for b: it does not fit")
    ]
    assert (await runs.gate(POLICY.replace("regime: greedy", "regime: greedy, condition: zero_shot"))).passed


async def test_a_run_all_of_which_was_skipped_passes_nothing(runs: Runs) -> None:
    for model, condition, _ in runs.cells:
        runs.run.skips.append(orc.Skip(model=model, condition=condition, reason="too long"))
    assert (await runs.metrics()).complete
    judged = await runs.gate()
    assert not judged.passed
    assert [each.passed for each in judged.results] == [False] * 4


async def test_verdicts_of_cells_that_the_run_does_not_have_fill_nothing(runs: Runs) -> None:
    await runs.answer_all(but=lambda cell: cell == ("a", "zero_shot", "q0"))
    await runs.answer(("c", "zero_shot", "q0"))
    await runs.answer(("a", "zero_shot", "q77"))
    metrics = await runs.metrics()
    assert not metrics.complete
    assert metrics.missing[1].startswith("There are 2 cells with a verdict that the run does not have")
    # A question without a truth cannot be measured; the others are.
    assert {row.n for row in metrics.rows if (row.model, row.condition) == ("a", "zero_shot")} == {3}
    assert set(await runs.obstacles()) == {"unfinished_cells"}


async def test_questions_that_the_benchmark_lacks_are_told(runs: Runs) -> None:
    await runs.answer_all()
    runs.run.manifest.question_ids.append("q77")
    assert "1 questions of the run are not in its benchmark: q77." in (await runs.metrics()).missing


async def test_failed_cells_and_cells_that_the_judge_failed_to_read_block(runs: Runs) -> None:
    bad = {("a", "top_1", "q0"): "BACKEND_UNAVAILABLE", ("b", "top_1", "q1"): "JUDGE_FAILED"}
    await runs.answer_all(but=lambda cell: cell in bad)
    for cell, reason in bad.items():
        await runs.answer(cell, failure=common_pb2.Failure(reason=reason))
    found = await runs.obstacles()
    assert {name: count for name, (count, _) in found.items()} == {"failed_cells": 1, "judge_failed_cells": 1}
    assert "the judge failed to read" in found["judge_failed_cells"][1]
    assert (await runs.metrics()).failed_count == 2


async def test_a_judge_that_failed_in_a_run_of_an_older_version_blocks_until_a_person_has_read(runs: Runs) -> None:
    cell = ("a", "top_1", "q0")
    await runs.answer_all(but=lambda one: one == cell)
    verdict = await runs.answer(cell, greedy=pb.Reading(review_reason="JUDGE_FAILED", text="hard to say"))
    await runs.as_of_an_older_version(verdict)
    review = pb.Review(
        review_id=review_id(cell_of(verdict.cell), 1, None), cell=verdict.cell, attempt=1, reason="JUDGE_FAILED"
    )
    await runs.reviews.open([review])
    assert set(await runs.obstacles()) == {"judge_failed_cells"}
    await runs.reviews.resolve(pb.ResolveReviewRequest(review_id=review.review_id, reviewer="dr", letter="B"))
    assert (await runs.gate()).passed


async def test_what_came_from_the_cache_and_what_was_odd_are_counted(runs: Runs) -> None:
    await runs.answer_all(but=lambda cell: cell[0] == "a")
    for cell in runs.cells[:8]:
        await runs.answer(cell, cached=cell[1] == "top_1", warnings=["PROMPT_MAYBE_CUT"] if cell[2] == "q0" else [])
    metrics = await runs.metrics()
    assert (metrics.cached_count, dict(metrics.warnings)) == (4, {"PROMPT_MAYBE_CUT": 2})


async def test_documents_that_do_not_tell_whether_they_came_from_the_cache_are_opened(runs: Runs) -> None:
    await runs.answer_all(but=lambda cell: cell[0] == "a")
    for cell in runs.cells[:8]:
        await runs.as_of_an_older_version(await runs.answer(cell, cached=cell[2] == "q1"))
    metrics = await runs.metrics()
    assert (metrics.cached_count, dict(metrics.warnings), metrics.complete) == (2, {}, True)


@pytest.mark.parametrize("policy", ["{}", "requirements: []", "requirements:", "name: p\n"])
async def test_an_empty_policy_is_refused(runs: Runs, policy: str) -> None:
    await runs.answer_all()
    with pytest.raises(SpecError, match=r"requirements|mapping"), rpc_errors():
        await runs.gate(policy)


async def test_a_policy_is_read_beside_the_event_loop(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    from safescale.scoring.gate import calls, policy_text

    loops: list[bool] = []

    def watched(text: str):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            loops.append(False)
        else:
            loops.append(True)
        return policy_text.read_policy(text)

    monkeypatch.setattr(calls, "read_policy", watched)
    await runs.answer_all()
    assert (await runs.gate()).passed
    assert loops == [False]
    with pytest.raises(LimitExceededError, match="1,048,577 bytes"), rpc_errors():
        await runs.gate("#" * (1024 * 1024 + 1))
