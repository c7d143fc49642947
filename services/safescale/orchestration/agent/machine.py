"""The state machine: runs step after step and stores every state before the next step begins."""

import time

from safescale.core.errors import DependencyUnavailableError, SafescaleError
from safescale.orchestration.agent.state import STEP_NAMES, copy_of, pending_step
from safescale.orchestration.agent.steps import STEPS
from safescale.orchestration.agent.store import ResearchStore
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.errors import as_safescale_error, to_failure
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry


class Machine:
    """Brings a research from the state it has to DONE, or to FAILED."""

    def __init__(self, store: ResearchStore, tools: Tools, telemetry: Telemetry) -> None:
        self._store = store
        self._tools = tools
        self._telemetry = telemetry
        self._log = get_logger("orchestration")

    async def run(self, research: pb.Research, agent: Agent) -> pb.Research:
        """Run until DONE.

        Raises:
            DependencyUnavailableError: a service or the store cannot be reached; the state stays as it is.
            SafescaleError: a step failed; the state is stored as FAILED with the reason and can be continued.

        """
        state = research
        if state.step == pb.RESEARCH_STEP_FAILED:
            state = copy_of(state)
            state.step = pending_step(state)
            state.ClearField("failure")
        try:
            while state.step != pb.RESEARCH_STEP_DONE:
                await self._store.put(state)
                state = await self._step(state, agent)
            await self._store.put(state)
        except Exception as error:
            known = as_safescale_error(error)
            # A dependency that is away says nothing about the research: it stays at its step.
            if not isinstance(known, DependencyUnavailableError):
                await self._fail(state, known)
            raise known from error
        self._log.info("research done", research_id=state.research_id, tokens=state.tokens, elapsed_s=state.elapsed_s)
        return state

    async def _step(self, state: pb.Research, agent: Agent) -> pb.Research:
        begin = time.perf_counter()
        outcome = "ok"
        try:
            with self._telemetry.span("agent step", {"step": STEP_NAMES[state.step]}):
                return await STEPS[state.step](state, agent, self._tools)
        except Exception as error:
            outcome = as_safescale_error(error).reason
            raise
        finally:
            labels = {"step": STEP_NAMES[state.step], "outcome": outcome}
            self._telemetry.observe("safescale_agent_step_seconds", time.perf_counter() - begin, labels)

    async def _fail(self, state: pb.Research, error: SafescaleError) -> None:
        self._log.warning(
            "research failed", research_id=state.research_id, step=STEP_NAMES[state.step], reason=error.reason
        )
        failed = copy_of(state)
        failed.step = pb.RESEARCH_STEP_FAILED
        failed.failure.CopyFrom(to_failure(error))
        try:
            await self._store.put(failed)
        except SafescaleError as second:
            self._log.error("research state not recorded", research_id=state.research_id, reason=second.reason)
