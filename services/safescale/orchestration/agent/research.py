"""Run researches: each one once at a time, continued from its stored state."""

import asyncio
from collections.abc import Callable

import grpc

from safescale.core.errors import ModelChangedError
from safescale.orchestration.agent.machine import Machine
from safescale.orchestration.agent.state import begin, cited_chunks, id_of
from safescale.orchestration.agent.store import ResearchStore
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.telemetry import Telemetry


class ResearchRunner:
    """Researches questions; the same research asked twice at a time is made once."""

    def __init__(
        self,
        documents: DocumentStore,
        inference: Callable[[], grpc.aio.Channel],
        retrieval: Callable[[], grpc.aio.Channel],
        telemetry: Telemetry,
    ) -> None:
        self._tools = Tools(inference, retrieval)
        self._store = ResearchStore(documents)
        self._machine = Machine(self._store, self._tools, telemetry)
        self._flights: dict[str, asyncio.Task[pb.Research]] = {}

    async def research(self, request: pb.ResearchRequest) -> pb.Research:
        """Return the finished research of a request, stored already or made (continued) now.

        A request that finds its research in flight waits for that one, `fresh` or not. A failed research continues at
        the step that failed.

        Raises:
            ModelChangedError: the agent's model is not the one that the request expects.
            SafescaleError: it failed; its state is stored as FAILED with the reason.

        """
        agent = await self._tools.agent(request.agent_model, fresh=request.fresh or bool(request.run_id))
        _check_expected(request, agent)
        identifier = id_of(request, agent)
        flight = self._flights.get(identifier)
        if flight is None:
            flight = asyncio.create_task(self._fly(request, identifier, agent))
            self._flights[identifier] = flight
            flight.add_done_callback(lambda done: self._landed(identifier, done))
        # A caller that goes away does not end a research that others may wait for.
        return await asyncio.shield(flight)

    def _landed(self, identifier: str, flight: "asyncio.Task[pb.Research]") -> None:
        del self._flights[identifier]
        if not flight.cancelled():
            # Looked at here, too, in case that every caller went away; the machine has logged it.
            flight.exception()

    async def _fly(self, request: pb.ResearchRequest, identifier: str, agent: Agent) -> pb.Research:
        stored = None if request.fresh else await self._store.get(identifier)
        if stored is not None and stored.step == pb.RESEARCH_STEP_DONE:
            return stored
        return await self._machine.run(stored or begin(request, identifier), agent)

    async def get(self, research_id: str) -> pb.Research | None:
        """State of a research, also while it runs; None when there is none."""
        return await self._store.get(research_id)

    async def context(self, research: pb.Research) -> common_pb2.ContextRef:
        """Return the reference to the report of a finished research, storing it again if the context was lost.

        Raises:
            SafescaleError: retrieval failed.

        """
        return await self._tools.put_report(research.report, cited_chunks(research), research.corpus_id)

    async def stop(self) -> None:
        """Abandon researches in flight; each continues from its stored state at the next request."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)


def _check_expected(request: pb.ResearchRequest, agent: Agent) -> None:
    expected = {"revision": request.agent_revision, "fingerprint": request.agent_fingerprint}
    for name, wanted in expected.items():
        found = getattr(agent, name)
        # Where the catalog does not know it at the moment, each call to the model is checked all the same.
        if wanted and found and found != wanted:
            raise ModelChangedError(f"agent {agent.model} has {name} {found}; the run was made with {wanted}")
