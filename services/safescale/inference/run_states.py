"""Whether the cells of a run are still wanted: those of a run that was stopped are not asked."""

import time
from collections.abc import Callable

import grpc

from safescale.core.errors import SafescaleError
from safescale.inference.single_flight import SingleFlight
from safescale.rpc.orchestration.v1 import orchestration_pb2, orchestration_pb2_grpc
from safescale.runtime.grpc.channels import rpc_errors

KEPT_S = 1.0
"""Seconds for which "running" is believed. "Stopped" is never kept: the run may have been taken up again since."""

DEADLINE_S = 10.0
MAX_KEPT = 1000


class RunStates:
    """Asks orchestration for the state of runs; of running ones at most once a second, whoever wants to know."""

    def __init__(self, orchestration: Callable[[], grpc.aio.Channel]) -> None:
        self._orchestration = orchestration
        self._running_at: dict[str, float] = {}
        self._flights = SingleFlight()

    async def wants(self, run_id: str) -> bool:
        """True unless orchestration says that the run is not running. Where it cannot be asked, the cell is asked."""
        if time.monotonic() - self._running_at.get(run_id, -KEPT_S) < KEPT_S:
            return True
        # All cells in flight come here when the second is over.
        wanted, joined = await self._flights.run(run_id, lambda: self._ask(run_id))
        if joined and not wanted:
            # What was read before this cell was there says nothing of it: the run may have been taken up again since.
            # Every flight from here on began after it.
            wanted, _ = await self._flights.run(run_id, lambda: self._ask(run_id))
        return wanted

    async def _ask(self, run_id: str) -> bool:
        now = time.monotonic()
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(self._orchestration())
        try:
            with rpc_errors():
                request = orchestration_pb2.GetRunRequest(run_id=run_id, without_progress=True)
                response = await stub.GetRun(request, timeout=DEADLINE_S)
        except SafescaleError:
            return True
        if response.run.state != orchestration_pb2.RUN_STATE_RUNNING:
            return False
        if len(self._running_at) >= MAX_KEPT:
            self._running_at.clear()
        self._running_at[run_id] = now
        return True

    async def close(self) -> None:
        """End what is asked."""
        await self._flights.close()
