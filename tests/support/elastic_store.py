"""Stores in a real Elasticsearch under a random prefix, with everything removed afterwards."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from safescale.admin.indices import APPLIED, Indices
from safescale.runtime.documents.elastic import ElasticDocuments
from safescale.runtime.documents.elastic_kinds import Kind
from safescale.runtime.elastic import ElasticConnection
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry


def random_prefix() -> str:
    return f"test-{secrets.token_hex(5)}"


def connection(url: str, budget_s: float = 30.0) -> ElasticConnection:
    return ElasticConnection(Settings(elasticsearch=url), Telemetry(), budget_s)


async def apply_all(indices: Indices) -> int:
    """Apply every step of the plan; number of steps."""
    steps = await indices.plan()
    for step in steps:
        assert step.action in APPLIED, step
        await indices.apply(step)
    return len(steps)


async def remove_all(admin: ElasticConnection, prefix: str) -> None:
    async def call(client) -> None:
        found = await client.indices.get(index=f"{prefix}-*", expand_wildcards="all")
        if names := list(found.body):
            await client.indices.delete(index=names)
        await client.options(ignore_status=404).indices.delete_index_template(name=f"{prefix}-*")

    await admin.perform("remove", call)


@asynccontextmanager
async def elastic_documents(url: str, kinds: Sequence[Kind]) -> AsyncIterator[ElasticDocuments]:
    """A store of these kinds whose indices exist for the length of the context."""
    prefix = random_prefix()
    admin = connection(url)
    try:
        await apply_all(Indices(admin, prefix, 0, kinds))
        store = ElasticDocuments(connection(url), prefix, kinds)
        try:
            yield store
        finally:
            await store.close()
    finally:
        await remove_all(admin, prefix)
        await admin.close()
