"""Indices in a real Elasticsearch: planned, applied, migrated while services write, and taken up after a stop."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from tests.support.elastic_store import apply_all, connection, random_prefix, remove_all

from safescale.admin.indices import Action, Indices
from safescale.admin.migration import Migrated, Migration
from safescale.core.errors import FailedPreconditionError, StorageError
from safescale.runtime.documents.elastic import ElasticDocuments
from safescale.runtime.documents.elastic_kinds import KINDS, Kind
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.elastic import ElasticConnection

pytestmark = pytest.mark.grid

OLD = Kind("k", page=50)
NEW = replace(OLD, version=2, light=("value",))


@dataclass
class Place:
    admin: ElasticConnection
    url: str
    prefix: str

    def indices(self, kind: Kind, replicas: int = 0) -> Indices:
        return Indices(self.admin, self.prefix, replicas, (kind,))

    def store(self, kind: Kind, budget_s: float = 30.0) -> ElasticDocuments:
        return ElasticDocuments(connection(self.url, budget_s), self.prefix, (kind,))

    async def migrate(self, tell=lambda _: None) -> Migrated | None:
        indices = self.indices(NEW)
        states = await indices.states()
        return await Migration(self.admin, indices, 0, tell).migrate(states[0])

    async def names(self) -> dict[str, list[str]]:
        """Aliases of each index."""

        async def call(client):
            found = await client.indices.get(index=f"{self.prefix}-*")
            return {name: list(entry["aliases"]) for name, entry in found.body.items()}

        return await self.admin.perform("test", call)

    async def run(self, call):
        return await self.admin.perform("test", call)


@pytest.fixture
async def place(elasticsearch_url: str) -> AsyncIterator[Place]:
    admin = connection(elasticsearch_url)
    place = Place(admin, elasticsearch_url, random_prefix())
    yield place
    await remove_all(admin, place.prefix)
    await admin.close()


def new(key: str, value: int = 0) -> NewDocument:
    return NewDocument("k", key, {"value": value, "text": "t"}, "g")


async def test_all_declared_kinds_can_be_applied_and_then_nothing_differs(place: Place) -> None:
    indices = Indices(place.admin, place.prefix)
    assert await apply_all(indices) == 2 * len(KINDS)
    assert await indices.plan() == []
    store = ElasticDocuments(connection(place.url), place.prefix)
    await store.ping()
    await store.close()


async def test_without_indices_nothing_is_written_and_the_way_out_is_named(place: Place) -> None:
    store = place.store(OLD)
    works = (lambda: store.put_if_absent(new("a")), lambda: store.get("k", "a"), lambda: store.count("k"), store.ping)
    for work in works:
        with pytest.raises(StorageError, match="`safescale indices apply`"):
            await work()
    with pytest.raises(StorageError, match="`safescale indices apply`"):
        _ = [document async for document in store.scan("k")]
    await store.close()
    assert await place.names() == {}


async def test_what_differs_is_found_and_put_right(place: Place) -> None:
    indices = place.indices(OLD)
    await apply_all(indices)
    steps = await place.indices(OLD, replicas=1).plan()
    assert [step.action for step in steps] == [Action.PUT_TEMPLATE, Action.PUT_SETTINGS]
    assert steps[1].why == "number_of_replicas is 0, declared 1"
    await place.run(lambda c: c.indices.put_settings(index=f"{place.prefix}-k", settings={"refresh_interval": "1h"}))
    await place.run(lambda c: c.indices.delete_index_template(name=f"{place.prefix}-k"))
    await place.run(lambda c: c.indices.delete_alias(index=f"{place.prefix}-k-v1", name=f"{place.prefix}-k"))
    actions = {step.action for step in await indices.plan()}
    assert actions == {Action.PUT_TEMPLATE, Action.PUT_SETTINGS, Action.ADD_ALIAS}
    await apply_all(indices)
    assert await indices.plan() == []


async def test_what_a_person_must_see_is_not_applied(place: Place) -> None:
    indices = place.indices(OLD)
    await apply_all(indices)
    alias = f"{place.prefix}-k"
    await place.run(lambda c: c.indices.put_mapping(index=alias, properties={"extra": {"type": "keyword"}}))
    await place.run(lambda c: c.indices.add_block(index=alias, block="write"))
    steps = await indices.plan()
    assert [step.action for step in steps] == [Action.ASK, Action.ASK]
    with pytest.raises(ValueError, match="not applied"):
        await indices.apply(steps[0])


async def test_a_program_that_is_older_or_newer_than_the_index_does_not_start(place: Place) -> None:
    await apply_all(place.indices(OLD))
    store = place.store(NEW)
    with pytest.raises(StorageError, match="not of the version of this program"):
        await store.ping()
    await store.close()
    assert [step.action for step in await place.indices(NEW).plan()] == [Action.PUT_TEMPLATE, Action.MIGRATE]
    await place.migrate()
    assert (await place.indices(OLD).plan())[-1].action is Action.ASK
    old = place.indices(OLD)
    states = await old.states()
    with pytest.raises(FailedPreconditionError, match="newer than version 1"):
        await Migration(place.admin, old, 0, print).migrate(states[0])


async def test_migration_keeps_every_write_and_version_while_services_write(place: Place) -> None:
    await apply_all(place.indices(OLD))
    store = place.store(OLD)
    await store.put_many_if_absent([new(f"old-{i:04d}", i) for i in range(180)])
    await store.put(new("old-0003", 33))
    counted = asyncio.Event()
    stop = asyncio.Event()
    written: list[str] = []

    async def write(name: str) -> None:
        while not stop.is_set():
            key = f"{name}-{len(written):05d}"
            assert await store.put_if_absent(new(key))
            written.append(key)

    async def count_up() -> int:
        count = 0
        while not stop.is_set():
            found = await store.get("k", "counter")
            version = 0 if found is None else found.version
            assert await store.put(new("counter", count + 1), expected_version=version) == version + 1
            count += 1
            counted.set()
        return count

    async with asyncio.TaskGroup() as group:
        for name in ("w1", "w2", "w3"):
            group.create_task(write(name))
        counter = group.create_task(count_up())
        await counted.wait()
        migrated = await place.migrate()
        before = len(written)
        while len(written) < before + 5:
            await asyncio.sleep(0.01)
        stop.set()
    assert migrated is not None
    assert migrated.documents == migrated.copied >= 181

    after = place.store(NEW)
    await after.ping()
    keys = [document.key async for document in after.scan("k", fields=["value"])]
    assert keys == sorted({*written, "counter", *(f"old-{i:04d}" for i in range(180))})
    found = await after.get("k", "counter")
    assert found is not None
    assert found.body["value"] == found.version == counter.result()
    third = await after.get("k", "old-0003")
    assert third is not None
    assert (third.body["value"], third.version) == (33, 2)
    assert await after.put(new("old-0003", 34), expected_version=2) == 3
    await after.close()
    await store.close()
    alias = f"{place.prefix}-k"
    assert await place.names() == {f"{alias}-v1": [], f"{alias}-v2": [alias]}
    assert await place.migrate() is None
    states = await place.indices(NEW).states()
    assert await Migration(place.admin, place.indices(NEW), 0, print).drop_old(states[0]) == [f"{alias}-v1"]
    assert await place.names() == {f"{alias}-v2": [alias]}


class Stopped(BaseException):
    """As if the process had been told to stop."""


async def test_a_migration_that_was_stopped_leaves_the_old_index_in_use_and_is_done_again(place: Place) -> None:
    await apply_all(place.indices(OLD))
    store = place.store(OLD)
    await store.put_many_if_absent([new(f"{i:04d}", i) for i in range(180)])

    def stop_in_the_middle(sentence: str) -> None:
        if sentence.startswith("100 documents"):
            raise Stopped

    with pytest.raises(Stopped):
        await place.migrate(stop_in_the_middle)
    # Written after the stop, to documents that are copied already and to others.
    assert await store.put(new("0001", 111), expected_version=1) == 2
    assert await store.put_if_absent(new("9999", 5))
    migrated = await place.migrate()
    assert migrated is not None
    assert (migrated.documents, migrated.copied) == (181, 82)
    found = await store.get("k", "0001")
    assert found is not None
    assert (found.body["value"], found.version) == (111, 2)
    assert await store.count("k") == 181
    await store.close()


async def test_a_migration_that_was_killed_is_finished_by_doing_it_again(place: Place) -> None:
    await apply_all(place.indices(OLD))
    store = place.store(OLD)
    await store.put_many_if_absent([new(f"{i:04d}", i) for i in range(120)])
    await store.close()
    # What a kill leaves behind beside a part of the copy.
    await place.run(lambda c: c.indices.add_block(index=f"{place.prefix}-k", block="write"))
    assert Action.ASK in [step.action for step in await place.indices(OLD).plan()]
    migrated = await place.migrate()
    assert migrated is not None
    assert migrated.copied == 120
    after = place.store(NEW)
    assert await after.put_if_absent(new("new"))
    assert await after.count("k") == 121
    await after.close()
