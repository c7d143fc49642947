"""The connection: which refusals are tried again, for how long, and what the others become."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from tests.support.fakes.elastic import PRODUCT, StubElastic, refuse, serving

from safescale.core.errors import InvalidInputError, StorageError, StorageUnavailableError
from safescale.runtime.elastic import ElasticConnection, TryAgainError, pause_s, reason_of
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry


def outcomes(telemetry: Telemetry) -> dict[str, float]:
    """Exchanges of the operation `test` by outcome."""
    found = {}
    for metric in telemetry.registry.collect():
        for sample in metric.samples:
            if sample.name == "safescale_storage_seconds_count" and sample.labels["operation"] == "test":
                found[sample.labels["outcome"]] = sample.value
    return found


async def ask(client):
    return (await client.perform_request("POST", "/x", headers={"accept": "application/json"})).body


class Place:
    def __init__(self, stub: StubElastic, connection: ElasticConnection, telemetry: Telemetry) -> None:
        self.stub = stub
        self.connection = connection
        self.telemetry = telemetry


@pytest.fixture
async def place():
    stub, telemetry = StubElastic(), Telemetry()
    async with serving(stub) as url:
        connection = ElasticConnection(Settings(elasticsearch=url), telemetry, budget_s=5.0)
        yield Place(stub, connection, telemetry)
        await connection.close()


def reset(_stub: StubElastic, request: web.Request, _body: bytes) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


BLOCK = "cluster_block_exception"


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (lambda *_: refuse(429), "status_429"),
        (lambda *_: refuse(503), "status_503"),
        (lambda *_: refuse(502), "status_502"),
        (lambda *_: refuse(403, BLOCK), "status_403"),
        (reset, "unreachable"),
    ],
)
async def test_what_can_pass_is_tried_again(place: Place, fault, outcome: str) -> None:
    place.stub.fail_next("/x", fault, fault)
    assert await place.connection.perform("test", ask) == {}
    assert outcomes(place.telemetry) == {outcome: 2, "ok": 1}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, "mapper_parsing_exception", "status 400, because"),
        (403, "security_exception", "privileges"),
        (404, "index_not_found_exception", "`safescale indices apply`"),
        (413, "too_large", "status 413"),
        (500, "some_exception", "status 500"),
    ],
)
async def test_other_refusals_are_storage_errors_at_once(place: Place, status: int, kind: str, words: str) -> None:
    place.stub.fail_next("/x", lambda *_: refuse(status, kind))
    with pytest.raises(StorageError, match=words) as raised:
        await place.connection.perform("test", ask)
    assert not raised.value.retryable
    assert len(place.stub.requests) == 1


async def test_a_key_that_was_never_known_is_said_at_once(place: Place) -> None:
    place.stub.fail_next("/x", lambda *_: refuse(401, "security_exception"))
    with pytest.raises(StorageUnavailableError, match="SAFESCALE_ELASTICSEARCH_API_KEY_FILE"):
        await place.connection.perform("test", ask)
    assert len(place.stub.requests) == 1


async def test_a_key_that_was_known_before_is_tried_again(place: Place) -> None:
    await place.connection.perform("test", ask)
    place.stub.fail_next("/x", *[lambda *_: refuse(401, "security_exception")] * 2)
    assert await place.connection.perform("test", ask) == {}
    place.stub.fail_next("/x", *[lambda *_: refuse(401, "security_exception")] * 50)
    with pytest.raises(StorageUnavailableError, match="SAFESCALE_ELASTICSEARCH_API_KEY_FILE"):
        await place.connection.perform("test", ask, budget_s=0.2)


async def test_the_budget_ends_in_storage_unavailable(place: Place) -> None:
    place.stub.fail_next("/x", *[lambda *_: refuse(503)] * 50)
    with pytest.raises(StorageUnavailableError, match=r"for test \(\d+ tries\): status 503, because") as raised:
        await place.connection.perform("test", ask, budget_s=0.3)
    assert raised.value.retryable
    assert 1 < len(place.stub.requests) < 10


async def test_nobody_listens() -> None:
    connection = ElasticConnection(Settings(elasticsearch="http://127.0.0.1:1"), Telemetry(), budget_s=0.2)
    with pytest.raises(StorageUnavailableError, match="Cannot connect"):
        await connection.perform("test", ask)
    with pytest.raises(StorageUnavailableError):
        await connection.ping()
    await connection.close()


async def test_a_call_can_ask_for_another_try(place: Place) -> None:
    tries = 0

    async def call(_client) -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise TryAgainError("part of it was refused")
        return "done"

    assert await place.connection.perform("test", call) == "done"
    assert outcomes(place.telemetry) == {"refused": 2, "ok": 1}


async def test_an_answer_that_is_no_json_is_a_storage_error(place: Place) -> None:
    garbage = web.Response(body=b"{<html>", headers=PRODUCT, content_type="application/json")
    place.stub.fail_next("/x", lambda *_: garbage)
    with pytest.raises(StorageError, match="unreadable answer"):
        await place.connection.perform("test", ask)


async def test_something_else_than_elasticsearch_is_a_storage_error(place: Place) -> None:
    place.stub.fail_next("/x", lambda *_: web.json_response({"hello": "world"}))
    with pytest.raises(StorageError, match="not Elasticsearch"):
        await place.connection.perform("test", ask)


async def test_cancelling_is_not_swallowed(place: Place) -> None:
    place.stub.hold = asyncio.Event()
    task = asyncio.create_task(place.connection.perform("test", ask))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    place.stub.hold.set()
    assert outcomes(place.telemetry) == {"cancelled": 1}


async def test_the_api_key_comes_from_its_file(tmp_path: Path) -> None:
    stub = StubElastic()
    key_file = tmp_path / "key"
    key_file.write_text("c2VjcmV0\n")
    async with serving(stub) as url:
        settings = Settings(elasticsearch=url, elasticsearch_api_key_file=key_file)
        connection = ElasticConnection(settings, Telemetry())
        await connection.perform("test", ask)
        await connection.close()
    assert stub.requests[0][2]["authorization"] == "ApiKey c2VjcmV0"


async def test_several_nodes_stand_in_for_each_other() -> None:
    stub = StubElastic()
    async with serving(stub) as url:
        connection = ElasticConnection(Settings(elasticsearch=f"http://127.0.0.1:1, {url}/"), Telemetry())
        for _ in range(4):
            await connection.perform("test", ask)
        await connection.close()
    assert len(stub.requests) == 4


@pytest.mark.parametrize(
    "value",
    ["", "localhost:9200", "ftp://a:1", "http://a", "http://a:99999", "http://user:pw@a:1", "http://a:1,https://b:2"],
)
def test_urls_that_cannot_be_used_are_named(value: str) -> None:
    with pytest.raises(InvalidInputError, match="SAFESCALE_ELASTICSEARCH"):
        ElasticConnection(Settings(elasticsearch=value), Telemetry())


def test_ca_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    for path in (bad, tmp_path / "none.pem"):
        with pytest.raises(InvalidInputError, match="SAFESCALE_ELASTICSEARCH_CA_FILE"):
            ElasticConnection(Settings(elasticsearch="https://a:1", elasticsearch_ca_file=path), Telemetry())
    with pytest.raises(InvalidInputError, match="not https"):
        ElasticConnection(Settings(elasticsearch="http://a:1", elasticsearch_ca_file=bad), Telemetry())


def test_pauses_grow_to_a_bound() -> None:
    assert all(0.05 <= pause_s(1) <= 0.1 for _ in range(20))
    assert all(1.0 <= pause_s(tries) <= 2.0 for tries in (6, 20, 5000))


@pytest.mark.parametrize(
    "tail",
    [
        ', request: [BulkShardRequest [[i][0]] containing [index {[i][k], source[{"t":"A patient"}]}]]',
        ". Preview of field's value: 'A patient'",
    ],
)
def test_words_of_a_refusal_do_not_repeat_what_was_sent(tail: str) -> None:
    assert reason_of({"reason": "[i][0] primary shard is not active" + tail}) == "[i][0] primary shard is not active"
    assert reason_of({}) == ""
