"""What is recorded of writes, and what happens when it cannot be."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from safescale.core.errors import NotFoundError, PermissionDeniedError, StorageUnavailableError, UnauthenticatedError
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.auth.audit import MAX_ID, REFUSALS, REFUSALS_S, WRITES, WRITES_OF_SOME, Audit, request_id
from safescale.runtime.auth.roles import ANONYMOUS, HELD, METHODS, UNKNOWN, Identity
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments

CREATE = "/safescale.orchestration.v1.OrchestrationService/CreateRun"
CANCEL = "/safescale.orchestration.v1.OrchestrationService/CancelRun"
RESOLVE = "/safescale.scoring.v1.ScoringService/ResolveReview"


class Store:
    """Keeps entries; `down` are the numbers of those that it refuses."""

    def __init__(self, *down: int) -> None:
        self.bodies: list[dict] = []
        self._down = down
        self._tries = 0

    async def put_if_absent(self, document: NewDocument) -> bool:
        self._tries += 1
        if self._tries in self._down:
            raise StorageUnavailableError("away")
        self.bodies.append(dict(document.body))
        return True

    @property
    def outcomes(self) -> list[str]:
        return [body["outcome"] for body in self.bodies]


async def cancel(store: Store, error: BaseException | None = None) -> bool:
    """Whether the work was done."""
    async with Audit(store).record(CANCEL, pb.CancelRunRequest(run_id="r"), ANONYMOUS, {}) as entry:
        if error is not None:
            raise error
        entry.response = pb.CancelRunResponse(run=pb.Run(run_id="run-1"))
    return True


def test_what_is_recorded_is_in_the_table_of_methods() -> None:
    assert set(WRITES) | set(WRITES_OF_SOME) <= set(METHODS)
    assert not set(WRITES) & set(WRITES_OF_SOME)


@pytest.mark.parametrize(("role", "entries"), [("viewer", 0), ("reviewer", 0), ("runner", 2), ("admin", 2)])
async def test_judgements_of_those_who_may_run_are_recorded_with_the_text_of_the_policy(role, entries: int) -> None:
    store = Store()
    method = "/safescale.scoring.v1.ScoringService/EvaluatePolicy"
    request = scoring_pb2.EvaluatePolicyRequest(run_id="run-1", policy="name: a patient's policy")
    async with Audit(store).record(method, request, Identity("x", HELD[role], "token"), {}) as entry:
        entry.response = scoring_pb2.EvaluatePolicyResponse(passed=True, policy_sha256="ab" * 32)
    assert len(store.bodies) == entries
    assert "patient" not in str(store.bodies)
    if entries:
        assert store.bodies[0]["object"]["policy_sha256"] == hashlib.sha256(request.policy.encode()).hexdigest()
        assert store.bodies[1]["object"] == {"passed": "true", "policy_sha256": "ab" * 32}


async def test_a_judgement_of_rows_that_the_caller_brings_changes_nothing() -> None:
    store = Store()
    method = "/safescale.scoring.v1.ScoringService/EvaluatePolicy"
    request = scoring_pb2.EvaluatePolicyRequest(policy="p", rows=[scoring_pb2.MetricRow(model="m")])
    async with Audit(store).record(method, request, Identity("x", HELD["runner"], "token"), {}):
        pass
    assert not store.bodies


async def test_a_write_that_cannot_be_recorded_is_not_done() -> None:
    store, reached = Store(1), False
    with pytest.raises(StorageUnavailableError):
        async with Audit(store).record(CANCEL, pb.CancelRunRequest(), ANONYMOUS, {}):
            reached = True
    assert (reached, store.bodies) == (False, [])


async def test_a_write_that_is_done_stays_so() -> None:
    store = Store(2)
    assert await cancel(store)
    assert store.outcomes == ["asked"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotFoundError("none"), "NOT_FOUND"),
        (ValueError("a patient"), "INTERNAL"),
        (asyncio.CancelledError(), "CUT_OFF"),
    ],
)
async def test_a_failure_is_recorded_by_its_reason(error: BaseException, outcome: str) -> None:
    store = Store()
    with pytest.raises(type(error)):
        await cancel(store, error)
    assert store.outcomes == ["asked", outcome]
    assert "patient" not in str(store.bodies)


async def test_ids_and_letters_are_kept_and_no_notes() -> None:
    store = Store()
    request = scoring_pb2.ResolveReviewRequest(review_id="x" * 999, letter="B", reviewer="dr", note="the patient")
    async with Audit(store).record(RESOLVE, request, ANONYMOUS, {"x-request-id": "id-1"}) as entry:
        entry.response = scoring_pb2.ResolveReviewResponse(review=scoring_pb2.Review(review_id="r-1"))
    assert store.bodies[0]["object"] == {"review_id": "x" * MAX_ID, "letter": "B"}
    assert store.bodies[1]["object"] == {"review_id": "r-1"}
    assert {body["request_id"] for body in store.bodies} == {"id-1"}
    assert {body["who"] for body in store.bodies} == {"anonymous"}
    assert "patient" not in str(store.bodies)


async def test_a_plan_and_a_read_are_no_writes() -> None:
    store = Store()
    async with Audit(store).record(CREATE, pb.CreateRunRequest(validate_only=True), ANONYMOUS, {}):
        pass
    async with Audit(store).record(CANCEL.replace("CancelRun", "ListRuns"), pb.ListRunsRequest(), ANONYMOUS, {}):
        pass
    assert not store.bodies


async def test_entries_of_one_request_stand_side_by_side(tmp_path: Path) -> None:
    documents = await SqliteDocuments.open(tmp_path / "records.db")
    try:
        async with Audit(documents).record(CANCEL, pb.CancelRunRequest(run_id="r"), ANONYMOUS, {}) as entry:
            entry.response = pb.CancelRunResponse(run=pb.Run(run_id="run-1"))
        found = [document.body async for document in documents.scan("audit")]
    finally:
        await documents.close()
    assert [body["outcome"] for body in found] == ["asked", "done"]
    assert found[0]["at_ns"] <= found[1]["at_ns"]


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, b"bytes"])
def test_an_id_that_cannot_be_used_is_made_anew(given: str | bytes) -> None:
    assert request_id({"x-request-id": given}) not in ("", given)
    assert request_id({"x-request-id": "id-1"}) == "id-1"


VIEWER = Identity("dr.mayer", HELD["viewer"], "token")
REFUSED = UnauthenticatedError("the token is not known")


async def test_a_refused_write_is_recorded_with_who_tried() -> None:
    store = Store()
    audit = Audit(store)
    await audit.refused((CANCEL, pb.CancelRunRequest(run_id="r")), VIEWER, PermissionDeniedError("no"), {})
    await audit.refused((CREATE, pb.CreateRunRequest()), UNKNOWN, REFUSED, {"x-request-id": "id-1"})
    await audit.refused(("/safescale.retrieval.v1.RetrievalService/IngestCorpus", None), UNKNOWN, REFUSED, {})
    assert [(b["who"], b["kind"], b["action"], b["outcome"], b["object"]) for b in store.bodies] == [
        ("dr.mayer", "token", "CancelRun", "PERMISSION_DENIED", {"run_id": "r"}),
        ("unknown", "unknown", "CreateRun", "UNAUTHENTICATED", {}),
        ("unknown", "unknown", "IngestCorpus", "UNAUTHENTICATED", {}),
    ]
    assert store.bodies[1]["request_id"] == "id-1"


async def test_a_refused_read_or_plan_is_no_write() -> None:
    store = Store()
    audit = Audit(store)
    await audit.refused((CREATE, pb.CreateRunRequest(validate_only=True)), VIEWER, REFUSED, {})
    await audit.refused((CANCEL.replace("CancelRun", "ListRuns"), pb.ListRunsRequest()), VIEWER, REFUSED, {})
    assert store.bodies == []


async def test_refusals_are_bounded_and_those_left_out_are_counted() -> None:
    store, now = Store(), [0.0]
    audit = Audit(store, lambda: now[0])
    for _ in range(REFUSALS + 7):
        await audit.refused((CREATE, pb.CreateRunRequest()), UNKNOWN, REFUSED, {})
    assert len(store.bodies) == REFUSALS
    now[0] = REFUSALS_S + 1
    await audit.refused((CREATE, pb.CreateRunRequest()), UNKNOWN, REFUSED, {})
    await audit.refused((CREATE, pb.CreateRunRequest()), UNKNOWN, REFUSED, {})
    assert [body["object"] for body in store.bodies[-2:]] == [{"refused_unrecorded": "7"}, {}]


async def test_a_refusal_that_cannot_be_recorded_is_a_refusal_all_the_same() -> None:
    store = Store(1)
    await Audit(store).refused((CREATE, pb.CreateRunRequest()), UNKNOWN, REFUSED, {})
    assert store.bodies == []
