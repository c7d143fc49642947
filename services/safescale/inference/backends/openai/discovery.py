"""What is behind an endpoint: which server and version, which weights, under which names it answers."""

import asyncio
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as default
from typing import Any

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    FailedPreconditionError,
    ModelChangedError,
)
from safescale.inference.backends.messages import CHAT, COMPLETIONS
from safescale.inference.backends.model_names import ModelNames, listed, names_in, names_of, tgi_names
from safescale.inference.backends.openai.client import OpenAIClient
from safescale.inference.backends.openai.dialect import DIALECTS, Dialect
from safescale.inference.backends.steps import field
from safescale.inference.backends.tgi.adapters import has_effect, unknown
from safescale.inference.backends.tgi.wire import NO_ADAPTER
from safescale.inference.catalog import ModelRow
from safescale.inference.upstream.replica_set import Replica, ReplicaSet

ASK_TIMEOUT_S = 30.0
LISTED = 10
"""Models of a server that an error names at most."""

_VERSION_PATHS: Mapping[str, Sequence[str]] = {
    "vllm": ("/version",),
    "sglang": ("/server_info", "/get_server_info"),
    "llamacpp": ("/props",),
    "tgi": ("/info",),
    "other": (),
}


@dataclass(frozen=True, slots=True)
class DiscoveredServer:
    """A server as discovered: its dialect, version and revision of the weights.

    `name` is the model's there; `window` its context in tokens, 0 where that is unknown. `facts` is what else decides
    its answers, for the fingerprint. `hint` is what may help where the server refuses something, since who it is was
    not to be found out. `names` are those under which the model may answer, `undisclosed` the paths at which it, or a
    proxy before it, refused to tell.
    """

    dialect: Dialect
    name: str
    version: str
    revision: str
    window: int = 0
    facts: str = ""
    hint: str = ""
    names: ModelNames = default(default_factory=lambda: ModelNames(""))
    undisclosed: frozenset[str] = frozenset()

    @property
    def description(self) -> str:
        """What the server says it is."""
        parts = (f"{self.dialect.name} {self.version}", self.facts, f"with {self.revision}")
        return ", ".join(part for part in parts if part)

    @property
    def fingerprint(self) -> str:
        """What decides the answers beside the weights, known without a generation."""
        parts = (f"{self.dialect.name} {self.version}", self.facts, WAYS.get(self.dialect.name, ""))
        return ", ".join(part for part in parts if part)


WAYS = {"llamacpp": "greedy cold, samples warm", "tgi": "a call for each sample"}
"""How servers are asked for samples that are always asked in one way."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})(?:/|$)")


_AWAY = (BackendUnavailableError, BackendOverloadedError, BackendTimeoutError)
"""Errors of a server that cannot be asked just now, which say nothing of what it is."""


class Discovery:
    """Asks servers what they are: one replica at the first use, each before its first call, and after it was away.

    Answers are stored under what was discovered, so all replicas must be the same.
    """

    def __init__(self, row: ModelRow, client: OpenAIClient, replica_set: ReplicaSet) -> None:
        self._row = row
        self._client = client
        self._replica_set = replica_set
        self._asking = asyncio.Lock()
        self._stale = True
        self._checked: set[str] = set()
        self._looking: dict[str, asyncio.Lock] = {}
        # Replicas that know the adapter of the row, with what they served then.
        self._adapted: dict[str, tuple[Any, Any]] = {}
        self._looks: dict[str, tuple[float, DiscoveredServer]] = {}
        self.known: DiscoveredServer | None = None

    async def server(self) -> DiscoveredServer:
        """Return the server behind the endpoint.

        Raises:
            FailedPreconditionError: the server has another model.
            SafescaleError: no replica can be asked.

        """
        if self.known is not None and not self._stale:
            return self.known
        async with self._asking:
            if self.known is None or self._stale:
                self.known = await self._discover()
                self._stale = False
            return self.known

    async def refresh(self) -> DiscoveredServer:
        """Return the server behind the endpoint now, by a look at the replicas that waits for no lease.

        Raises:
            SafescaleError: as `server` does.

        """
        if (known := self.known) is not None and not self._stale:
            looks = (await self._looks_at(self._replica_set.replicas)).values()
            answers = [now for now in looks if not isinstance(now, _AWAY)]
            if not answers or any(isinstance(now, BaseException) or _another(known, now) for now in answers):
                self.away(None)
        return await self.server()

    async def _looks_at(self, replicas: Sequence[Replica]) -> Mapping[Replica, "DiscoveredServer | BaseException"]:
        looks = await asyncio.gather(*(self._identity(replica) for replica in replicas), return_exceptions=True)
        return dict(zip(replicas, looks, strict=True))

    def away(self, replica: Replica | None) -> None:
        """Note that a replica, or the whole endpoint, did not answer: what comes back may be another server."""
        if replica is not None:
            self._checked.discard(replica.url)
        else:
            self._checked.clear()
            self._stale = True

    async def check(self, replica: Replica, server: DiscoveredServer) -> None:
        """Check that a replica is the server that was discovered.

        Raises:
            ModelChangedError: it is another server.

        """
        if replica.url in self._checked:
            return
        now = await self._identity(replica)
        self._compare(replica, server, now)
        self._checked.add(replica.url)

    async def confirm(self, replicas: Iterable[Replica], server: DiscoveredServer) -> None:
        """Look at replicas once more after their answers; callers at one time share a look that began after all.

        Raises:
            ModelChangedError: one is another server, or serves another model, than was found.
            BackendError: one cannot be asked.

        """
        since = time.monotonic()
        for replica in replicas:
            async with self._looking.setdefault(replica.url, asyncio.Lock()):
                began, now = self._looks.get(replica.url, (-math.inf, server))
                if began < since:
                    began = time.monotonic()
                    now = await self._look(replica)
                    self._looks[replica.url] = (began, now)
            self._compare(replica, server, now)

    async def _look(self, replica: Replica) -> DiscoveredServer:
        try:
            return await self._identity(replica)
        except FailedPreconditionError as error:
            self._stale = True
            raise ModelChangedError(f"{replica.url} serves another model than before: {error.message}") from error
        except BackendError:
            self._stale = True
            raise

    def _compare(self, replica: Replica, server: DiscoveredServer, now: DiscoveredServer) -> None:
        if not same(server, now):
            if silent := sorted(now.undisclosed - server.undisclosed):
                # A failure at a path that it answered before does not make it another server.
                raise BackendUnavailableError(f"{replica.url} does not tell who it is just now ({', '.join(silent)})")
            self._stale = True
            raise ModelChangedError(
                f"{replica.url} is {now.description}, where {self._row.id} was {server.description}: "
                "expected equal replicas"
            )

    async def _discover(self) -> DiscoveredServer:
        served = await self._replica_set.call(self._identity, time.monotonic() + 10 * ASK_TIMEOUT_S, aside=True)
        server = served.value
        self._checked = {served.replica.url}
        await self._check_others(served.replica, server)
        return server

    async def _check_others(self, known: Replica, server: DiscoveredServer) -> None:
        """Check that the other replicas that can be asked are equal: what is reported holds for all."""
        others = [replica for replica in self._replica_set.replicas if replica != known]
        for replica, now in (await self._looks_at(others)).items():
            if isinstance(now, _AWAY):
                # It is checked before its first call.
                continue
            if isinstance(now, BaseException):
                raise now
            if now.undisclosed <= server.undisclosed:
                self._compare(replica, server, now)
                self._checked.add(replica.url)

    async def _identity(self, replica: Replica) -> DiscoveredServer:
        undisclosed: set[str] = set()
        document = await self._get(replica, "/v1/models", undisclosed)
        listed = field(document, "data")
        models = [model for model in listed if isinstance(model, dict)] if isinstance(listed, list) else []
        if undisclosed and not models:
            await self._check_key(replica)
        flavour: str = self._row.endpoint.flavour if self._row.endpoint else "auto"
        info: Any = None
        hint = ""
        if flavour == "auto":
            owner = str(field(models, 0, "owned_by"))
            flavour = owner if owner in ("vllm", "sglang", "llamacpp") else "auto"
        if flavour == "auto":
            info = await self._get(replica, "/info", undisclosed)
            flavour = "tgi" if field(info, "router") == "text-generation-router" else "auto"
            if flavour == "auto" and ("/info" in undisclosed or not models or _listed_by_tgi(models)):
                hint = "its /info does not tell which server it is; if it is TGI behind a proxy, set flavour: tgi"
        dialect = DIALECTS["other" if flavour == "auto" else flavour]
        for path in _VERSION_PATHS[dialect.name]:
            info = info or await self._get(replica, path, undisclosed)
        self._check_served(dialect, models, hint)
        self._check_revision(replica, info, models)
        if dialect.name == "tgi":
            await self._look_at_tgi(replica, self._name(dialect, _tgi_model(info, models)), info)
        return replace(self._describe(dialect, info, models, hint), undisclosed=frozenset(undisclosed))

    async def _get(self, replica: Replica, path: str, undisclosed: set[str]) -> Any:
        """Return what a server says at a path, None where nothing; add the path to `undisclosed` where it refuses."""
        document, refused = await self._get_json(replica, path)
        if refused:
            undisclosed.add(path)
        return document

    async def _get_json(self, replica: Replica, path: str) -> tuple[Any, bool]:
        """Return the JSON at a path, None where there is none, and whether the server or a proxy before it refuses."""
        for _ in range(2):
            try:
                return await self._client.get_json(replica, path, ASK_TIMEOUT_S), False
            except _AWAY:
                # It is not ready, which says nothing about what it can do.
                raise
            except BackendError as error:
                # A failure can pass, a refusal does not.
                if error.details.get("repeat") != "once":
                    break
        return None, True

    async def _check_key(self, replica: Replica) -> None:
        """Check that a server which hides its models takes our key: a body without a prompt costs nothing.

        Raises:
            BackendRefusedError: it wants another key.

        """
        path = CHAT if self._row.instruct else COMPLETIONS
        if await self._client.wants_key(replica, path, ASK_TIMEOUT_S):
            raise BackendRefusedError(
                f"the server of {self._row.id} wants another API key; see api_key_file (a TGI that hides its /info "
                "behind a proxy needs flavour: tgi, too)"
            )

    def _check_served(self, dialect: Dialect, models: Sequence[Mapping[str, Any]], hint: str) -> None:
        """Refuse a server of another model: it would be measured under a name that is not its own."""
        if dialect.name == "tgi" or not models:
            return
        if not listed(models, self._row.served_model):
            names = {name for model in models for name in names_in(model)}
            shown = ", ".join(sorted(names)[:LISTED]) + (", …" if len(names) > LISTED else "")
            raise FailedPreconditionError(
                f"the server of {self._row.id} serves {shown}; "
                f"the catalog asks for {self._row.served_model}: set served_model" + (f"; {hint}" if hint else "")
            )

    def _check_revision(self, replica: Replica, info: Any, models: Sequence[Mapping[str, Any]]) -> None:
        stated = self._row.revision
        mine = listed(models, self._row.served_model)
        served = field(info, "model_sha")
        # A folder of the hub's cache has the revision in its path.
        if not served and stated and _COMMIT.fullmatch(stated):
            folder = _SNAPSHOT.search(str(mine.get("root") or ""))
            served = folder[1] if folder else None
        if stated and served and stated != served:
            raise BackendError(f"{replica.url} serves revision {served} of {self._row.id}; the catalog states {stated}")

    def _describe(
        self, dialect: Dialect, info: Any, models: Sequence[Mapping[str, Any]], hint: str
    ) -> DiscoveredServer:
        model = listed(models, self._row.served_model) or (models[0] if models else {})
        version = field(info, "build_info") if dialect.name == "llamacpp" else field(info, "version")
        window = field(info, "default_generation_settings", "n_ctx") or model.get("max_model_len")
        window = window if type(window) is int else 0
        slots = field(info, "total_slots")
        also = self._row.endpoint.answers_as if self._row.endpoint else ()
        model_id = _tgi_model(info, models) if dialect.name == "tgi" else ""
        reported = _revision(info, model)
        revision = self._row.revision or reported or self._row.served_model
        # A row states what it expects, and stays when its server comes to serve something else. TGI with a folder
        # reports no sha.
        reported = reported or model_id
        serves = "" if reported == revision else reported
        parts = {
            "serves": serves,
            "context": window,
            "slots": slots,
            "answers as": " or ".join(sorted(also)),
        }
        facts = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
        version = str(version or "of unknown version")
        name = self._name(dialect, model_id)
        names = names_of(self._row.served_model, models, also)
        if dialect.name == "tgi":
            names = tgi_names(name, model_id, *also)
        return DiscoveredServer(dialect, name, version, revision, window, facts=facts, hint=hint, names=names)

    def _name(self, dialect: Dialect, model_id: str) -> str:
        named = self._row.endpoint.served_model if self._row.endpoint else None
        # TGI takes any other name, its model's own included, for that of a LoRA adapter.
        own = named is None or named == model_id
        return NO_ADAPTER if dialect.name == "tgi" and own else self._row.served_model

    async def _look_at_tgi(self, replica: Replica, name: str, info: Any) -> None:
        """Keep to the calls that a TGI takes at once, and check that it knows the adapter."""
        most = field(info, "max_concurrent_requests")
        if type(most) is int and most > 0:
            self._replica_set.bound(replica, most)
        served = (field(info, "model_sha"), field(info, "version"))
        if name == NO_ADAPTER or self._adapted.get(replica.url) == served:
            return
        if not (await self._client.run(replica, has_effect(name), ASK_TIMEOUT_S))[0]:
            raise FailedPreconditionError(unknown(replica.url, self._row.id, name))
        self._adapted[replica.url] = served


def with_hint(message: str, server: DiscoveredServer) -> str:
    """Return the message of a refusal, with what may help."""
    return f"{message}; {server.hint}" if server.hint else message


def _listed_by_tgi(models: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether this looks like TGI's list of models: one, owned by itself, created at time 0."""
    return len(models) == 1 and models[0].get("created") == 0 and models[0].get("owned_by") == models[0].get("id")


def _tgi_model(info: Any, models: Sequence[Mapping[str, Any]]) -> str:
    """Return TGI's own name of its model, which its list has too where a proxy hides the rest."""
    return str(field(info, "model_id") or field(models, 0, "id") or "")


def same(before: DiscoveredServer, after: DiscoveredServer) -> bool:
    """Return whether two looks saw one server."""
    # Servers may list other models today than yesterday, which says nothing of this one.
    return replace(before, names=after.names, hint=after.hint, undisclosed=after.undisclosed) == after


def _another(before: DiscoveredServer, after: DiscoveredServer) -> bool:
    """Return whether a second look saw another server, not one that withholds just now what it said before."""
    return after.undisclosed <= before.undisclosed and not same(before, after)


def _revision(info: Any, model: Mapping[str, Any]) -> str:
    """Return what the server itself reports of its weights; empty when that is nothing."""
    if sha := field(info, "model_sha"):
        return str(sha)
    meta = field(model, "meta")
    if isinstance(meta, dict) and meta.get("n_params"):
        return f"{model.get('id')} of {meta['n_params']} parameters in {meta.get('size')} bytes"
    return str(model.get("root") or "")
