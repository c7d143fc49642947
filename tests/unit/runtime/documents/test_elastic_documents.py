"""The store over a fake server: what is gathered, what is tried again alone, and whose write a conflict is."""

import asyncio
from collections import deque

import orjson
import pytest
from aiohttp import web
from tests.support.fakes.elastic import StubElastic, refuse, serving

from safescale.core.errors import InvalidInputError, LimitExceededError, StorageError, StorageUnavailableError
from safescale.runtime.documents import elastic_kinds
from safescale.runtime.documents.elastic import ElasticDocuments
from safescale.runtime.documents.elastic_kinds import Kind, id_of
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.elastic import ElasticConnection
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

KINDS = (Kind("k", light=("value",)), Kind("big_ones", page=4))


class Place:
    def __init__(self, stub: StubElastic, store: ElasticDocuments) -> None:
        self.stub = stub
        self.store = store


@pytest.fixture
async def place():
    stub = StubElastic()
    async with serving(stub) as url:
        connection = ElasticConnection(Settings(elasticsearch=url), Telemetry(), budget_s=5.0)
        store = ElasticDocuments(connection, "p", KINDS)
        yield Place(stub, store)
        await store.close()


def new(key: str, value: int = 0, kind: str = "k") -> NewDocument:
    return NewDocument(kind, key, {"value": value}, "g")


REJECTED = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "full"}}


async def test_single_puts_of_many_callers_go_in_few_requests(place: Place) -> None:
    place.stub.hold = asyncio.Event()
    puts = [asyncio.create_task(place.store.put_if_absent(new(f"a{i}", i))) for i in range(10)]
    await asyncio.sleep(0.1)
    puts += [asyncio.create_task(place.store.put_if_absent(new(f"b{i}", i))) for i in range(50)]
    await asyncio.sleep(0.1)
    place.stub.hold.set()
    assert all(await asyncio.gather(*puts))
    assert [body.count(b'"create"') for body in place.stub.sent("/_bulk")] == [10, 50]


async def test_reads_are_bounded_by_the_page_of_their_kind(place: Place) -> None:
    await place.store.put_many_if_absent([new(str(i), i, "big_ones") for i in range(10)])
    found = await place.store.get_many("big_ones", [str(i) for i in range(10)])
    assert {key: document.body["value"] for key, document in found.items()} == {str(i): i for i in range(10)}
    assert [len(orjson.loads(body)["docs"]) for body in place.stub.sent("/_mget")] == [4, 4, 2]


async def test_writes_are_bounded_by_their_bytes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "x" * 1_500_000
    documents = [NewDocument("k", str(i), {"text": text}) for i in range(5)]
    assert await place.store.put_many_if_absent(documents) == 5
    assert [len(body.splitlines()) // 2 for body in place.stub.sent("/_bulk")] == [2, 2, 1]


async def test_refused_items_are_written_again_alone(place: Place) -> None:
    place.stub.item_faults["b"] = deque([REJECTED, REJECTED])
    assert await place.store.put_many_if_absent([new("a"), new("b"), new("c")]) == 3
    assert [body.count(b'"create"') for body in place.stub.sent("/_bulk")] == [3, 1, 1]


async def test_an_item_that_is_refused_as_such_is_named_and_the_others_stand(place: Place) -> None:
    fault = {"status": 400, "error": {"type": "strict_dynamic_mapping_exception", "reason": "not allowed"}}
    place.stub.item_faults["b"] = deque([fault])
    with pytest.raises(StorageError, match="refused k 'b' with status 400, not allowed"):
        await place.store.put_many_if_absent([new("a"), new("b"), new("c")])
    assert {key for _, key in place.stub.stored} == {"a", "c"}


async def test_an_item_that_is_refused_too_long_is_unavailable() -> None:
    stub = StubElastic()
    stub.item_faults["b"] = deque([REJECTED] * 50)
    async with serving(stub) as url:
        connection = ElasticConnection(Settings(elasticsearch=url), Telemetry(), budget_s=0.2)
        store = ElasticDocuments(connection, "p", KINDS)
        with pytest.raises(StorageUnavailableError, match="refused k 'b' with status 429"):
            await store.put_if_absent(new("b"))
        await store.close()


async def test_a_missing_alias_says_what_creates_it(place: Place) -> None:
    fault = {"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such alias"}}
    place.stub.item_faults["a"] = deque([fault])
    with pytest.raises(StorageError, match="`safescale indices apply`"):
        await place.store.put_if_absent(new("a"))


async def test_a_put_whose_answer_was_lost_is_our_own(place: Place) -> None:
    place.stub.lose_answers = 1
    assert await place.store.put_if_absent(new("a", 1))
    assert len(place.stub.sent("/_bulk")) == 2
    assert not await place.store.put_if_absent(new("a", 2))


async def test_a_lost_answer_does_not_claim_what_another_wrote(place: Place) -> None:
    await place.store.put_if_absent(new("a", 1))
    place.stub.lose_answers = 1
    assert not await place.store.put_if_absent(new("a", 2))
    place.stub.lose_answers = 1
    assert await place.store.put_many_if_absent([new("a", 2), new("b", 2)]) == 1


async def test_a_compare_and_set_whose_answer_was_lost_is_no_conflict(place: Place) -> None:
    await place.store.put_if_absent(new("a", 1))
    # The reading of the version is answered, the write is done and its answer lost.
    place.stub.fail_next("/_mget", lambda stub, *_: setattr(stub, "lose_answers", 0))
    place.stub.fail_next("/_bulk", lambda stub, *_: setattr(stub, "lose_answers", 1))
    assert await place.store.put(new("a", 2), expected_version=1) == 2
    assert len(place.stub.sent("/_bulk")) == 3
    found = await place.store.get("k", "a")
    assert found is not None
    assert (found.body, found.version) == ({"value": 2}, 2)


async def test_a_compare_and_set_that_lost_the_race_is_a_conflict(place: Place) -> None:
    await place.store.put_if_absent(new("a", 1))

    def overtaken(stub: StubElastic, *_):
        stub._write("index", {"_index": "p-k", "_id": "a"}, {"key": "a", "group": "g", "by": "x", "body": {"value": 9}})

    place.stub.fail_next("/_bulk", overtaken)
    assert await place.store.put(new("a", 2), expected_version=1) is None


async def test_an_id_that_holds_another_key_is_never_taken_for_it(place: Place) -> None:
    long = "k" * 600
    place.stub._write(
        "index", {"_index": "p-k", "_id": id_of(long)}, {"key": "other", "group": "", "by": "x", "body": {}}
    )
    with pytest.raises(StorageError, match="two keys have one hash"):
        await place.store.get("k", long)


async def test_reads_that_find_no_shard_are_tried_again(place: Place) -> None:
    await place.store.put_if_absent(new("a", 1))
    row = {"_index": "p-k", "_id": "a", "error": {"type": "no_shard_available_action_exception", "reason": "none"}}
    answer = orjson.dumps({"docs": [row]})
    place.stub.fail_next(
        "/_mget",
        lambda *_: web.Response(
            body=answer, headers={"X-Elastic-Product": "Elasticsearch"}, content_type="application/json"
        ),
    )
    found = await place.store.get("k", "a")
    assert found is not None
    assert len(place.stub.sent("/_mget")) == 2


async def test_an_outage_is_waited_out(place: Place) -> None:
    place.stub.fail_next("/_bulk", *[lambda *_: refuse(503)] * 3)
    place.stub.fail_next("/_mget", *[lambda *_: refuse(503)] * 2)
    assert await place.store.put_if_absent(new("a", 1))
    assert await place.store.get("k", "a") is not None


async def test_a_kind_that_nobody_declared_is_an_error_of_the_program(place: Place) -> None:
    with pytest.raises(ValueError, match="'unknown' is not declared"):
        await place.store.put_if_absent(new("a", kind="unknown"))


async def test_what_cannot_be_kept_is_refused_before_it_is_sent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_kinds, "MAX_DOCUMENT_BYTES", 1000)
    with pytest.raises(LimitExceededError, match=r"k 'a' has \d+ bytes; expected at most 1000"):
        await place.store.put_if_absent(NewDocument("k", "a", {"text": "x" * 1000}))
    with pytest.raises(InvalidInputError, match="9000 bytes; expected at most 8192"):
        await place.store.put_if_absent(new("x" * 9000))
    with pytest.raises(InvalidInputError, match="half a character"):
        await place.store.put_if_absent(new("\ud800"))
    with pytest.raises(InvalidInputError, match="group"):
        await place.store.put_if_absent(NewDocument("k", "a", {}, "g" * 9000))
    assert place.stub.requests == []


async def test_what_was_written_since_it_was_read_is_not_removed(place: Place) -> None:
    await place.store.put_many_if_absent([new(key) for key in ("a", "b", "c")])
    read = list((await place.store.get_many("k", ["a", "b", "c"])).values())
    await place.store.put(new("b", 2))
    assert await place.store.delete(read) == 2
    assert set(await place.store.get_many("k", ["a", "b", "c"])) == {"b"}
    # Gone already, such as by another process: no error, and not counted twice.
    assert await place.store.delete(read) == 0


async def test_a_removal_that_comes_second_is_none(place: Place) -> None:
    await place.store.put_many_if_absent([new(key) for key in ("a", "b")])
    read = list((await place.store.get_many("k", ["a", "b"])).values())
    gone = {"status": 404, "_version": 2}
    beaten = {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "conflict"}}
    place.stub.item_faults = {"a": deque([gone]), "b": deque([beaten])}
    assert await place.store.delete(read) == 0


async def test_a_removal_from_an_index_that_is_not_there_is_an_error(place: Place) -> None:
    await place.store.put_if_absent(new("a"))
    read = list((await place.store.get_many("k", ["a"])).values())
    absent = {"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such index"}}
    place.stub.item_faults = {"a": deque([absent])}
    with pytest.raises(StorageError, match="no such index"):
        await place.store.delete(read)
