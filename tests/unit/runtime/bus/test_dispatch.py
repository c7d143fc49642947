import asyncio
from collections import defaultdict

import pytest

from safescale.runtime.bus.delivery import AbandonedError
from safescale.runtime.bus.dispatch import Dispatcher
from safescale.runtime.bus.partition_tracker import BUFFERED_BYTES, PartitionTracker, Work, buffered_messages
from safescale.runtime.bus.port import Message

ONE, TWO = ("t", 0), ("t", 1)


class Member:
    """A tracker and a dispatcher whose deliveries end when they are told to."""

    def __init__(self, max_in_flight: int) -> None:
        self.tracker = PartitionTracker(max_in_flight)
        self.dispatcher = Dispatcher(self.tracker, max_in_flight, self.deliver)
        self.started: list[int] = []
        self.gates: dict[int, asyncio.Future[None]] = {}
        self._next: dict[tuple[str, int], int] = defaultdict(int)

    async def deliver(self, work: Work) -> None:
        number = int(work.message.value)
        self.started.append(number)
        self.gates[number] = asyncio.get_running_loop().create_future()
        await self.gates[number]

    def take(self, *keys: str, partition=ONE, first: int = 0, size: int = 10) -> list[Work]:
        works = []
        for number, key in enumerate(keys, first):
            message = Message("t", key, str(number).encode())
            works.append(self.tracker.take(message, partition, self._next[partition], size))
            self._next[partition] += 1
        return works

    async def end(self, number: int, error: Exception | None = None) -> None:
        gate = self.gates[number]
        gate.set_result(None) if error is None else gate.set_exception(error)
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_keys_run_at_once_and_one_key_in_its_order() -> None:
    member = Member(4)
    member.dispatcher.accept(member.take("a", "a", "b", "a", "c"))
    await settle()
    assert member.started == [0, 2, 4]
    await member.end(0)
    assert member.started == [0, 2, 4, 1]
    await member.end(1)
    assert member.started == [0, 2, 4, 1, 3]


async def test_no_more_run_than_allowed() -> None:
    member = Member(2)
    member.dispatcher.accept(member.take(*"abcd"))
    await settle()
    assert member.started == [0, 1]
    assert (member.tracker.running, member.tracker.buffered) == (2, 2)
    await member.end(1)
    assert member.started == [0, 1, 2]


async def test_what_is_finished_may_be_committed_up_to_the_first_gap() -> None:
    member = Member(4)
    member.dispatcher.accept(member.take(*"abc"))
    await settle()
    await member.end(1)
    assert member.tracker.to_commit() == {}
    await member.end(0)
    assert member.tracker.to_commit() == {ONE: 2}
    member.tracker.committed({ONE: 2})
    assert member.tracker.to_commit() == {}


@pytest.mark.parametrize("error", [AbandonedError(), RuntimeError()])
async def test_what_ends_with_an_error_is_not_finished_and_frees_its_key(error: Exception) -> None:
    member = Member(1)
    member.dispatcher.accept(member.take("a", "a"))
    await settle()
    await member.end(0, error)
    assert member.started == [0, 1]
    await member.end(1)
    assert member.tracker.to_commit() == {}


async def test_waiting_messages_of_a_partition_that_goes_away_are_not_started() -> None:
    member = Member(1)
    member.dispatcher.accept(member.take("a", "b", partition=ONE) + member.take("c", partition=TWO, first=2))
    await settle()
    member.tracker.abandon_waiting([ONE])
    await member.end(0)
    assert member.started == [0, 2]
    assert member.tracker.to_commit([ONE]) == {ONE: 1}


async def test_the_result_of_abandoned_work_is_never_committed() -> None:
    member = Member(2)
    member.dispatcher.accept(member.take("a", "b"))
    await settle()
    gone = member.tracker.drop([ONE])
    await member.end(0)
    assert member.tracker.to_commit() == {}
    member.dispatcher.cancel(gone)
    await settle()
    assert member.tracker.running == 0
    # The same partition again: its old messages come again, counted anew.
    member.tracker.assign([ONE])
    member._next[ONE] = 0
    member.dispatcher.accept(member.take("a", partition=ONE, first=7))
    await settle()
    await member.end(7)
    assert member.tracker.to_commit() == {ONE: 1}


async def test_work_that_is_cancelled_before_its_first_step_frees_its_place() -> None:
    member = Member(1)
    member.dispatcher.accept(member.take("a"))
    member.dispatcher.cancel(member.tracker.drop([ONE]))
    await settle()
    assert (member.started, member.tracker.running) == ([], 0)
    member.dispatcher.accept(member.take("a", partition=TWO, first=5))
    await settle()
    assert member.started == [5]


async def test_draining_starts_nothing_and_stops_what_is_late() -> None:
    member = Member(2)
    member.dispatcher.accept(member.take(*"abc"))
    await settle()
    draining = asyncio.create_task(member.dispatcher.drain(0.05))
    await settle()
    await member.end(0)
    await draining
    assert member.started == [0, 1]
    assert member.tracker.running == 0
    assert member.tracker.to_commit() == {ONE: 1}


def test_a_full_buffer_has_room_again_when_it_is_half_empty() -> None:
    member = Member(1)
    capacity = buffered_messages(1)
    works = member.take(*map(str, range(capacity)))
    assert member.tracker.room() == 0
    assert not member.tracker.has_room.is_set()
    for work in works[: capacity // 2 - 1]:
        member.tracker.start(work)
    assert member.tracker.room() == 0
    member.tracker.start(works[capacity // 2])
    assert member.tracker.room() == capacity // 2
    assert member.tracker.has_room.is_set()


def test_large_messages_fill_the_buffer_by_their_bytes() -> None:
    member = Member(1)
    member.take(*"abc", size=BUFFERED_BYTES // 4)
    assert member.tracker.room() == 1
    member.take("d", first=3, size=BUFFERED_BYTES // 4)
    assert member.tracker.room() == 0
