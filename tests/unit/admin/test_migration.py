"""A migration that fails: the old index is released, and what went wrong first is what is said."""

import pytest

from safescale.admin.indices import IndexState, Indices, KindState
from safescale.admin.migration import Migration
from safescale.core.errors import StorageError, StorageUnavailableError
from safescale.runtime.documents.elastic_kinds import Kind

KIND = Kind("k", version=2)
OLD = IndexState("p-k-v1", 1, aliased=True, blocked=False, mapping={}, settings={})


class Scripted:
    """A connection whose operations do nothing, or raise what the script says."""

    def __init__(self, **script: Exception) -> None:
        self.script = script
        self.asked: list[str] = []

    async def perform(self, operation: str, call, budget_s: float | None = None) -> None:
        self.asked.append(operation)
        if operation in self.script:
            raise self.script[operation]

    async def refresh(self, index: str) -> None:
        await self.perform("refresh", None)


async def failed(connection: Scripted) -> list[str]:
    """Migrate with a refresh that fails; what was told."""
    told: list[str] = []
    migration = Migration(connection, Indices(connection, "p", 0, (KIND,)), 0, told.append)
    with pytest.raises(StorageError, match="disk"):
        await migration.migrate(KindState(KIND, None, (OLD,)))
    return told


async def test_the_block_is_taken_off() -> None:
    connection = Scripted(refresh=StorageError("disk"))
    assert await failed(connection) == ["writes to p-k-v1 wait"]
    assert connection.asked == ["create_index", "block", "refresh", "unblock"]


async def test_a_block_that_stays_is_told_and_hides_nothing() -> None:
    connection = Scripted(refresh=StorageError("disk"), unblock=StorageUnavailableError("gone"))
    told = await failed(connection)
    assert told[1] == "p-k-v1 could not be released; writes to it wait until this is done again"


async def test_a_block_that_is_refused_leaves_none_behind() -> None:
    connection = Scripted(block=StorageError("disk"))
    await failed(connection)
    assert connection.asked == ["create_index", "block", "unblock"]
