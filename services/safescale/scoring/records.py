"""Verdicts and reviews in the document store.

A verdict's document carries its letters in plain fields, from which metrics are computed without decoding the rest.
"""

import base64
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from google.protobuf import json_format

from safescale.core.answer_cells import NULL_MARK
from safescale.core.assemble import CellAnswers
from safescale.core.cells import Cell, record_key
from safescale.core.errors import FailedPreconditionError, NotFoundError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.documents.port import Body, Document, DocumentStore, NewDocument

VERDICT = "verdict"
REVIEW = "review"

OPENED_AT = "opened_at_s"
"""Field of an open review's document beside those of its message."""

KEY_FIELDS = ("model", "condition", "question_id", "attempt", "failure")
LETTER_FIELDS = (*KEY_FIELDS, "formulation", "greedy", "samples", "latency_s", "cost")
"""Plain fields of a verdict's document: stores can read them without the rest of it."""


def cell_of(key: common_pb2.CellKey) -> Cell:
    """Core form of a cell key."""
    return Cell(key.run_id, key.model, key.condition, key.question_id)


def _body(verdict: pb.Verdict) -> Body:
    samples = "".join(r.letter if r.HasField("letter") else NULL_MARK for r in verdict.samples)
    failed = verdict.HasField("failure")
    greedy = ""
    if verdict.greedy_asked:
        greedy = verdict.greedy.letter if verdict.greedy.HasField("letter") else NULL_MARK
    timed = verdict.timings.HasField("greedy_s")
    return {
        "model": verdict.cell.model,
        "condition": verdict.cell.condition,
        "question_id": verdict.cell.question_id,
        "attempt": verdict.attempt,
        "formulation": formulation_from_proto(verdict.formulation),
        "greedy": greedy,
        "samples": NULL_MARK * verdict.samples_asked if failed else samples,
        "latency_s": verdict.timings.greedy_s if timed else None,
        "failure": verdict.failure.reason if failed else "",
        "cost": verdict.usage.cost if verdict.usage.HasField("cost") else None,
        "verdict": base64.b64encode(verdict.SerializeToString()).decode(),
    }


@dataclass(frozen=True, slots=True)
class StoredLetters:
    """Letters of one verdict, with the cell and attempt they belong to; cost None for a model without a price."""

    cell: Cell
    attempt: int
    answers: CellAnswers
    failed: bool
    cost: float | None


def _letters(document: Document) -> StoredLetters:
    body = document.body
    cell = Cell(document.group, body["model"], body["condition"], body["question_id"])
    answers = CellAnswers(
        cell.model,
        cell.condition,
        cell.question_id,
        body["formulation"],
        body["greedy"],
        body["samples"],
        body["latency_s"],
    )
    return StoredLetters(cell, body["attempt"], answers, bool(body["failure"]), body.get("cost"))


class VerdictStore:
    """Verdicts by cell and attempt; each is written once."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def put(self, verdict: pb.Verdict) -> bool:
        """Store a verdict; False when the attempt of its cell has one."""
        key = record_key(cell_of(verdict.cell), verdict.attempt)
        return await self._documents.put_if_absent(NewDocument(VERDICT, key, _body(verdict), verdict.cell.run_id))

    async def get(self, cell: Cell, attempt: int) -> pb.Verdict | None:
        """Verdict of one attempt; None when there is none."""
        document = await self._documents.get(VERDICT, record_key(cell, attempt))
        return None if document is None else _decode(document)

    async def newest(
        self, run_id: str, after: str = "", fields: Sequence[str] | None = None
    ) -> AsyncIterator[tuple[str, Document]]:
        """Newest document of each cell of a run after a key, with the key of the cell, ordered by it.

        With `fields` the documents hold those alone.
        """
        last: tuple[str, Document] | None = None
        async for document in self._documents.scan(VERDICT, run_id, after, fields):
            cell_key = document.key.rpartition("/")[0]
            if last is not None and last[0] != cell_key:
                yield last
            last = (cell_key, document)
        if last is not None:
            yield last

    async def letters(self, run_id: str) -> list[StoredLetters]:
        """Letters of the newest verdict of each cell."""
        return [_letters(document) async for _, document in self.newest(run_id, fields=LETTER_FIELDS)]

    async def keys(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Cell, attempt and failure reason of the newest verdict of each cell, nothing else."""
        async for _, document in self.newest(run_id, fields=KEY_FIELDS):
            yield _key_fields(document)

    async def read(self, keys: Sequence[str]) -> list[pb.Verdict]:
        """Whole verdicts by the keys of their documents, in that order."""
        found = await self._documents.get_many(VERDICT, keys)
        return [_decode(found[key]) for key in keys]

    async def verdicts(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Newest verdict of each cell."""
        async for _, document in self.newest(run_id):
            yield _decode(document)


def _decode(document: Document) -> pb.Verdict:
    return pb.Verdict.FromString(base64.b64decode(document.body["verdict"]))


def _key_fields(document: Document) -> pb.Verdict:
    body = document.body
    verdict = pb.Verdict(
        cell=common_pb2.CellKey(
            run_id=document.group, model=body["model"], condition=body["condition"], question_id=body["question_id"]
        ),
        attempt=body["attempt"],
    )
    if body["failure"]:
        verdict.failure.reason = body["failure"]
    return verdict


def review_id(cell: Cell, attempt: int, sample_index: int | None) -> str:
    """Identifier of the review of one answer: deterministic, so that it is opened once."""
    return f"{record_key(cell, attempt)}/{'greedy' if sample_index is None else f'{sample_index:03d}'}"


class ReviewStore:
    """Answers that wait for, or had, a hand check."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def open(self, reviews: list[pb.Review]) -> int:
        """Open reviews that are not there yet; number opened."""
        found = [_review_document(review) for review in reviews]
        opened = [replace(one, body={**one.body, OPENED_AT: time.time()}) for one in found]
        return await self._documents.put_many_if_absent(opened)

    async def waiting(self) -> tuple[int, float | None]:
        """Number of open reviews, and when the oldest was opened (seconds since 1970; None where that is not known)."""
        count, oldest = 0, None
        async for document in self._documents.scan(REVIEW, fields=("resolved", OPENED_AT)):
            if document.body.get("resolved"):
                continue
            count += 1
            opened = document.body.get(OPENED_AT)
            if opened is not None:
                oldest = opened if oldest is None else min(oldest, opened)
        return count, oldest

    async def scan(self, run_id: str, after: str = "") -> AsyncIterator[pb.Review]:
        """Reviews of a run (of all runs when empty) after an id, ordered by id."""
        async for document in self._documents.scan(REVIEW, run_id or None, after):
            yield _review(document)

    async def get(self, review_id: str) -> pb.Review:
        """One review.

        Raises:
            NotFoundError: there is no such review.

        """
        return _review(await self._find(review_id))

    async def _find(self, review_id: str) -> Document:
        document = await self._documents.get(REVIEW, review_id)
        if document is None:
            raise NotFoundError(f"no review {review_id!r}; `safescale reviews list` lists them")
        return document

    async def resolve(self, request: pb.ResolveReviewRequest) -> pb.Review:
        """Settle a review. Who called stands in the audit log; `reviewer` is who they say settled it.

        Raises:
            NotFoundError: there is no such review.
            FailedPreconditionError: somebody settled it already, or at this moment.

        """
        document = await self._find(request.review_id)
        review = _review(document)
        if review.resolved:
            raise FailedPreconditionError(f"review {request.review_id!r} was settled by {review.reviewer}")
        review.resolved = True
        review.reviewer = request.reviewer
        review.note = request.note
        if request.HasField("letter"):
            review.resolved_letter = request.letter
        if await self._documents.put(_review_document(review), expected_version=document.version) is None:
            raise FailedPreconditionError(f"review {request.review_id!r} was settled by somebody else at this moment")
        return review


def _review_document(review: pb.Review) -> NewDocument:
    body = json_format.MessageToDict(review, preserving_proto_field_name=True)
    return NewDocument(REVIEW, review.review_id, body, review.cell.run_id)


def _review(document: Document) -> pb.Review:
    return json_format.ParseDict(document.body, pb.Review(), ignore_unknown_fields=True)
