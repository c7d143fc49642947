"""An Elasticsearch of our own that is killed, started again and paused under load; and one with users and roles."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import ApiError, AsyncElasticsearch, TransportError
from tests.support.containers import ELASTICSEARCH_IMAGE, freeze
from tests.support.elastic_store import apply_all, random_prefix

from safescale.admin.indices import Indices
from safescale.core.errors import StorageError, StorageUnavailableError
from safescale.runtime.documents.elastic import ElasticDocuments
from safescale.runtime.documents.elastic_kinds import Kind
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.elastic import ElasticConnection
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

pytestmark = [pytest.mark.grid, pytest.mark.timeout(900)]

KIND = Kind("k", light=("value",))
PASSWORD = "a password of this test"
OUTAGE_S = 400.0
"""Longer than a restart takes on a busy machine."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Any, str]]:
    """A container with users and a fixed port, so that it is found again after a restart; and its URL."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

    port = free_port()
    container = DockerContainer(ELASTICSEARCH_IMAGE, mem_limit="1500m").with_bind_ports(9200, port)
    for name, value in {
        "discovery.type": "single-node", "http.host": "0.0.0.0", "transport.host": "127.0.0.1",
        "xpack.security.enabled": "true", "xpack.security.http.ssl.enabled": "false", "ELASTIC_PASSWORD": PASSWORD,
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }.items():  # fmt: skip
        container.with_env(name, value)
    with Network() as network, container.with_network(network):
        url = f"http://127.0.0.1:{port}"
        asyncio.run(answers(url))
        yield container.get_wrapped_container(), url


async def answers(url: str) -> None:
    """Wait until the node serves its users."""
    async with asyncio.timeout(400):
        while True:
            client = AsyncElasticsearch(url, basic_auth=("elastic", PASSWORD), request_timeout=10, max_retries=0)
            try:
                await client.security.authenticate()
                return
            except (ApiError, TransportError):
                await asyncio.sleep(0.5)
            finally:
                await client.close()


async def key_file(url: str, path: Path, role: dict) -> Path:
    """File of an API key with these privileges alone."""
    await answers(url)
    client = AsyncElasticsearch(url, basic_auth=("elastic", PASSWORD), request_timeout=300)
    await client.cluster.health(wait_for_status="yellow", timeout="240s")
    made = await client.security.create_api_key(name="test", role_descriptors={"safescale": role})
    await client.close()
    await asyncio.to_thread(path.write_text, made["encoded"] + "\n")
    return path


def service_role(prefix: str) -> dict:
    """What docs/storage.md gives to services."""
    names = [f"{prefix}-*"]
    return {"indices": [{"names": names, "privileges": ["read", "write", "maintenance", "view_index_metadata"]}]}


def admin_role(prefix: str) -> dict:
    """What docs/storage.md gives to `safescale indices`."""
    names = [f"{prefix}-*"]
    return {
        "cluster": ["manage_index_templates"],
        "indices": [{"names": names, "privileges": ["read", "write", "maintenance", "manage"]}],
    }


class Place:
    """Indices of one kind, and connections with the keys that docs/storage.md describes."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.prefix = random_prefix()

    async def connect(self, name: str, role: dict, budget_s: float = OUTAGE_S) -> ElasticConnection:
        path = await key_file(self.url, self.folder / name, role)
        settings = Settings(elasticsearch=self.url, elasticsearch_api_key_file=path)
        return ElasticConnection(settings, Telemetry(), budget_s)

    async def apply(self) -> None:
        admin = await self.connect("admin", admin_role(self.prefix))
        await apply_all(Indices(admin, self.prefix, 0, (KIND,)))
        assert await Indices(admin, self.prefix, 0, (KIND,)).plan() == []
        await admin.close()

    async def store(self) -> ElasticDocuments:
        return ElasticDocuments(await self.connect("service", service_role(self.prefix)), self.prefix, (KIND,))


def new(key: str, value: int = 0) -> NewDocument:
    return NewDocument("k", key, {"value": value, "text": "x" * 2000}, "g")


async def test_the_least_privileges_are_enough_and_fewer_are_named(node: tuple[Any, str], tmp_path: Path) -> None:
    place = Place(node[1], tmp_path)
    await place.apply()
    store = await place.store()
    await store.ping()
    assert await store.put_if_absent(new("a", 1))
    assert await store.put(new("a", 2), expected_version=1) == 2
    assert [document.body async for document in store.scan("k", fields=["value"])] == [{"value": 2}]
    assert await store.count("k") == 1
    await store.close()

    other = await place.connect("other", service_role("another-prefix"))
    store = ElasticDocuments(other, place.prefix, (KIND,))
    for work in (lambda: store.put_if_absent(new("b")), lambda: store.get("k", "a"), lambda: store.count("k")):
        with pytest.raises(StorageError, match=r"docs/storage\.md"):
            await work()
    with pytest.raises(StorageError, match="that the API key may see"):
        await store.ping()
    await store.close()

    (tmp_path / "wrong").write_text("bm90OmtleQ==")  # an encoded key that nobody has
    settings = Settings(elasticsearch=place.url, elasticsearch_api_key_file=tmp_path / "wrong")
    store = ElasticDocuments(ElasticConnection(settings, Telemetry()), place.prefix, (KIND,))
    with pytest.raises(StorageUnavailableError, match="SAFESCALE_ELASTICSEARCH_API_KEY_FILE"):
        await store.ping()
    await store.close()


async def disturb(container: Any, how: str) -> None:
    if how == "kill":
        await asyncio.to_thread(container.kill)
        await asyncio.sleep(3)
        await asyncio.to_thread(container.start)
    else:
        await asyncio.to_thread(freeze, container)
        await asyncio.sleep(5)
        await asyncio.to_thread(container.unpause)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_an_outage_loses_nothing_and_does_nothing_twice(node: tuple[Any, str], tmp_path: Path, how: str) -> None:
    container, url = node
    place = Place(url, tmp_path)
    await place.apply()
    store = await place.store()
    stop = asyncio.Event()
    written: list[str] = []
    counts: dict[int, int] = {}

    async def write(name: int) -> None:
        while not stop.is_set():
            key = f"{name:02d}-{len(written):06d}"
            assert await store.put_if_absent(new(key, name))
            written.append(key)
            found = await store.get("k", key)
            assert found is not None
            assert found.body["value"] == name

    async def count_up(name: int) -> None:
        """The only writer of its counter: a conflict would be with itself."""
        while not stop.is_set():
            value = counts.get(name, 0)
            assert await store.put(new(f"counter-{name}", value + 1), expected_version=value) == value + 1
            counts[name] = value + 1

    async def scan() -> None:
        while not stop.is_set():
            before = list(written)
            seen = {document.key async for document in store.scan("k", fields=["value"])}
            assert seen.issuperset(before)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for name in range(12):
            group.create_task(write(name))
        for name in range(4):
            group.create_task(count_up(name))
        group.create_task(scan())
        while len(written) < 200:
            await asyncio.sleep(0.01)
        await disturb(container, how)
        before = len(written)
        while len(written) < before + 200:
            await asyncio.sleep(0.05)
        stop.set()
    keys = [document.key async for document in store.scan("k")]
    assert keys == sorted([*written, *(f"counter-{name}" for name in counts)])
    for name, value in counts.items():
        found = await store.get("k", f"counter-{name}")
        assert found is not None
        assert (found.body["value"], found.version) == (value, value)
    await store.close()
