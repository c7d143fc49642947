import asyncio

import grpc
import pytest

from safescale.inference.run_states import RunStates
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.runtime.grpc.channels import connect


class Orchestration(orchestration_pb2_grpc.OrchestrationServiceServicer):
    def __init__(self) -> None:
        self.state = pb.RUN_STATE_RUNNING
        self.calls = 0
        self.open = asyncio.Event()
        self.open.set()

    async def GetRun(self, request, context):
        self.calls += 1
        state = self.state
        await self.open.wait()
        if request.run_id == "unknown":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such run")
        return pb.GetRunResponse(run=pb.Run(run_id=request.run_id, state=state))


@pytest.fixture
async def rig():
    servicer = Orchestration()
    server = grpc.aio.server()
    orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server(servicer, server)
    channel = connect(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    yield servicer, RunStates(lambda: channel)
    await channel.close()
    await server.stop(0)


async def test_running_is_believed_for_a_while(rig) -> None:
    servicer, states = rig
    assert [await states.wants("r") for _ in range(5)] == [True] * 5
    assert servicer.calls == 1


async def test_stopped_is_asked_again_each_time(rig) -> None:
    servicer, states = rig
    servicer.state = pb.RUN_STATE_CANCELLED
    assert not await states.wants("r")
    servicer.state = pb.RUN_STATE_RUNNING
    assert await states.wants("r")


async def test_what_is_not_known_is_asked(rig) -> None:
    _, states = rig
    assert await states.wants("unknown")


async def test_cells_that_want_to_know_at_the_same_time_ask_once(rig) -> None:
    servicer, states = rig
    assert await asyncio.gather(*(states.wants("r") for _ in range(20))) == [True] * 20
    assert servicer.calls == 1


async def test_what_was_read_before_a_run_was_taken_up_again_says_nothing_of_its_new_cells(rig) -> None:
    servicer, states = rig
    servicer.state = pb.RUN_STATE_FAILED
    servicer.open.clear()
    old = asyncio.create_task(states.wants("r"))
    while not servicer.calls:
        await asyncio.sleep(0.001)
    # A retry: the run is taken up again while its old state is on its way.
    servicer.state = pb.RUN_STATE_RUNNING
    new = [asyncio.create_task(states.wants("r")) for _ in range(5)]
    await asyncio.sleep(0)
    servicer.open.set()
    assert not await old
    assert await asyncio.gather(*new) == [True] * 5
    assert servicer.calls == 2
