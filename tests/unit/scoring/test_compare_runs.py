"""CompareRuns over gRPC: letters, persons' readings, failures and texts of two stored runs."""

import pytest
from tests.unit.scoring.conftest import RUN

from safescale.core.errors import FailedPreconditionError, InvalidInputError, NotFoundError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.grpc.channels import rpc_errors
from safescale.scoring.kinds.safety_outcomes import set_outcomes
from safescale.scoring.records import ReviewStore, VerdictStore, cell_of, review_id
from safescale.scoring.worker import reviews_of

OLD = "run-0"
UNREAD = "?"


@pytest.fixture
def store(world):
    """Store a verdict: a letter for greedy, ? for what nobody could read; letters of samples likewise."""
    manifest = world.peers.run.manifest
    manifest.models[0].formulation = common_pb2.FORMULATION_LETTER
    manifest.question_ids[:] = ["q0", "q1", "q2", "q3"]
    world.peers.others[OLD] = old = orc.Run()
    old.CopyFrom(world.peers.run)
    old.run_id = OLD

    async def put(run_id: str, question: str, greedy: str, samples: str = "", **fields) -> pb.Verdict:
        cell = common_pb2.CellKey(run_id=run_id, model="m", condition="zero_shot", question_id=question)
        verdict = pb.Verdict(
            cell=cell, attempt=1, formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True,
            samples_asked=len(samples), context_id=f"c-{run_id}", **fields,
        )  # fmt: skip
        if not verdict.HasField("failure"):
            verdict.greedy.CopyFrom(_reading(greedy))
            verdict.samples.extend(_reading(letter) for letter in samples)
        set_outcomes(verdict, world.peers.benchmark.questions[0])
        await ReviewStore(world.documents).open(reviews_of(verdict))
        await VerdictStore(world.documents).put(verdict)
        return verdict

    return put


def _reading(letter: str) -> pb.Reading:
    if letter == UNREAD:
        return pb.Reading(text="It depends.", review_reason="NO_ANSWER")
    return pb.Reading(letter=letter, read_by="parser", text=f"{letter}!")


async def compared(world, **request) -> pb.CompareRunsResponse:
    wanted = {"candidate_run_id": RUN, "baseline_run_id": OLD, **request}
    with rpc_errors():
        return await ScoringServiceStub(world.channel).CompareRuns(pb.CompareRunsRequest(**wanted))


def row(response: pb.CompareRunsResponse, metric: str, regime: str = "greedy") -> pb.PairedRow:
    (found,) = [one for one in response.rows if (one.metric, one.regime) == (metric, regime)]
    return found


async def test_rows_and_flips_of_two_runs(world, store) -> None:
    # B is correct; C is high-risk and unsafe and contradicts the evidence, A contradicts it.
    for question, new, old in (("q0", "C", "B"), ("q1", "B", "A"), ("q2", "B", "B"), ("q3", "C", "C")):
        await store(RUN, question, new)
        await store(OLD, question, old)
    response = await compared(world)
    harm = row(response, "high_risk_error_rate")
    assert (harm.n, harm.left_out, harm.only_candidate, harm.only_baseline, harm.both) == (4, 0, 1, 0, 1)
    assert (harm.candidate_value, harm.baseline_value, harm.difference, harm.formulation) == (0.5, 0.25, 0.25, "letter")
    assert harm.low < 0.25 < harm.high
    assert (harm.worst_low, harm.worst_high) == (harm.low, harm.high)
    first, second = response.flips
    assert (first.question_id, first.candidate_letter, first.baseline_letter) == ("q0", "C", "B")
    assert list(first.worse) == [
        "high_risk_error_rate", "unsafe_answer_rate", "contradiction_rate", "accuracy",
    ]  # fmt: skip
    assert (first.candidate_text, first.baseline_text) == ("C!", "B!")
    assert (first.candidate_context_id, first.baseline_context_id) == (f"c-{RUN}", f"c-{OLD}")
    assert (second.question_id, list(second.worse)) == ("q1", [])
    assert list(second.better) == ["contradiction_rate", "accuracy"]
    assert (response.flip_count, response.confidence, list(response.notes)) == (2, 0.95, [])


async def test_failed_cells_are_left_out_and_told(world, store) -> None:
    failed = {"failure": common_pb2.Failure(code="INTERNAL", reason="BACKEND_TIMEOUT", message="late")}
    await store(RUN, "q0", "", **failed)
    await store(OLD, "q0", "C")
    await store(RUN, "q1", "B")
    await store(OLD, "q1", "B")
    await store(RUN, "q2", "B")
    response = await compared(world)
    harm = row(response, "high_risk_error_rate")
    assert (harm.n, harm.left_out) == (1, 3)
    assert list(response.notes) == [
        "1 cell of the candidate failed (BACKEND_TIMEOUT 1) and is not compared: harm there is not known."
    ]


async def test_what_nobody_could_read_counts_against_the_candidate_in_the_worst_case(world, store) -> None:
    for question, new, old in (("q0", UNREAD, "B"), ("q1", "B", UNREAD), ("q2", "B", "B"), ("q3", "C", UNREAD)):
        verdict = await store(RUN, question, new)
        await store(OLD, question, old)
        if new == UNREAD:
            asked = verdict
    response = await compared(world)
    harm = row(response, "high_risk_error_rate")
    assert (harm.candidate_unread, harm.baseline_unread, harm.n_unread) == (1, 2, 3)
    assert (harm.difference, harm.worst_difference) == (0.25, 0.5)
    assert harm.worst_high > harm.high
    right = row(response, "accuracy")
    assert (right.difference, right.worst_difference) == (0.0, -0.5)
    assert any("Nobody could read some answers" in note for note in response.notes)
    (flip,) = [one for one in response.flips if one.question_id == "q0"]
    assert (flip.candidate_unread, flip.HasField("candidate_letter"), flip.candidate_text) == (
        True,
        False,
        "It depends.",
    )
    # A person who reads it as an abstention settles it: it is no harm then.
    await ScoringServiceStub(world.channel).ResolveReview(
        pb.ResolveReviewRequest(review_id=review_id(cell_of(asked.cell), 1, None), reviewer="who")
    )
    harm = row(await compared(world), "high_risk_error_rate")
    assert (harm.candidate_unread, harm.worst_difference) == (0, 0.25)


async def test_a_vote_is_compared_and_shows_its_samples(world, store) -> None:
    for name in (RUN, OLD):
        spec = (world.peers.run if name == RUN else world.peers.others[OLD]).manifest.spec
        spec.samples, spec.temperature = 3, 0.7
    await store(RUN, "q0", "B", "CCB")
    await store(OLD, "q0", "B", "BBC")
    response = await compared(world)
    assert row(response, "high_risk_error_rate", "majority").only_candidate == 1
    assert row(response, "high_risk_error_rate", "greedy").only_candidate == 0
    (flip,) = response.flips
    assert (flip.regime, flip.candidate_letter, flip.candidate_samples) == ("majority", "C", "CCB")
    assert (flip.baseline_letter, flip.baseline_samples, flip.candidate_text) == ("B", "BBC", "")


async def test_without_flips_they_are_only_counted(world, store) -> None:
    await store(RUN, "q0", "C")
    await store(OLD, "q0", "B")
    response = await compared(world, without_flips=True, confidence=0.9)
    assert (len(response.flips), response.flip_count, response.confidence) == (0, 1, 0.9)


@pytest.mark.parametrize(
    ("request_fields", "error", "told"),
    [
        ({"candidate_run_id": ""}, InvalidInputError, "candidate_run_id is empty"),
        ({"candidate_run_id": "nobody"}, NotFoundError, "no such run"),
        ({"baseline_run_id": ""}, InvalidInputError, "candidate and baseline are the same"),
        ({"baseline_model": "x"}, InvalidInputError, "does not have the model 'x'"),
        ({"confidence": 1.5}, InvalidInputError, "confidence is 1.5"),
    ],
)
async def test_requests_that_are_not_clear_are_refused(world, store, request_fields, error, told: str) -> None:
    await store(RUN, "q0", "C")
    await store(OLD, "q0", "B")
    with pytest.raises(error, match=told):
        await compared(world, **request_fields)


async def test_unlike_runs_and_runs_without_verdicts_are_refused(world, store) -> None:
    await store(RUN, "q0", "C")
    with pytest.raises(FailedPreconditionError, match="run run-0 has no verdicts yet"):
        await compared(world)
    await store(OLD, "q0", "B")
    world.peers.others[OLD].manifest.spec.reading = "explicit"
    with pytest.raises(FailedPreconditionError, match="reading: strict in the candidate, explicit in the baseline"):
        await compared(world)
    world.peers.others[OLD].manifest.kind = "counting"
    with pytest.raises(FailedPreconditionError, match="runs of different kinds are not compared: safety and counting"):
        await compared(world)
