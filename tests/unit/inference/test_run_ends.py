import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from safescale.inference.run_ends import RunEnds
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message
from safescale.runtime.telemetry import Telemetry


@pytest.fixture
async def bus():
    made = MemoryBus(Telemetry())
    yield made
    await made.close()


async def end(bus: MemoryBus, run_id: str, at: int) -> None:
    event = events_pb2.RunEnded(run_id=run_id, ended_at=Timestamp(seconds=at), attempt=1)
    await bus.publish(event_message(topics.RUN_ENDED, run_id, event, run_id, 1))


def made(at: int | None, run_id: str = "r") -> events_pb2.GenerationRequested:
    asked = events_pb2.GenerationRequested(cell=common_pb2.CellKey(run_id=run_id))
    if at is not None:
        asked.requested_at.FromSeconds(at)
    return asked


async def followed(bus: MemoryBus) -> RunEnds:
    ends = RunEnds(bus)
    await ends.start()
    return ends


async def test_a_request_from_before_the_end_is_not_wanted_and_one_from_after_it_is(bus) -> None:
    ends = await followed(bus)
    assert ends.wants(made(100))
    await end(bus, "r", 100)
    # What follows now has heard it, and so has who followed before.
    late = await followed(bus)
    for each in (ends, late):
        assert [each.wants(made(at)) for at in (99, 100, 101)] == [False, False, True]
        assert each.wants(made(99, run_id="another"))
    await ends.stop()
    await ends.stop()


async def test_a_request_of_an_earlier_version_that_names_no_time_is_wanted(bus) -> None:
    await end(bus, "r", 100)
    assert (await followed(bus)).wants(made(None))


async def test_an_earlier_end_that_comes_late_brings_nothing_back(bus) -> None:
    await end(bus, "r", 100)
    ends = await followed(bus)
    await end(bus, "r", 50)
    await end(bus, "other", 1)
    await followed(bus)
    assert not ends.wants(made(100))


async def test_what_is_no_end_of_a_run_is_passed_over(bus) -> None:
    ends = await followed(bus)
    await bus.publish(Message(topics.RUN_ENDED, "r", b"\xff\xff"))
    await end(bus, "r", 100)
    await followed(bus)
    assert not ends.wants(made(100))
