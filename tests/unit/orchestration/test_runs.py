"""Whatever breaks between two steps, a run ends with its reason or is driven on."""

import asyncio
import contextlib
import itertools
from collections import Counter

import pytest
from tests.support.fakes.run_world import World, open_world

from safescale.core.errors import (
    BackendTimeoutError,
    FailedPreconditionError,
    SafescaleError,
    StorageError,
    StorageUnavailableError,
)
from safescale.orchestration import driver as drivers
from safescale.orchestration.store import _to_document
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus import topics
from safescale.runtime.bus.port import SubscriptionOptions
from safescale.runtime.documents.port import NewDocument

TROUBLE = {
    "away": (StorageUnavailableError("away"), False),
    "away after the write": (StorageUnavailableError("away"), True),
    "late": (BackendTimeoutError("no answer in time"), False),
    "full disk": (StorageError("disk full"), False),
    "unexpected": (RuntimeError("a mistake of ours"), False),
}
"""What breaks a call, and whether it does so after the call has had its effect."""

OPERATIONS = ("create", "continue", "retry", "cancel", "resume")


@pytest.fixture
async def world(tmp_path, benchmark, models, corpora, monkeypatch):
    monkeypatch.setattr(drivers, "back_off_s", lambda tries: 0.001)
    made = await open_world(tmp_path / "r.db", benchmark, models, corpora)
    yield made
    made.faults.arm(0, None)
    made.answering.set()
    await made.runs.stop()
    await made.bus.close()
    await made.documents.close()


async def stored(world: World) -> pb.Run:
    return (await world.store.all())[0].run


async def prepare(world: World, spec: pb.RunSpec, operation: str) -> pb.Run | None:
    """Bring the world to where an operation makes sense; the run that it is done to."""
    if operation == "create":
        world.answering.set()
        return None
    if operation == "retry":
        world.failing = {"zero_shot"}
        world.answering.set()
        await world.runs.create(spec, force_new=True)
        await world.until_all_ended()
        world.failing = set()
        return await stored(world)
    world.answering.clear()
    run = (await world.runs.create(spec, force_new=True)).run
    if operation == "cancel":
        return run
    await world.runs.stop()
    if operation == "continue":
        await world.store.finish(run.run_id, pb.RUN_STATE_CANCELLED)
    world.runs = world.process()
    world.answering.set()
    return run


async def perform(world: World, spec: pb.RunSpec, operation: str, run: pb.Run | None) -> None:
    if operation in ("create", "continue"):
        await world.runs.create(spec, force_new=operation == "create")
    elif operation == "retry":
        await world.runs.retry_failed(run)
    elif operation == "cancel":
        await world.runs.cancel(run)
    else:
        await world.runs.resume_all()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("trouble", TROUBLE)
async def test_a_fault_at_any_call_leaves_no_run_without_a_driver(world, spec, operation, trouble) -> None:
    error, after = TROUBLE[trouble]
    for number in itertools.count(1):
        run = await prepare(world, spec, operation)
        world.faults.arm(number, error, after=after)
        # The caller learns of it, or it was mended behind its back.
        with contextlib.suppress(SafescaleError, RuntimeError):
            await perform(world, spec, operation, run)
        await asyncio.sleep(0.01)
        hit = world.faults.hit
        world.faults.arm(0, None)
        world.answering.set()
        await world.until_all_ended()
        assert world.active() == 0
        for one in [each.run for each in await world.store.all()]:
            assert one.state != pb.RUN_STATE_FAILED or one.failure.reason in ("STORAGE_FAILED", "INTERNAL")
        if not hit:
            break
    # Each operation makes several calls, and each was broken once.
    assert number > 3


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("after", [False, True])
async def test_a_process_that_dies_between_two_steps_leaves_nothing_behind(world, spec, operation, after) -> None:
    for number in itertools.count(1):
        run = await prepare(world, spec, operation)
        world.faults.arm(number, StorageUnavailableError("gone"), after=after, for_good=True)
        work = asyncio.create_task(perform(world, spec, operation, run))
        await asyncio.wait({work}, timeout=0.05)
        await asyncio.sleep(0.01)
        hit = world.faults.hit
        await world.runs.stop()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        world.faults.arm(0, None)
        world.answering.set()
        world.runs = world.process()
        await world.until_all_ended()
        assert {each.run.state for each in await world.store.all()} <= {pb.RUN_STATE_COMPLETED, pb.RUN_STATE_CANCELLED}
        if not hit:
            break
    assert number > 3


async def test_a_retry_that_was_cut_between_its_two_steps_goes_on(world, spec) -> None:
    run = await prepare(world, spec, "retry")
    await world.store.next_attempt(run.run_id)
    world.runs = world.process()
    await world.until_all_ended()
    ended = await stored(world)
    assert (ended.state, ended.attempt) == (pb.RUN_STATE_COMPLETED, 2)
    assert all(not verdict.HasField("failure") for verdict in world.peers.verdicts.values())


async def test_one_run_that_cannot_be_taken_up_holds_up_no_other(world, spec) -> None:
    runs = [(await world.runs.create(spec, force_new=True)).run for _ in range(3)]
    await world.runs.stop()
    broken = runs[0].run_id
    document = await world.documents.get("run", broken)
    body = {**document.body, "attempt": "none"}
    await world.documents.put(NewDocument("run", broken, body, "runs"))
    world.answering.set()
    world.runs = world.process()

    async def others_ended() -> bool:
        found = [await world.store.get(run.run_id) for run in runs[1:]]
        return all(one.run.state == pb.RUN_STATE_COMPLETED for one in found)

    await world.until(others_ended)


async def test_a_caller_that_goes_away_in_the_middle_of_a_cancel_leaves_one_state(world, spec) -> None:
    run = await prepare(world, spec, "cancel")
    work = asyncio.create_task(world.runs.cancel(run))
    await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await world.until_all_ended()
    assert (await stored(world)).state == pb.RUN_STATE_CANCELLED
    assert world.active() == 0


async def test_a_state_that_could_not_be_recorded_is_recorded_when_it_can_be(world, spec) -> None:
    run = await prepare(world, spec, "cancel")
    await asyncio.sleep(0.02)
    # The look at the run, then the one before the write.
    world.faults.arm(3, StorageError("disk full"), for_good=True)
    with pytest.raises(StorageError, match="could not be recorded"):
        await world.runs.cancel(run)
    assert world.active() == 0
    asked = len(world.asked)
    world.faults.arm(0, None)
    await world.until_all_ended()
    assert (await stored(world)).state == pb.RUN_STATE_CANCELLED
    assert len(world.asked) == asked


async def test_an_error_while_cells_are_asked_ends_the_run_with_its_reason(world, spec, monkeypatch) -> None:
    async def broken(self, unit):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(drivers.RunDriver, "_messages_for", broken)
    await world.runs.create(spec, force_new=True)
    await world.until_all_ended()
    run = await stored(world)
    assert (run.state, run.failure.reason) == (pb.RUN_STATE_FAILED, "INTERNAL")
    assert "RuntimeError" in run.failure.message
    assert world.active() == 0


async def test_a_run_whose_cells_are_all_known_leaves_no_driver(world, spec) -> None:
    world.answering.set()
    run = (await world.runs.create(spec, force_new=True)).run
    await world.until_all_ended()
    await world.store.finish(run.run_id, pb.RUN_STATE_RUNNING)
    await world.until_all_ended()
    assert world.active() == 0
    assert world.runs.driver(run.run_id) is None


async def test_a_run_that_was_ended_elsewhere_is_not_driven_on(world, spec) -> None:
    run = (await world.runs.create(spec, force_new=True)).run
    await world.store.finish(run.run_id, pb.RUN_STATE_CANCELLED)
    await world.runs.look()
    assert world.active() == 0


async def test_messages_that_nobody_took_in_time_are_sent_again(world, spec) -> None:
    world.runs = world.process(messages_kept_s=0.05)
    world.losing = True
    spec.conditions.append("top_1")
    spec.corpus_id = "c1"
    contexts = []

    async def seen(message) -> None:
        contexts.append(message)

    await world.bus.subscribe(topics.CONTEXT_REQUESTED, "test", seen, SubscriptionOptions())
    await world.runs.create(spec, force_new=True)

    async def twice() -> bool:
        cells = Counter((request.cell.condition, request.cell.question_id) for request in world.asked)
        built = Counter(message.key for message in contexts)
        return len(cells) == 6 and len(built) == 3 and min(*cells.values(), *built.values()) >= 2

    await world.until(twice)


async def test_a_server_looks_again_and_again_also_when_a_look_fails(world, spec) -> None:
    run = await prepare(world, spec, "cancel")
    await world.runs.cancel(run)
    world.answering.set()
    # The store is away at first, and then a run turns up that nobody drives.
    world.faults.arm(1, StorageUnavailableError("away"))
    looking = asyncio.create_task(world.runs.look_after())
    await world.store.finish(run.run_id, pb.RUN_STATE_RUNNING)

    async def completed() -> bool:
        return (await stored(world)).state == pb.RUN_STATE_COMPLETED

    await world.until(completed, looking=False)
    assert world.faults.hit
    assert not looking.done()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_a_retry_names_what_has_changed_and_asks_nothing(world, spec) -> None:
    spec.judge_model = "other"
    run = await prepare(world, spec, "retry")
    asked = len(world.asked)
    world.peers.catalog["small"].revision = "r2"
    world.peers.catalog["other"].fingerprint = "server 2"
    with pytest.raises(FailedPreconditionError, match="model small: revision was r1 and is r2"):
        await world.runs.retry_failed(run)
    assert (await stored(world)).state == pb.RUN_STATE_COMPLETED
    assert len(world.asked) == asked


async def test_a_run_of_another_setting_ends_when_it_is_taken_up(world, spec) -> None:
    spec.judge_model = "other"
    await prepare(world, spec, "resume")
    world.peers.catalog["other"].revision = "r2"
    await world.until_all_ended()
    run = await stored(world)
    assert (run.state, run.failure.reason) == (pb.RUN_STATE_FAILED, "FAILED_PRECONDITION")
    assert "judge other: revision was r1 and is r2" in run.failure.message


async def test_requests_carry_what_the_run_was_made_with(world, spec) -> None:
    world.peers.catalog["small"].fingerprint = "server 1"
    world.answering.set()
    await world.runs.create(spec, force_new=True)
    await world.until_all_ended()
    assert {(one.model_revision, one.model_fingerprint) for one in world.asked} == {("r1", "server 1")}


async def test_a_model_that_changed_stops_the_run(world, spec) -> None:
    world.failing, world.reason = {"zero_shot"}, "MODEL_CHANGED"
    world.answering.set()
    await world.runs.create(spec, force_new=True)
    await world.until_all_ended()
    run = await stored(world)
    assert (run.state, run.failure.reason) == (pb.RUN_STATE_FAILED, "MODEL_CHANGED")
    assert world.active() == 0
    # With the model of before it goes on, and a retry asks what failed.
    world.failing = set()
    assert (await world.runs.create(spec, force_new=False)).run.run_id == run.run_id
    await world.until_all_ended()
    retried = await world.runs.retry_failed(await stored(world))
    assert retried.retried_count
    await world.until_all_ended()
    assert (await stored(world)).state == pb.RUN_STATE_COMPLETED


async def test_two_equal_retries_retry_once(world, spec) -> None:
    run = await prepare(world, spec, "retry")
    world.answering.clear()
    found = await asyncio.gather(*(world.runs.retry_failed(run, attempt=1) for _ in range(2)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["FailedPreconditionError", "RetryFailedResponse"]
    assert any("at attempt 2, not 1" in str(one) for one in found)
    assert (await stored(world)).attempt == 2


async def test_two_creates_at_once_make_one_run(world, spec) -> None:
    found = await asyncio.gather(*(world.runs.create(spec, force_new=False) for _ in range(3)))
    assert len({one.run.run_id for one in found}) == 1
    assert sorted(one.resumed for one in found) == [False, True, True]


async def test_an_unfinished_run_of_the_first_version_is_continued_by_the_same_spec(world, spec) -> None:
    run = await prepare(world, spec, "continue")
    old = (await world.store.get(run.run_id)).run
    old.manifest.ClearField("reading_version")
    for name in ("clinician_validated", "benchmark_name", "corpus_name"):
        old.manifest.spec.ClearField(name)
    old.manifest.models[0].ClearField("instruct")
    old.manifest.package_version = "0.0.9"
    old.digest = "0" * 64
    await world.documents.put(_to_document(old))
    created = await world.runs.create(spec, force_new=False)
    assert (created.resumed, created.run.run_id) == (True, run.run_id)
    await world.until_all_ended()
    assert (await stored(world)).state == pb.RUN_STATE_COMPLETED


async def test_a_message_that_an_earlier_attempt_gave_up_does_not_end_this_one(world, spec) -> None:
    run = await prepare(world, spec, "retry")
    world.answering.clear()
    await world.runs.retry_failed(run)
    failure = common_pb2.Failure(reason="STORAGE_FAILED", message="disk full")
    await world.runs.on_dead_letter(run.run_id, failure, "1")
    assert (await stored(world)).state == pb.RUN_STATE_RUNNING
    await world.runs.on_dead_letter(run.run_id, failure, "2")
    assert ((await stored(world)).state, world.active()) == (pb.RUN_STATE_FAILED, 0)
