import asyncio

from safescale.core.errors import BackendTimeoutError, ServiceUnavailableError
from safescale.gateway.http.sse import event_id, event_stream
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

RUN = pb.Run(run_id="demo-1", attempt=2)


def update(completed: int, state=pb.RUN_STATE_RUNNING) -> pb.WatchRunResponse:
    cells = [pb.CellProgress(model="m", condition="zero_shot", planned=3, completed=completed, failed=1)]
    return pb.WatchRunResponse(state=state, progress=pb.Progress(cells=cells))


async def feed(*items):
    for item in items:
        if isinstance(item, Exception):
            raise item
        if isinstance(item, float):
            await asyncio.sleep(item)
        else:
            yield item


async def lines(*items, stop: asyncio.Event | None = None) -> list[str]:
    stream = event_stream(RUN, feed(*items), stop or asyncio.Event(), heartbeat_s=0.02)
    return b"".join([part async for part in stream]).decode().splitlines()


async def test_events_until_the_end() -> None:
    found = await lines(update(1), update(3, pb.RUN_STATE_COMPLETED))
    assert found[0] == "retry: 2000"
    assert [line for line in found if line.startswith("event")] == ["event: progress", "event: ended"]
    assert [line for line in found if line.startswith("id")] == ["id: 2.running.1.1.0", "id: 2.completed.3.1.0"]


def test_an_id_tells_where_the_run_stands() -> None:
    assert event_id(RUN, update(1)) == event_id(RUN, update(1))
    assert event_id(RUN, update(1)) != event_id(RUN, update(2))


async def test_silence_is_filled() -> None:
    found = await lines(0.2, update(1))
    assert ": ping" in found
    assert found[-2].startswith("id")


async def test_a_stop_ends_a_silent_stream() -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(lines(update(1), 60.0, stop=stop))
    await asyncio.sleep(0.05)
    stop.set()
    found = await asyncio.wait_for(task, 5)
    assert "event: progress" in found


async def test_a_broken_watch_is_told_and_its_deadline_is_not() -> None:
    found = await lines(update(1), ServiceUnavailableError("gone"))
    assert found[-3] == "event: problem"
    assert '"reason":"SERVICE_UNAVAILABLE"' in found[-2]
    assert "event: problem" not in await lines(update(1), BackendTimeoutError("the watch is old"))
