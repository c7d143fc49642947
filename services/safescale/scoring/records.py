"""Verdicts and reviews in the document store.

A verdict's document carries its letters in plain fields, from which metrics are computed without decoding the rest.
"""

import base64
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from google.protobuf import json_format

from safescale.core.errors import FailedPreconditionError, NotFoundError
from safescale.core.safety.answers.answer_cells import NULL_MARK, UNREAD_MARK
from safescale.core.safety.answers.assemble import CellAnswers
from safescale.core.safety.cells import Cell, record_key
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.readings import letters_read, marks_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.verdicts import answers_of
from safescale.runtime.documents.port import Body, Document, DocumentStore, NewDocument
from safescale.scoring.readers import completed
from safescale.scoring.settled import AUDIT_FIELDS, SETTLED_FIELDS, RunReviews, take_review

VERDICT = "verdict"
REVIEW = "review"

PAGE = 500
"""Whole verdicts that are read at once."""

SUPERSEDED = "superseded"
"""In place of a reviewer's name where a later attempt took the place of what was to be read."""

OPENED_AT = "opened_at_s"
"""Field of an open review's document beside those of its message."""

KEY_FIELDS = ("model", "condition", "question_id", "attempt", "failure")
READER_FIELDS = ("greedy_by", "samples_by")
"""Who read each answer, a mark each (see `readers`); documents of version 0.1.0 lack them."""

OUTCOME_FIELDS = (*KEY_FIELDS, *READER_FIELDS, "greedy", "samples")
LETTER_FIELDS = (
    *KEY_FIELDS, *READER_FIELDS, "formulation", "greedy", "samples", "latency_s", "cost", "cached", "warnings",
)  # fmt: skip
"""Plain fields of a verdict's document: stores can read them without the rest of it."""


def cell_of(key: common_pb2.CellKey) -> Cell:
    """Return the core form of a cell key."""
    return Cell(key.run_id, key.model, key.condition, key.question_id)


def key_of(cell: Cell) -> common_pb2.CellKey:
    """Return the message of a cell's key."""
    return common_pb2.CellKey(
        run_id=cell.run_id, model=cell.model, condition=cell.condition, question_id=cell.question_id
    )


def _body(verdict: pb.Verdict) -> Body:
    answers = answers_of(verdict)
    greedy_by, samples_by = marks_of(verdict)
    return {
        "model": answers.model,
        "condition": answers.condition,
        "question_id": answers.question_id,
        "attempt": verdict.attempt,
        "formulation": answers.formulation,
        # Who read them tells abstentions from answers that nobody could read.
        "greedy": answers.greedy.replace(UNREAD_MARK, NULL_MARK),
        "samples": answers.samples.replace(UNREAD_MARK, NULL_MARK),
        "greedy_by": greedy_by,
        "samples_by": samples_by,
        "latency_s": answers.latency_s,
        "failure": verdict.failure.reason,
        "cost": verdict.usage.cost if verdict.usage.HasField("cost") else None,
        "cached": verdict.cached,
        "warnings": list(verdict.warnings),
        "verdict": base64.b64encode(verdict.SerializeToString()).decode(),
    }


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What tells whether a verdict is a failure: its cell and attempt, the reason, and the marks of its readers."""

    cell: Cell
    attempt: int
    failure: str
    greedy_by: str
    samples_by: str


@dataclass(frozen=True, slots=True)
class StoredLetters:
    """Letters of one verdict, with what it is of; cost None for a model without a price."""

    key: StoredKey
    answers: CellAnswers
    cost: float | None
    cached: bool
    warnings: tuple[str, ...]

    @property
    def cell(self) -> Cell:
        """Its cell."""
        return self.key.cell


def _key(document: Document) -> StoredKey:
    body = document.body
    cell = Cell(document.group, body["model"], body["condition"], body["question_id"])
    by = (body.get("greedy_by", ""), body.get("samples_by", ""))
    return StoredKey(cell, body["attempt"], body["failure"], *by)


def _letters(document: Document) -> StoredLetters:
    body, key = document.body, _key(document)
    answers = CellAnswers(
        key.cell.model,
        key.cell.condition,
        key.cell.question_id,
        body["formulation"],
        letters_read(body["greedy"], key.greedy_by),
        letters_read(body["samples"], key.samples_by),
        body["latency_s"],
    )
    return StoredLetters(
        key, answers, body.get("cost"), bool(body.get("cached")), tuple(body.get("warnings", ()))
    )  # fmt: skip


class VerdictStore:
    """Verdicts by cell and attempt; each is written once."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def put(self, verdict: pb.Verdict) -> bool:
        """Store a verdict; False when the attempt of its cell has one."""
        key = record_key(cell_of(verdict.cell), verdict.attempt)
        return await self._documents.put_if_absent(NewDocument(VERDICT, key, _body(verdict), verdict.cell.run_id))

    async def get(self, cell: Cell, attempt: int) -> pb.Verdict | None:
        """Return the verdict of one attempt; None when there is none."""
        document = await self._documents.get(VERDICT, record_key(cell, attempt))
        return None if document is None else _decode(document)

    async def newest(
        self, run_id: str, after: str = "", fields: Sequence[str] | None = None
    ) -> AsyncIterator[tuple[str, Document]]:
        """Yield the newest document of each cell of a run after a key, with the key of the cell, ordered by it.

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
        """Return letters of the newest verdict of each cell."""
        found: list[StoredLetters] = []
        async for documents in self._pages(run_id, LETTER_FIELDS):
            found.extend(_letters(one) for one in await self._with_readers(documents))
        return found

    async def keys(self, run_id: str) -> AsyncIterator[StoredKey]:
        """Yield cell, attempt, failure and readers of the newest verdict of each cell, nothing else."""
        async for documents in self._pages(run_id, OUTCOME_FIELDS):
            known = await self._with_readers(documents, nulls_alone=True)
            for document in known:
                yield _key(document)

    async def _pages(self, run_id: str, fields: Sequence[str]) -> AsyncIterator[list[Document]]:
        page: list[Document] = []
        async for _, document in self.newest(run_id, fields=fields):
            page.append(document)
            if len(page) == PAGE:
                yield page
                page = []
        yield page

    async def _with_readers(self, documents: list[Document], *, nulls_alone: bool = False) -> list[Document]:
        """Return the documents with who read their answers, which those of version 0.1.0 do not tell: these are opened.

        With `nulls_alone` only where there is an answer without a letter, which is where a judge can have failed.
        """
        old = [
            one.key
            for one in documents
            if "greedy_by" not in one.body
            and not (nulls_alone and NULL_MARK not in one.body["greedy"] + one.body["samples"])
        ]
        if not old:
            return documents
        found = await self._documents.get_many(VERDICT, old)
        bodies = {key: dict(_body(_decode(one))) for key, one in found.items()}
        return [replace(one, body=bodies.get(one.key, one.body)) for one in documents]

    async def read(self, keys: Sequence[str]) -> list[pb.Verdict]:
        """Return whole verdicts by the keys of their documents, in that order."""
        found = await self._documents.get_many(VERDICT, keys)
        return [_decode(found[key]) for key in keys]

    async def verdicts(self, run_id: str) -> AsyncIterator[pb.Verdict]:
        """Yield the newest verdict of each cell."""
        async for _, document in self.newest(run_id):
            yield _decode(document)


def _decode(document: Document) -> pb.Verdict:
    return completed(pb.Verdict.FromString(base64.b64decode(document.body["verdict"])))


def review_id(cell: Cell, attempt: int, sample_index: int | None) -> str:
    """Return the identifier of the review of one answer: deterministic, so that it is opened once."""
    return f"{record_key(cell, attempt)}/{'greedy' if sample_index is None else f'{sample_index:03d}'}"


def audit_review_id(cell: Cell, attempt: int) -> str:
    """Return the identifier of the review of a greedy answer that an audit drew: a run has one audit."""
    return f"{record_key(cell, attempt)}/audit"


def review_ids(verdict: pb.Verdict, attempt: int) -> list[str]:
    """Return ids that reviews of one attempt of a verdict's cell have, where there are any."""
    cell = cell_of(verdict.cell)
    places = [None, *range(max(verdict.samples_asked, len(verdict.samples)))]
    return [review_id(cell, attempt, place) for place in places]


def _reviewed(verdict: pb.Verdict) -> list[str]:
    """Return ids of reviews that a verdict can have: of a first attempt only of answers with a reason to look.

    Those of later attempts have what was read of the same answers before, too; any greedy answer may have been audited.
    """
    cell = cell_of(verdict.cell)
    audit = audit_review_id(cell, verdict.attempt)
    if verdict.attempt > 1:
        return [*review_ids(verdict, verdict.attempt), audit]
    places = [(None, verdict.greedy), *enumerate(verdict.samples)]
    reviewed = [review_id(cell, verdict.attempt, place) for place, reading in places if reading.review_reason]
    return [*reviewed, audit]


class ReviewStore:
    """Answers that wait for, or had, a hand check."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._settled: Counter[str] = Counter()

    async def open(self, reviews: list[pb.Review]) -> int:
        """Open reviews that are not there yet; number opened."""
        found = [_review_document(review) for review in reviews]
        opened = [replace(one, body={**one.body, OPENED_AT: time.time()}) for one in found]
        return await self._documents.put_many_if_absent(opened)

    async def waiting(self) -> tuple[int, float | None]:
        """Return the number of open reviews, and when the oldest was opened (seconds since 1970; None: not known)."""
        count, oldest = 0, None
        async for document in self._documents.scan(REVIEW, fields=("resolved", OPENED_AT)):
            if document.body.get("resolved"):
                continue
            count += 1
            opened = document.body.get(OPENED_AT)
            if opened is not None:
                oldest = opened if oldest is None else min(oldest, opened)
        return count, oldest

    async def fingerprint(self, run_id: str | None = None) -> tuple[int, int]:
        """Return numbers that change with the reviews of a run, or of all: how many there are, how many were settled.

        What another process settles is not in it.
        """
        settled = self._settled.total() if run_id is None else self._settled[run_id]
        return await self._documents.count(REVIEW, run_id), settled

    async def of_run(self, run_id: str) -> RunReviews:
        """Return what the reviews of a run say, by cell; their texts are not read."""
        found: RunReviews = {}
        async for document in self._documents.scan(REVIEW, run_id, fields=SETTLED_FIELDS):
            take_review(found, document.body)
        return found

    async def bodies(self, run_id: str) -> list[Body]:
        """Return what tells of the reviews of a run whether they are settled, and which an audit drew."""
        return [document.body async for document in self._documents.scan(REVIEW, run_id, fields=AUDIT_FIELDS)]

    async def scan(self, run_id: str, after: str = "") -> AsyncIterator[pb.Review]:
        """Yield reviews of a run (of all runs when empty) after an id, ordered by id."""
        async for document in self._documents.scan(REVIEW, run_id or None, after):
            yield _review(document)

    async def of_verdicts(self, verdicts: Sequence[pb.Verdict]) -> RunReviews:
        """Return what the reviews of some verdicts say, by cell."""
        ids = [identifier for verdict in verdicts for identifier in _reviewed(verdict)]
        found: RunReviews = {}
        for document in (await self._documents.get_many(REVIEW, ids) if ids else {}).values():
            take_review(found, document.body)
        return found

    async def carried_over(self, verdict: pb.Verdict) -> list[pb.Review]:
        """Return reviews of earlier attempts that hold for this: a person read the same answer in the same words."""
        cell = cell_of(verdict.cell)
        places: list[tuple[int | None, pb.Reading]] = [(None, verdict.greedy), *enumerate(verdict.samples)]
        texts = {review_id(cell, verdict.attempt, index): reading.text for index, reading in places}
        found: dict[str, pb.Review] = {}
        for review in map(_review, (await self._earlier(verdict)).values()):
            index = review.sample_index if review.HasField("sample_index") else None
            identifier = review_id(cell, verdict.attempt, index)
            newest = identifier not in found or found[identifier].attempt < review.attempt
            by_person = review.resolved and review.reviewer != SUPERSEDED
            if by_person and review.text == texts.get(identifier) and newest:
                found[identifier] = review
        for identifier, review in found.items():
            review.review_id, review.attempt = identifier, verdict.attempt
        return list(found.values())

    async def close_earlier(self, verdict: pb.Verdict) -> None:
        """Close the open reviews of earlier attempts of a cell: nobody needs to read what counts no more."""
        for document in (await self._earlier(verdict)).values():
            review = _review(document)
            if not review.resolved:
                review.resolved, review.reviewer = True, SUPERSEDED
                review.note = f"attempt {verdict.attempt} of the cell took its place"
                # Somebody who settles it at this moment goes first: that changes nothing.
                await self._documents.put(_review_document(review), expected_version=document.version)
                self._settled[document.group] += 1

    async def _earlier(self, verdict: pb.Verdict) -> dict[str, Document]:
        ids = [one for attempt in range(1, verdict.attempt) for one in review_ids(verdict, attempt)]
        return await self._documents.get_many(REVIEW, ids) if ids else {}

    async def get(self, review_id: str) -> pb.Review:
        """Return one review.

        Raises:
            NotFoundError: there is no such review.

        """
        return _review(await self._find(review_id))

    async def _find(self, review_id: str) -> Document:
        document = await self._documents.get(REVIEW, review_id)
        if document is None:
            raise NotFoundError(f"no review {review_id!r}; `safescale reviews list` lists them")
        return document

    async def resolve(self, request: pb.ResolveReviewRequest, machine: pb.Reading | None = None) -> pb.Review:
        """Settle a review. Who called stands in the audit log; `reviewer` is who they say settled it.

        `machine` is what the machine read, which the review of an audit tells from now on.

        Raises:
            NotFoundError: there is no such review.
            FailedPreconditionError: somebody settled it already, or at this moment.

        """
        document = await self._find(request.review_id)
        review = _review(document)
        if review.reviewer == SUPERSEDED:
            raise FailedPreconditionError(f"review {request.review_id!r} is closed: {review.note}")
        if review.resolved:
            raise FailedPreconditionError(f"review {request.review_id!r} was settled by {review.reviewer}")
        review.resolved = True
        review.reviewer = request.reviewer
        review.note = request.note
        if request.HasField("letter"):
            review.resolved_letter = request.letter
        if machine is not None:
            set_machine(review, machine)
        if await self._documents.put(_review_document(review), expected_version=document.version) is None:
            raise FailedPreconditionError(f"review {request.review_id!r} was settled by somebody else at this moment")
        self._settled[document.group] += 1
        return review


def set_machine(review: pb.Review, reading: pb.Reading) -> None:
    """Add to a review what parser and judge read."""
    if reading.HasField("parsed_letter"):
        review.parsed_letter = reading.parsed_letter
    if reading.judge.HasField("confirmed_answer"):
        review.judge_letter = reading.judge.confirmed_answer


def _review_document(review: pb.Review) -> NewDocument:
    body = json_format.MessageToDict(review, preserving_proto_field_name=True)
    return NewDocument(REVIEW, review.review_id, body, review.cell.run_id)


def _review(document: Document) -> pb.Review:
    return json_format.ParseDict(document.body, pb.Review(), ignore_unknown_fields=True)
