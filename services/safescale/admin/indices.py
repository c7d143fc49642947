"""Templates, indices and aliases of the documents: what there is, what is declared, and the steps between the two."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elasticsearch import AsyncElasticsearch

from safescale.core.errors import StorageError
from safescale.runtime.documents.elastic_kinds import KINDS, MAPPING, Kind, Naming
from safescale.runtime.elastic import ElasticConnection, reason_of

PRIORITY = 500
"""Of our templates, over those that a cluster has for everything."""

REFRESH_INTERVAL = "30s"
"""For people who look into the indices: our own scans refresh before they read."""


class Action(enum.Enum):
    """What a step does. `MIGRATE` is done by migrating, `ASK` by a person."""

    PUT_TEMPLATE = "put template"
    CREATE_INDEX = "create index"
    ADD_ALIAS = "add alias"
    PUT_SETTINGS = "change settings"
    MIGRATE = "migrate"
    ASK = "look"


APPLIED = frozenset({Action.PUT_TEMPLATE, Action.CREATE_INDEX, Action.ADD_ALIAS, Action.PUT_SETTINGS})


@dataclass(frozen=True, slots=True)
class Step:
    """One difference between what is declared and what there is, and what removes it."""

    action: Action
    kind: Kind
    name: str
    why: str
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexState:
    """An index of ours as it is. `version` is that of its name."""

    name: str
    version: int
    aliased: bool
    blocked: bool
    mapping: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KindState:
    """What there is of a kind: its template and its indices, oldest version first."""

    kind: Kind
    template: Mapping[str, Any] | None
    indices: tuple[IndexState, ...]

    @property
    def current(self) -> IndexState | None:
        """The index behind the alias."""
        return next((index for index in self.indices if index.aliased), None)


def template(kind: Kind, naming: Naming, replicas: int) -> dict[str, Any]:
    """Return the index template of a kind. It matches the index of the declared version only."""
    return {
        "index_patterns": [naming.index(kind)],
        "priority": PRIORITY,
        "version": kind.version,
        "template": {
            "settings": {
                "index": {
                    "number_of_shards": "1",
                    "number_of_replicas": str(replicas),
                    "refresh_interval": REFRESH_INTERVAL,
                }
            },
            "mappings": dict(MAPPING),
        },
    }


async def create_index(client: AsyncElasticsearch, name: str, body: Mapping[str, Any]) -> None:
    """Create an index unless it exists: somebody may have made it now, or our first try had no answer.

    Raises:
        StorageError: Elasticsearch refuses.

    """
    answer = await client.options(ignore_status=[400]).indices.create(index=name, body=dict(body))
    error = answer.body.get("error", {})
    if error and error.get("type") != "resource_already_exists_exception":
        raise StorageError(f"Elasticsearch refused to create {name}: {reason_of(error)}")


class Indices:
    """The indices of the documents in one Elasticsearch."""

    def __init__(
        self, connection: ElasticConnection, prefix: str, replicas: int = 0, kinds: Sequence[Kind] = KINDS
    ) -> None:
        self._connection = connection
        self._kinds = kinds
        self._replicas = replicas
        self.naming = Naming(prefix)

    async def states(self) -> list[KindState]:
        """Return what exists of each kind.

        Raises:
            StorageUnavailableError: Elasticsearch cannot be reached.
            StorageError: it refuses.

        """
        pattern = ",".join(f"{self.naming.alias(kind)}-v*" for kind in self._kinds)

        async def indices(client: AsyncElasticsearch) -> Any:
            return (await client.indices.get(index=pattern, expand_wildcards="all", allow_no_indices=True)).body

        async def templates(client: AsyncElasticsearch) -> Any:
            name = f"{self.naming.prefix}-*"
            return (await client.options(ignore_status=[404]).indices.get_index_template(name=name)).body

        found = await self._connection.perform("indices", indices)
        rows = (await self._connection.perform("indices", templates)).get("index_templates", [])
        by_name = {row["name"]: row["index_template"] for row in rows}
        return [
            KindState(kind, by_name.get(self.naming.alias(kind)), tuple(self._indices_of(kind, found)))
            for kind in self._kinds
        ]

    def _indices_of(self, kind: Kind, found: Mapping[str, Any]) -> list[IndexState]:
        alias = self.naming.alias(kind)
        states = []
        for name, entry in found.items():
            version = name.removeprefix(f"{alias}-v")
            if version == name or not version.isascii() or not version.isdigit():
                continue
            settings = entry["settings"]["index"]
            blocked = settings.get("blocks", {}).get("write") == "true"
            states.append(
                IndexState(name, int(version), alias in entry["aliases"], blocked, entry["mappings"], settings)
            )
        return sorted(states, key=lambda state: state.version)

    async def plan(self) -> list[Step]:
        """Return the steps from what exists to what is declared; none when they agree.

        Raises:
            StorageUnavailableError: Elasticsearch cannot be reached.
            StorageError: it refuses.

        """
        return [step for state in await self.states() for step in self._steps(state)]

    def _steps(self, state: KindState) -> list[Step]:
        kind, steps = state.kind, []
        alias, index = self.naming.alias(kind), self.naming.index(kind)
        wanted = template(kind, self.naming, self._replicas)
        if state.template is None or any(state.template.get(name) != value for name, value in wanted.items()):
            why = "there is none" if state.template is None else "it differs from the declared one"
            steps.append(Step(Action.PUT_TEMPLATE, kind, alias, why, wanted))
        current = state.current
        there = next((found for found in state.indices if found.name == index), None)
        if current is None:
            steps.append(self._first(state, there, wanted["template"]))
        elif current.version > kind.version:
            why = f"{alias} stands on version {current.version}; this program knows {kind.version}: use a newer one"
            steps.append(Step(Action.ASK, kind, current.name, why))
        elif current.version < kind.version:
            why = f"{alias} stands on version {current.version}; {kind.version} is declared"
            steps.append(Step(Action.MIGRATE, kind, index, why))
        if there is not None:
            steps.extend(self._differences(kind, there))
        return steps

    def _first(self, state: KindState, there: IndexState | None, wanted: Mapping[str, Any]) -> Step:
        alias, index = self.naming.alias(state.kind), self.naming.index(state.kind)
        if there is not None:
            return Step(Action.ADD_ALIAS, state.kind, index, f"the alias {alias} is missing", {"alias": alias})
        if state.indices:
            names = ", ".join(found.name for found in state.indices)
            why = f"the alias {alias} is missing and there are {names}; add the alias to the one that is right"
            return Step(Action.ASK, state.kind, alias, why)
        return Step(Action.CREATE_INDEX, state.kind, index, f"there is no {alias}", {**wanted, "aliases": {alias: {}}})

    def _differences(self, kind: Kind, index: IndexState) -> list[Step]:
        steps = []
        if index.mapping != MAPPING:
            why = "its mapping is not the declared one; a mapping is changed with a new version of the kind alone"
            steps.append(Step(Action.ASK, kind, index.name, why))
        if index.aliased and index.blocked:
            why = "writes to it are blocked by somebody; set index.blocks.write to null when nobody needs that"
            steps.append(Step(Action.ASK, kind, index.name, why))
        wanted = {"number_of_replicas": str(self._replicas), "refresh_interval": REFRESH_INTERVAL}
        found = {name: index.settings.get(name) for name in wanted}
        if found != wanted:
            differing = [name for name in wanted if found[name] != wanted[name]]
            why = ", ".join(f"{name} is {found[name]}, declared {wanted[name]}" for name in differing)
            steps.append(Step(Action.PUT_SETTINGS, kind, index.name, why, wanted))
        return steps

    async def apply(self, step: Step) -> None:
        """Take one step. Steps that ask for a migration or a person are not taken here.

        Raises:
            StorageUnavailableError: Elasticsearch cannot be reached.
            StorageError: it refuses.

        """
        if step.action not in APPLIED:
            raise ValueError(f"{step.action} is not applied")

        async def call(client: AsyncElasticsearch) -> None:
            if step.action is Action.PUT_TEMPLATE:
                await client.indices.put_index_template(name=step.name, body=dict(step.body))
            elif step.action is Action.CREATE_INDEX:
                await create_index(client, step.name, step.body)
            elif step.action is Action.ADD_ALIAS:
                await client.indices.put_alias(index=step.name, name=step.body["alias"])
            else:
                await client.indices.put_settings(index=step.name, settings={"index": dict(step.body)})

        await self._connection.perform(step.action.value.replace(" ", "_"), call)
