"""The end of a run is announced to everybody: at once, or as soon as the bus takes it."""

import asyncio
import time

import pytest
from tests.support.fakes.run_world import World, open_world

from safescale.core.errors import BusUnavailableError
from safescale.inference.run_ends import RunEnds
from safescale.orchestration.run_ends import RunEndAnnouncer
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus import topics


@pytest.fixture
async def world(tmp_path, benchmark, models, corpora):
    made = await open_world(tmp_path / "r.db", benchmark, models, corpora)
    yield made
    made.answering.set()
    await made.runs.stop()
    await made.bus.close()
    await made.documents.close()


@pytest.fixture
async def heard(world: World) -> list[events_pb2.RunEnded]:
    found: list[events_pb2.RunEnded] = []

    async def hear(message) -> None:
        assert (message.key, message.headers["run-id"]) == (message.headers["run-id"],) * 2
        found.append(events_pb2.RunEnded.FromString(message.value))

    await world.bus.follow(topics.RUN_ENDED, hear)
    return found


async def until_heard(world: World, heard: list[events_pb2.RunEnded], count: int) -> None:
    async def come() -> bool:
        return len(heard) >= count

    await world.until(come)


async def test_a_cancel_is_announced_with_its_time_and_what_is_requested_later_is_later(world, spec, heard) -> None:
    run = (await world.runs.create(spec, force_new=True)).run
    await world.until(lambda: asyncio.sleep(0, len(world.asked) == 6))
    cancelled = await world.runs.cancel(run)
    await until_heard(world, heard, 1)
    (ended,) = heard
    assert (ended.run_id, ended.state, ended.attempt) == (run.run_id, pb.RUN_STATE_CANCELLED, 1)
    assert ended.ended_at == cancelled.ended_at
    at = ended.ended_at.ToNanoseconds()
    assert all(one.requested_at.ToNanoseconds() < at for one in world.asked)
    before = len(world.asked)
    world.answering.set()
    await world.runs.create(spec, force_new=False)
    await world.until_all_ended()
    assert all(one.requested_at.ToNanoseconds() > at for one in world.asked[before:])
    assert len(heard) == 1


async def test_a_resumed_run_requests_later_than_its_end_though_the_clock_was_set_back(
    world, spec, monkeypatch
) -> None:
    ends = RunEnds(world.bus)
    await ends.start()
    world.losing = True
    clock = time.time_ns
    run = (await world.runs.create(spec, force_new=True)).run
    for turn in (1, 2, 3):
        await world.until(lambda count=6 * turn: asyncio.sleep(0, len(world.asked) == count))
        earlier = list(world.asked)
        assert ends.wants(earlier[-1])
        await world.runs.cancel(run)
        await world.until(lambda last=earlier[-1]: asyncio.sleep(0, not ends.wants(last)))
        monkeypatch.setattr(time, "time_ns", lambda hours=turn: clock() - hours * 3600 * 10**9)
        await world.runs.create(spec, force_new=False)
        await world.until(lambda count=6 * turn + 6: asyncio.sleep(0, len(world.asked) == count))
        assert [ends.wants(one) for one in world.asked] == [False] * len(earlier) + [True] * 6
    await ends.stop()


async def test_a_run_that_fails_is_announced_and_one_that_completes_is_not(world, spec, heard) -> None:
    run = (await world.runs.create(spec, force_new=True)).run
    await world.runs.on_dead_letter(run.run_id, common_pb2.Failure(reason="STORAGE_FAILED"))
    await until_heard(world, heard, 1)
    world.answering.set()
    await world.runs.create(spec, force_new=True)
    await world.until_all_ended()
    await asyncio.sleep(0.02)
    assert [(one.run_id, one.state) for one in heard] == [(run.run_id, pb.RUN_STATE_FAILED)]


async def test_a_cancel_without_a_bus_is_recorded_at_once_and_announced_when_it_is_back(
    world, spec, heard, monkeypatch
) -> None:
    run = (await world.runs.create(spec, force_new=True)).run
    await world.until(lambda: asyncio.sleep(0, len(world.asked) == 6))
    publish_many, away = world.bus.publish_many, True

    async def publish(messages) -> None:
        if away:
            raise BusUnavailableError("away")
        await publish_many(messages)

    monkeypatch.setattr(world.bus, "publish_many", publish)
    await world.runs.cancel(run)
    assert (await world.store.get(run.run_id)).run.state == pb.RUN_STATE_CANCELLED
    await world.runs.look()
    await asyncio.sleep(0.02)
    assert heard == []
    away = False
    await until_heard(world, heard, 1)
    assert heard[0].run_id == run.run_id


async def test_what_an_earlier_process_could_not_announce_the_next_one_does(world, spec, heard) -> None:
    stopped = [(await world.runs.create(spec, force_new=True)).run for _ in range(3)]
    await world.runs.stop()
    states = (pb.RUN_STATE_CANCELLED, pb.RUN_STATE_FAILED, pb.RUN_STATE_COMPLETED)
    for run, state in zip(stopped, states, strict=True):
        await world.store.finish(run.run_id, state)
    # A bus of this process has nothing of an earlier one.
    world.runs = world.process()
    await world.runs.look()
    await asyncio.sleep(0.02)
    assert heard == []
    world.runs = world.process(messages_kept_s=3600.0)
    await until_heard(world, heard, 2)
    await world.runs.look()
    await asyncio.sleep(0.02)
    assert sorted(one.run_id for one in heard) == sorted(run.run_id for run in stopped[:2])
    assert {one.ended_at.ToNanoseconds() > 0 for one in heard} == {True}


async def test_of_what_ended_before_the_bus_forgot_its_requests_nothing_is_announced(world, spec, heard) -> None:
    run = (await world.runs.create(spec, force_new=True)).run
    await world.runs.stop()
    await world.store.finish(run.run_id, pb.RUN_STATE_CANCELLED)
    await asyncio.sleep(0.02)
    announcer = RunEndAnnouncer(world.bus, world.store, messages_kept_s=0.01)
    await announcer.look()
    await asyncio.sleep(0.02)
    assert heard == []
    await announcer.stop()
