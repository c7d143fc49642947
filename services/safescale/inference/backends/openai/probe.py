"""What `n` and seeds do at a server: found out by a few short generations, once, before the first samples."""

import asyncio
import time
from dataclasses import dataclass, replace

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.messages import CHAT, COMPLETIONS
from safescale.inference.backends.openai.client import OpenAIClient
from safescale.inference.backends.openai.discovery import DiscoveredServer, same, with_hint
from safescale.inference.backends.openai.errors import UNASKED
from safescale.inference.backends.openai.wire import closed, opening, options
from safescale.inference.backends.port import Sampling
from safescale.inference.catalog import ModelRow
from safescale.inference.upstream.replica_set import Replica, ReplicaSet

PROBE_TIMEOUT_S = 300.0
PAUSE_S = 1.0
PROBE = Messages("", "Write any sentence that comes to your mind.")
PROBE_CHOICES = 4
# So hot that two answers are never the same, unless they were drawn with the same random numbers.
HOT = Sampling(2.0, 16, seed=1)
# For servers that take no higher temperature.
WARM = replace(HOT, temperature=1.0)


@dataclass(frozen=True, slots=True)
class Ways:
    """Whether n texts come of one call; `unsampled` says why sampling would be wrong, empty where it is right."""

    choices: bool = False
    unsampled: str = ""


class Probe:
    """Finds out the ways of one model's server. They decide how samples are asked for, not what they are."""

    def __init__(self, row: ModelRow, client: OpenAIClient, replica_set: ReplicaSet) -> None:
        self._path = CHAT if row.instruct else COMPLETIONS
        self._instruct = row.instruct
        self._client = client
        self._replica_set = replica_set
        self._asking = asyncio.Lock()
        self._known: tuple[DiscoveredServer, Ways] | None = None

    async def ways(self, server: DiscoveredServer) -> Ways:
        """Return the ways of the server; known servers are not asked again.

        Raises:
            BackendError: it is away, or refuses whatever is asked (key, path, model).

        """
        if server.dialect.choices == "never":
            return Ways()
        async with self._asking:
            if self._known is None or not same(self._known[0], server):
                deadline = time.monotonic() + 2 * PROBE_TIMEOUT_S
                served = await self._replica_set.call(lambda replica: self._probed(replica, server), deadline)
                self._known = (server, served.value)
            return self._known[1]

    async def _probed(self, replica: Replica, server: DiscoveredServer) -> Ways:
        """Find out what `n` and seeds do at a server.

        Some ignore `n`; some give the same text n times, drawn with the same seed; and some give the same text for
        every seed: then twenty samples would be one. What cannot be found out only narrows what is requested.
        """
        one = await self._texts(replica, server, HOT)
        sampling = HOT if one else WARM
        together = await self._texts(replica, server, replace(sampling, count=PROBE_CHOICES))
        if len(together) == PROBE_CHOICES and len(set(together)) > 1:
            return Ways(choices=True)
        other = await self._texts(replica, server, replace(HOT, seed=HOT.seed + 1)) if one else []
        # A server that hides a trace may have no text left to show; that says nothing about its seeds.
        if one != other or not any(one):
            return Ways()
        return Ways(unsampled="it gives the same text for every seed, so samples would be one answer")

    async def _texts(self, replica: Replica, server: DiscoveredServer, sampling: Sampling) -> list[str]:
        """Return the texts of one call; none where the server does not give them in this way."""
        opened = opening(server.name, PROBE, instruct=self._instruct)
        body = closed(opened, options(server.dialect, sampling, sampling.count))
        for pause_s in (PAUSE_S, 0.0):
            try:
                return await self._client.texts(replica, self._path, body, PROBE_TIMEOUT_S)
            except (BackendOverloadedError, BackendTimeoutError):
                raise
            except BackendUnavailableError:
                # One text came before: a server that is there, but fails at several, twice.
                if sampling.count == 1:
                    raise
                await asyncio.sleep(pause_s)
            except BackendError as error:
                if error.details.get("request") == UNASKED["request"]:
                    raise BackendRefusedError(with_hint(error.message, server), details=error.details) from error
                if error.details.get("repeat") != "once":
                    break
        return []
