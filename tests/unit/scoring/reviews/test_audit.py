"""Audits of the reading over the stores: what is drawn, what is hidden, and what rates become of it."""

import pytest
from tests.unit.scoring.conftest import RUN, make_question
from tests.unit.scoring.store_world import World, store_world

from safescale.core.errors import FailedPreconditionError, InvalidInputError, LimitExceededError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.cells import Cell
from safescale.core.statistics.reading_audit import AuditedStratum, corrected_share
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.records import review_id
from safescale.scoring.reviews.audit import Audits

UNSAFE = "unsafe_answer_rate"


@pytest.fixture
async def world(tmp_path):
    async with store_world(tmp_path) as made:
        made.peers.benchmark = Benchmark("bench", tuple(make_question(f"q{number:02d}") for number in range(40)))
        made.peers.run.manifest.question_ids[:] = [f"q{number:02d}" for number in range(40)]
        yield made


async def put(world: World, letters: str, read_by: str = "parser", first: int = 0) -> None:
    """Store greedy answers: B is right, C unsafe, A harmless; - was read by nobody, and waits for a review."""
    for number, letter in enumerate(letters, start=first):
        key = common_pb2.CellKey(run_id=RUN, model="m", condition="zero_shot", question_id=f"q{number:02d}")
        reading = pb.Reading(text=f"text {number}", letter=letter, read_by=read_by, parsed_letter=letter)
        if letter == "-":
            reading = pb.Reading(text=f"text {number}", review_reason="NO_ANSWER")
            cell = Cell(RUN, "m", "zero_shot", f"q{number:02d}")
            await world.reviews.open([
                pb.Review(review_id=review_id(cell, 1, None), cell=key, attempt=1, reason="NO_ANSWER")
            ])  # fmt: skip
        await world.verdicts.put(pb.Verdict(
            cell=key, attempt=1, formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True, greedy=reading
        ))  # fmt: skip


async def start(world: World, sample: int, seed: int = 1) -> pb.StartAuditResponse:
    request = pb.StartAuditRequest(run_id=RUN, sample=sample, seed=seed)
    return await Audits(world.verdicts, world.reviews).start(world.peers.run, request)


async def waiting(world: World) -> list[pb.Review]:
    return [review async for review in world.reviews.scan(RUN) if review.reason == "AUDIT" and not review.resolved]


async def settle(world: World, review: pb.Review, letter: str) -> None:
    await world.reviews.resolve(pb.ResolveReviewRequest(review_id=review.review_id, letter=letter, reviewer="dr"))


async def row(world: World, metric: str = UNSAFE) -> pb.MetricRow:
    rows = (await world.results().metrics(RUN)).rows
    return next(each for each in rows if each.metric == metric and each.regime == "greedy")


async def test_accepted_answers_are_drawn_and_their_letters_hidden(world) -> None:
    await put(world, "B" * 20)
    await put(world, "B" * 5 + "--", "judge", first=20)
    started = await start(world, 10)
    assert started.created
    assert (started.audit.sample, started.audit.settled, started.audit.complete) == (10, 0, False)
    found = await waiting(world)
    assert len(found) == 10
    assert all(review.text.startswith("text") for review in found)
    assert not [review for review in found if review.HasField("parsed_letter") or review.HasField("judge_letter")]
    numbers = [int(review.cell.question_id[1:]) for review in found]
    # Of 25 accepted answers, 20 of them the parser's; what nobody could read is on the list anyway.
    assert (sum(number < 20 for number in numbers), sum(20 <= number < 25 for number in numbers)) == (8, 2)


async def test_the_same_audit_is_found_and_another_is_refused(world) -> None:
    await put(world, "B" * 20)
    await start(world, 5)
    again = await start(world, 5)
    assert (again.created, again.audit.sample) == (False, 5)
    await settle(world, (await waiting(world))[0], "B")
    assert not (await start(world, 5)).created
    for sample, seed in ((5, 2), (4, 1)):
        with pytest.raises(FailedPreconditionError, match="has an audit already: 5 answers by seed 1"):
            await start(world, sample, seed)


async def test_rates_are_corrected_once_the_audit_is_complete(world) -> None:
    await put(world, "B" * 30 + "C" * 10)
    await start(world, 20)
    drawn = await waiting(world)
    for review in drawn[1:]:
        await settle(world, review, "C" if int(review.cell.question_id[1:]) >= 30 else "B")
    assert not (await row(world)).HasField("corrected_value")
    assert not await world.results().tables(RUN, ["audit"])
    first = int(drawn[0].cell.question_id[1:])
    # The machine was wrong about the last one, in whichever direction.
    await settle(world, drawn[0], "B" if first >= 30 else "C")
    audit = await Audits(world.verdicts, world.reviews).get(RUN)
    assert (audit.settled, audit.complete, audit.disagreements) == (20, True, 1)
    missed = int(first < 30)
    expected = corrected_share(10, 40, [AuditedStratum(40, 20, missed, 1 - missed)])
    found = await row(world)
    assert (found.corrected_value, found.corrected_low, found.corrected_high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    (table,) = [each for each in await world.results().tables(RUN, ["audit"]) if each.name == "audit"]
    (shown,) = [each for each in table.rows() if each["metric"] == UNSAFE]
    assert (shown["machine_value"], shown["corrected_value"]) == pytest.approx((0.25, expected.value))
    assert (shown["audited"], shown["disagreements"]) == (20, 1)
    # The letter of the person counts, and the correction goes by the one that the machine read.
    assert found.value == pytest.approx((10 + (1 if missed else -1)) / 40)


async def test_no_disagreement_is_not_no_error(world) -> None:
    await put(world, "B" * 40)
    await start(world, 10)
    for review in await waiting(world):
        await settle(world, review, "B")
    found = await row(world)
    assert found.corrected_value == 0
    assert found.corrected_high > found.exact_high > 0


async def test_what_nobody_could_read_may_be_wrong_either_way_until_somebody_does(world) -> None:
    await put(world, "B" * 36 + "----")
    await start(world, 36)
    for review in await waiting(world):
        await settle(world, review, "B")
    before = await row(world)
    async for review in world.reviews.scan(RUN):
        if not review.resolved:
            await settle(world, review, "B")
    after = await row(world)
    assert before.corrected_high == pytest.approx(after.corrected_high + 0.1, abs=0.02)
    assert after.corrected_value == 0


@pytest.mark.parametrize(("sample", "error"), [(0, InvalidInputError), (10_001, LimitExceededError)])
async def test_samples_have_bounds(world, sample: int, error) -> None:
    with pytest.raises(error, match="sample"):
        await start(world, sample)


async def test_what_cannot_be_audited_is_told(world) -> None:
    await put(world, "----")
    with pytest.raises(FailedPreconditionError, match="has no answers to audit"):
        await start(world, 1)
    await put(world, "BB", first=10)
    with pytest.raises(FailedPreconditionError, match="has 2 answers to audit; draw at most those"):
        await start(world, 3)
    world.peers.run.state = orc.RUN_STATE_CANCELLED
    with pytest.raises(FailedPreconditionError, match="is cancelled; an audit needs all of its answers"):
        await start(world, 1)
