"""What stands behind an endpoint: which server and version, which weights, whether it gives k answers at once."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safescale.core.errors import BackendRefusedError, FailedPreconditionError
from safescale.core.prompts import Messages
from safescale.inference.backends.messages import CHAT, COMPLETIONS
from safescale.inference.backends.openai_client import OpenAIClient
from safescale.inference.backends.openai_dialect import DIALECTS, Dialect
from safescale.inference.backends.openai_wire import closed, opening, options
from safescale.inference.backends.port import Sampling
from safescale.inference.backends.steps import field
from safescale.inference.catalog import ModelRow
from safescale.inference.endpoints import Endpoints, Replica

ASK_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 300.0
LISTED = 10
"""Models of a server that an error names at most."""

PROBE = Messages("", "Write any sentence that comes to your mind.")
PROBE_CHOICES = 4
# So hot that two answers are never the same, unless they were drawn with the same random numbers.
PROBE_SAMPLING = Sampling(2.0, 16, seed=1)

_VERSION_PATHS: Mapping[str, Sequence[str]] = {
    "vllm": ("/version",),
    "sglang": ("/server_info", "/get_server_info"),
    "llamacpp": ("/props",),
    "tgi": ("/info",),
    "other": (),
}


@dataclass(frozen=True, slots=True)
class Found:
    """A server as it was found: its dialect, version, revision of the weights, and whether `n` texts come of one call.

    `name` is the model's there; `window` its context in tokens, 0 where that is not told. `facts` is what else decides
    its answers, for the fingerprint. `unsampled` says why sampling would be wrong there; empty where it is right.
    """

    dialect: Dialect
    name: str
    version: str
    revision: str
    window: int = 0
    choices: bool = False
    facts: str = ""
    unsampled: str = ""

    @property
    def told(self) -> str:
        """Who the server says that it is."""
        parts = (f"{self.dialect.name} {self.version}", self.facts, f"with {self.revision}")
        return ", ".join(part for part in parts if part)

    @property
    def fingerprint(self) -> str:
        """What decides the answers beside the weights."""
        if self.dialect.name == "llamacpp":
            way = "greedy cold, samples warm"
        else:
            way = "samples of one call" if self.choices else "a call for each sample"
        return ", ".join(part for part in (f"{self.dialect.name} {self.version}", self.facts, way) if part)


class Discovery:
    """Asks servers who they are: one replica at the first use, each before its first call, and again after it was away.

    Answers are kept under what was found, so all replicas must be the same.
    """

    def __init__(self, row: ModelRow, client: OpenAIClient, endpoints: Endpoints) -> None:
        self._row = row
        self._client = client
        self._endpoints = endpoints
        self._asking = asyncio.Lock()
        self._stale = True
        self._checked: set[str] = set()
        self.known: Found | None = None

    async def found(self) -> Found:
        """What stands behind the endpoint.

        Raises:
            FailedPreconditionError: the server has another model.
            SafescaleError: no replica can be asked.

        """
        if self.known is not None and not self._stale:
            return self.known
        async with self._asking:
            if self.known is None or self._stale:
                self.known = await self._find(self.known)
                self._stale = False
            return self.known

    def away(self, replica: Replica | None) -> None:
        """Tell that a replica, or the whole endpoint, did not answer: what comes back may be another server."""
        if replica is not None:
            self._checked.discard(replica.url)
        else:
            self._checked.clear()
            self._stale = True

    async def check(self, replica: Replica, found: Found) -> None:
        """See to it that a replica is what was found.

        Raises:
            FailedPreconditionError: it is another server.

        """
        if replica.url in self._checked:
            return
        now = await self._identity(replica)
        if not _same(found, now):
            self._stale = True
            raise FailedPreconditionError(
                f"{replica.url} is {now.told}, where {self._row.id} was {found.told}: expected equal replicas"
            )
        self._checked.add(replica.url)

    async def _find(self, before: Found | None) -> Found:
        served = await self._endpoints.call(self._identity, time.monotonic() + 10 * ASK_TIMEOUT_S)
        found = served.value
        self._checked = {served.replica.url}
        if found.dialect.choices == "never":
            return found
        if before is not None and _same(before, found):
            # What it took to find out is not asked again of the same server.
            return before
        deadline = time.monotonic() + 2 * PROBE_TIMEOUT_S
        return (await self._endpoints.call(lambda replica: self._probed(replica, found), deadline)).value

    async def _identity(self, replica: Replica) -> Found:
        listed = field(await self._client.told_at(replica, "/v1/models", ASK_TIMEOUT_S), "data")
        models = [model for model in listed if isinstance(model, dict)] if isinstance(listed, list) else []
        flavour: str = self._row.endpoint.flavour if self._row.endpoint else "auto"
        info: Any = None
        if flavour == "auto":
            owner = str(field(models, 0, "owned_by"))
            flavour = owner if owner in ("vllm", "sglang", "llamacpp") else "auto"
        if flavour == "auto":
            info = await self._client.told_at(replica, "/info", ASK_TIMEOUT_S)
            flavour = "tgi" if field(info, "router") == "text-generation-router" else "auto"
        dialect = DIALECTS["other" if flavour == "auto" else flavour]
        for path in _VERSION_PATHS[dialect.name]:
            info = info or await self._client.told_at(replica, path, ASK_TIMEOUT_S)
        self._check_served(dialect, models)
        return self._found(dialect, info, models)

    def _check_served(self, dialect: Dialect, models: Sequence[Mapping[str, Any]]) -> None:
        """A server that answers whatever name it is called by would be measured under the name of another model."""
        if dialect.name == "tgi" or not models:
            return
        names = {str(model.get("id")) for model in models}
        for model in models:
            aliases = model.get("aliases")
            names |= {str(alias) for alias in aliases} if isinstance(aliases, list) else set()
        if self._row.served_model not in names:
            shown = ", ".join(sorted(names)[:LISTED]) + (", …" if len(names) > LISTED else "")
            raise FailedPreconditionError(
                f"the server of {self._row.id} serves {shown}; "
                f"the catalog asks for {self._row.served_model}: set served_model"
            )

    def _found(self, dialect: Dialect, info: Any, models: Sequence[Mapping[str, Any]]) -> Found:
        model = next((one for one in models if self._row.served_model == one.get("id")), models[0] if models else {})
        version = field(info, "build_info") if dialect.name == "llamacpp" else field(info, "version")
        window = field(info, "default_generation_settings", "n_ctx") or model.get("max_model_len")
        window = window if type(window) is int else 0
        slots = field(info, "total_slots")
        facts = ", ".join([f"context {window}"] * bool(window) + [f"slots {slots}"] * bool(slots))
        revision = self._row.revision or _revision(info, model) or self._row.served_model
        return Found(dialect, self._name(dialect), str(version or "of unknown version"), revision, window, facts=facts)

    def _name(self, dialect: Dialect) -> str:
        named = self._row.endpoint.served_model if self._row.endpoint else None
        # TGI takes any other name for that of a LoRA adapter.
        return "tgi" if dialect.name == "tgi" and named is None else self._row.served_model

    async def _probed(self, replica: Replica, found: Found) -> Found:
        """The server with what `n` and seeds do there.

        Some ignore `n`; some give the same text n times, drawn with the same seed; and some give the same text for
        every seed: then twenty samples would be one.
        """
        together = await self._texts(replica, found, PROBE_CHOICES, PROBE_SAMPLING.seed)
        if len(together) == PROBE_CHOICES and len(set(together)) > 1:
            return replace(found, choices=True)
        one = await self._texts(replica, found, 1, PROBE_SAMPLING.seed)
        other = await self._texts(replica, found, 1, PROBE_SAMPLING.seed + 1)
        reason = "" if one != other else "it gives the same text for every seed, so samples would be one answer"
        return replace(found, unsampled=reason)

    async def _texts(self, replica: Replica, found: Found, count: int, seed: int) -> list[str]:
        path = CHAT if self._row.instruct else COMPLETIONS
        opened = opening(found.name, PROBE, instruct=self._row.instruct)
        body = closed(opened, options(found.dialect, replace(PROBE_SAMPLING, seed=seed), count))
        try:
            return await self._client.texts(replica, path, body, PROBE_TIMEOUT_S)
        except BackendRefusedError:
            if count == 1:
                raise
            return []


def _same(before: Found, found: Found) -> bool:
    return replace(before, choices=False, unsampled="") == found


def _revision(info: Any, model: Mapping[str, Any]) -> str:
    """What the server itself tells of its weights; empty when that is nothing."""
    if sha := field(info, "model_sha"):
        return str(sha)
    meta = field(model, "meta")
    if isinstance(meta, dict) and meta.get("n_params"):
        return f"{model.get('id')} of {meta['n_params']} parameters in {meta.get('size')} bytes"
    return str(model.get("root") or "")
