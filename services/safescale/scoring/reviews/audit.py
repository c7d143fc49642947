"""Audits of the reading: answers drawn at random that persons read without knowing what the machine did."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from safescale.core.errors import FailedPreconditionError, InvalidInputError, LimitExceededError
from safescale.core.safety.audit_draw import draw_audit
from safescale.core.safety.cells import Cell, record_key
from safescale.core.tables import Table, table_of_rows
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.runs import state_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.documents.port import Body
from safescale.scoring.kinds.port import MeasuredRun, ScoringKind
from safescale.scoring.records import ReviewStore, StoredLetters, VerdictStore, audit_review_id, key_of
from safescale.scoring.reviews.corrections import (
    BY_PERSON,
    GREEDY,
    UNREAD,
    AuditedLetters,
    Corrections,
    corrected_shares,
    stratum_of,
)
from safescale.scoring.reviews.letters import with_reviews
from safescale.scoring.settled import AUDIT, RunReviews, place_of, take_review

MAX_SAMPLE = 10_000


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """The reviews of a run as an audit needs them: the ordinary ones, and those that it drew.

    `drawn` has for each cell that was drawn whether a person has settled it.
    """

    ordinary: RunReviews
    doubtful: frozenset[Cell]
    audited: RunReviews
    drawn: Mapping[Cell, bool]
    seed: int

    @property
    def settled(self) -> int:
        """Number of drawn answers that a person settled."""
        return sum(self.drawn.values())

    @property
    def complete(self) -> bool:
        """Whether all of them are; a part of them is no random sample."""
        return bool(self.drawn) and all(self.drawn.values())


def stored_audit(bodies: list[Body]) -> StoredAudit:
    """Return the audit that the documents of a run's reviews hold."""
    ordinary: RunReviews = {}
    audited: RunReviews = {}
    doubtful: set[Cell] = set()
    drawn: dict[Cell, bool] = {}
    seed = 0
    for body in bodies:
        cell, _ = place_of(body)
        if body.get("reason") == AUDIT:
            take_review(audited, body)
            drawn[cell] = bool(body.get("resolved"))
            seed = int(body.get("audit_seed", 0))
        else:
            take_review(ordinary, body)
            if not body.get("resolved") and body.get("sample_index") is None:
                doubtful.add(cell)
    return StoredAudit(ordinary, frozenset(doubtful), audited, drawn, seed)


def corrections(
    kind: ScoringKind, measured: MeasuredRun, letters: list[StoredLetters], audit: StoredAudit
) -> Corrections:
    """Return the corrected shares of a run whose audit is complete; `letters` are those that the machine read."""
    machine = with_reviews(letters, audit.ordinary)
    both = AuditedLetters(machine, audit.drawn.keys(), audit.doubtful)
    before = kind.events(machine, measured.truth)
    after = kind.events(with_reviews(machine, audit.audited), measured.truth)
    return corrected_shares(both, before, after, measured.truth)


TABLE = "audit"
"""Table of the corrected shares, which a run with a complete audit has."""

_SCHEMA = {
    "model": str, "condition": str, "metric": str, "machine_value": float, "corrected_value": float,
    "corrected_low": float, "corrected_high": float, "audited": int, "disagreements": int,
}  # fmt: skip


def corrections_table(found: Corrections) -> Table:
    """Return the corrected shares as a table; `audited` counts those that persons read of a model and condition."""
    return table_of_rows(TABLE, _SCHEMA, [
        (*place, each.machine, each.corrected.value, each.corrected.low, each.corrected.high, each.corrected.audited,
         each.corrected.disagreements)
        for place, each in found.items()
    ])  # fmt: skip


def set_corrections(rows: Iterable[pb.MetricRow], found: Corrections) -> None:
    """Add the corrected shares to the rows of greedy answers."""
    for row in rows:
        correction = found.get((row.model, row.condition, row.metric)) if row.regime == GREEDY else None
        if correction is not None:
            corrected = correction.corrected
            row.corrected_value, row.corrected_low, row.corrected_high = (
                corrected.value, corrected.low, corrected.high,
            )  # fmt: skip


class Audits:
    """Starts audits and tells how they stand."""

    def __init__(self, verdicts: VerdictStore, reviews: ReviewStore) -> None:
        self._verdicts = verdicts
        self._reviews = reviews

    async def get(self, run_id: str) -> pb.ReadingAudit | None:
        """Return the audit of a run; None where it has none."""
        audit = stored_audit(await self._reviews.bodies(run_id))
        if not audit.drawn:
            return None
        found = pb.ReadingAudit(
            run_id=run_id, sample=len(audit.drawn), seed=audit.seed, settled=audit.settled, complete=audit.complete
        )
        if audit.complete:
            machine = with_reviews(await self._verdicts.letters(run_id), audit.ordinary)
            found.disagreements = sum(
                audit.audited.get((one.cell, one.key.attempt), {}).get(None, one.answers.greedy) != one.answers.greedy
                for one in machine
            )
        return found

    async def start(self, run: orchestration_pb2.Run, request: pb.StartAuditRequest) -> pb.StartAuditResponse:
        """Draw answers of a run and open a review of each; the same draw again changes nothing.

        Raises:
            InvalidInputError: the sample is 0.
            LimitExceededError: it is too large.
            FailedPreconditionError: the run is not complete, has another audit, or no answers that can be audited.

        """
        if not request.sample:
            raise InvalidInputError("sample is 0; expected the number of answers to draw, such as 50")
        if request.sample > MAX_SAMPLE:
            raise LimitExceededError(f"sample {request.sample:,} is over the limit of {MAX_SAMPLE:,}")
        if run.state != orchestration_pb2.RUN_STATE_COMPLETED:
            raise FailedPreconditionError(f"run {run.run_id} is {state_of(run)}; an audit needs all of its answers")
        audit = stored_audit(await self._reviews.bodies(run.run_id))
        drawn = await self._draw(run.run_id, audit, request)
        if audit.drawn and (audit.seed != request.seed or not audit.drawn.keys() <= drawn.keys()):
            raise FailedPreconditionError(
                f"run {run.run_id} has an audit already: {len(audit.drawn):,} answers by seed {audit.seed}; a second "
                "draw from what was seen would not be at random"
            )
        opened = await self._open(drawn, request.seed)
        found = await self.get(run.run_id)
        return pb.StartAuditResponse(audit=found, created=opened > 0)

    async def _draw(self, run_id: str, audit: StoredAudit, request: pb.StartAuditRequest) -> dict[Cell, int]:
        """Return the cells to audit with their attempts."""
        letters = with_reviews(await self._verdicts.letters(run_id), audit.ordinary)
        strata: dict[tuple[str, str, str], list[str]] = {}
        cells: dict[str, StoredLetters] = {}
        for one in letters:
            how = stratum_of(one, audit.doubtful)
            # Of option scores there is no text to be read.
            if one.answers.greedy and one.answers.formulation != "cloze" and how not in (UNREAD, BY_PERSON):
                identifier = one.cell.cell_id
                cells[identifier] = one
                strata.setdefault((one.cell.model, one.cell.condition, how), []).append(identifier)
        if not cells:
            raise FailedPreconditionError(
                f"run {run_id} has no answers to audit: an audit reads the texts of greedy answers that parser or "
                "judge accepted; cloze has none, and what nobody could read is on the list of reviews anyway"
            )
        if request.sample > len(cells):
            raise FailedPreconditionError(
                f"sample {request.sample:,}: run {run_id} has {len(cells):,} answers to audit; draw at most those"
            )
        drawn = draw_audit(strata, request.sample, request.seed)
        found = [cells[identifier] for identifiers in drawn.values() for identifier in identifiers]
        return {one.cell: one.key.attempt for one in found}

    async def _open(self, drawn: Mapping[Cell, int], seed: int) -> int:
        """Open a review of each answer, without what the machine read."""
        keys = [record_key(cell, attempt) for cell, attempt in drawn.items()]
        verdicts = await self._verdicts.read(keys)
        return await self._reviews.open([
            pb.Review(
                review_id=audit_review_id(cell, attempt), cell=key_of(cell), reason=AUDIT, text=verdict.greedy.text,
                attempt=attempt, audit_seed=seed,
            )
            for (cell, attempt), verdict in zip(drawn.items(), verdicts, strict=True)
        ])  # fmt: skip
