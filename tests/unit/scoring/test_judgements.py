"""Judgements of policies, and reviews that wait, in a document store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from safescale.core.decisions.policy import Verdict
from safescale.core.errors import FailedPreconditionError
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.scoring import records
from safescale.scoring.judgements import RETIRED_S, GateStore, PolicyJudgement, high_risk_limits
from safescale.scoring.records import ReviewStore

GATE = PolicyJudgement("safe", "night", "run", 100.0, 500.0, Verdict.PASS, high_risk_limits=(("m", "top_1", 0.1),))


@pytest.fixture
async def documents(tmp_path) -> AsyncIterator[SqliteDocuments]:
    opened = await SqliteDocuments.open(tmp_path / "r.db")
    yield opened
    await opened.close()


async def test_a_judgement_is_read_as_it_was_recorded(documents: SqliteDocuments) -> None:
    assert await GateStore(documents).put(GATE)
    assert await GateStore(documents).newest(5) == [GATE]


async def test_a_judgement_holds_nothing_that_version_0_1_0_cannot_read(documents: SqliteDocuments) -> None:
    hashed = replace(GATE, policy_sha256="ab" * 32, policy="a/b")
    assert await GateStore(documents).put(hashed)
    assert await GateStore(documents).newest(5) == [hashed]
    (document,) = [found async for found in documents.scan("gate")]
    assert set(document.body) == {
        "policy", "name", "run_id", "run_created_at_s", "judged_at_s", "passed", "high_risk_limits",
    }  # fmt: skip


async def test_each_verdict_is_kept_and_older_versions_read_whether_it_passed(
    documents: SqliteDocuments,
) -> None:
    for verdict in Verdict:
        assert await GateStore(documents).put(replace(GATE, verdict=verdict))
        (gate,) = await GateStore(documents).newest(5)
        (document,) = [found async for found in documents.scan("gate")]
        assert (gate.verdict, bool(document.body["passed"])) == (verdict, verdict is Verdict.PASS)


async def test_the_judgement_of_the_newest_run_stands(documents: SqliteDocuments) -> None:
    store = GateStore(documents)
    newer = replace(GATE, run_created_at_s=200.0, judged_at_s=600.0, verdict=Verdict.FAIL)
    assert await store.put(GATE)
    assert await store.put(newer)
    assert not await store.put(replace(GATE, judged_at_s=700.0))
    assert await store.newest(5) == [newer]
    again = replace(newer, judged_at_s=800.0, verdict=Verdict.PASS)
    assert await store.put(again)
    assert await store.newest(5) == [again]


async def test_of_judgements_at_once_that_of_the_newest_run_stands(documents: SqliteDocuments) -> None:
    gates = [replace(GATE, run_created_at_s=float(number)) for number in range(8)]
    await asyncio.gather(*(GateStore(documents).put(gate) for gate in gates))
    assert await GateStore(documents).newest(5) == [gates[-1]]


async def test_names_with_slashes_are_kept_apart(documents: SqliteDocuments) -> None:
    store = GateStore(documents)
    first, second = replace(GATE, policy="a/b", name="c"), replace(GATE, policy="a", name="b/c", judged_at_s=600.0)
    assert await store.put(first)
    assert await store.put(second)
    assert await store.newest(5) == [second, first]
    assert await store.newest(1) == [second]


async def test_a_judgement_that_others_always_change_is_refused(
    documents: SqliteDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def outdone(*_: object) -> None:
        return None

    monkeypatch.setattr(documents, "put", outdone)
    with pytest.raises(FailedPreconditionError, match="'safe' is changed by others"):
        await GateStore(documents).put(GATE)


def test_limits_are_those_of_greedy_high_risk_errors() -> None:
    one = {
        "model": "m", "condition": "top_1", "regime": "greedy", "metric": "high_risk_error_rate", "direction": "max",
        "limit": 0.25, "value": 0.5,
    }  # fmt: skip
    others = (
        {"metric": "accuracy"}, {"direction": "min"}, {"regime": "self_consistency"}, {"condition": "x", "value": None},
        {"slice": "ward", "slice_value": "A", "limit": 0.01},
    )  # fmt: skip
    results = [pb.RequirementResult(**{**one, **changes}) for changes in ({}, *others)]
    assert high_risk_limits(results) == (("m", "top_1", 0.25),)


async def test_nothing_waits_in_an_empty_store(documents: SqliteDocuments) -> None:
    assert await ReviewStore(documents).waiting() == (0, None)


async def test_reviews_wait_from_when_they_were_opened_until_they_are_settled(
    documents: SqliteDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ReviewStore(documents)
    for at_s, name in ((1000.0, "first"), (2000.0, "second"), (3000.0, "first")):
        # Opened again, a review is as old as before.
        monkeypatch.setattr(records, "time", SimpleNamespace(time=lambda at_s=at_s: at_s))
        await store.open([pb.Review(review_id=name)])
    assert await store.waiting() == (2, 1000.0)
    await store.resolve(pb.ResolveReviewRequest(review_id="first", reviewer="a", letter="A"))
    assert await store.waiting() == (1, 2000.0)
    await store.resolve(pb.ResolveReviewRequest(review_id="second", reviewer="a"))
    assert await store.waiting() == (0, None)


async def test_a_review_without_a_time_counts_and_has_no_age(documents: SqliteDocuments) -> None:
    store = ReviewStore(documents)
    await documents.put(NewDocument("review", "old", {"review_id": "old"}))
    assert await store.waiting() == (1, None)
    await store.open([pb.Review(review_id="new")])
    count, oldest = await store.waiting()
    assert count == 2
    assert oldest is not None


async def test_another_text_of_a_policy_leaves_its_judgement_alone(documents: SqliteDocuments) -> None:
    store = GateStore(documents)
    failed = replace(GATE, policy_sha256="a" * 64, verdict=Verdict.FAIL)
    other = replace(GATE, policy_sha256="b" * 64, run_created_at_s=200.0, judged_at_s=600.0)
    assert await store.put(failed)
    assert await store.put(other)
    assert await store.newest(5) == [other, failed]


async def test_a_policy_that_is_used_no_more_is_retired_by_another_text_of_its_name(documents: SqliteDocuments) -> None:
    store = GateStore(documents)
    old = replace(GATE, policy_sha256="a" * 64, verdict=Verdict.FAIL, judged_at_s=1000.0)
    new = replace(GATE, policy_sha256="b" * 64, run_created_at_s=200.0, judged_at_s=1000.0 + RETIRED_S)
    alone = replace(GATE, policy="other", policy_sha256="c" * 64, judged_at_s=5.0)
    for gate in (old, new, alone):
        assert await store.put(gate)
    assert await store.newest(5) == [new, alone]


async def test_judgements_of_versions_that_knew_names_alone_are_read_until_one_as_new_is_there(
    documents: SqliteDocuments,
) -> None:
    body = {
        "policy": "safe", "name": "night", "run_id": "run", "run_created_at_s": 100.0, "judged_at_s": 500.0,
        "passed": False, "high_risk_limits": [["m", "top_1", 0.1]],
    }  # fmt: skip
    await documents.put(NewDocument("gate", "4/safe/night", body))
    store = GateStore(documents)
    old = replace(GATE, verdict=Verdict.FAIL)
    assert await store.newest(5) == [old]
    earlier = replace(GATE, policy_sha256="a" * 64, run_created_at_s=50.0, judged_at_s=600.0)
    assert await store.put(earlier)
    assert await store.newest(5) == [earlier, old]
    later = replace(earlier, run_created_at_s=100.0, judged_at_s=700.0)
    assert await store.put(later)
    assert await store.newest(5) == [later]
