"""What persons read of a run, found by cell.

A run has tens of thousands of cells with twenty answers each, and few reviews: a cell is looked up once, and only the
answers that were reviewed are looked at.
"""

from safescale.core.safety.answers.answer_cells import NULL_MARK
from safescale.core.safety.cells import Cell
from safescale.runtime.documents.port import Body

SETTLED_FIELDS = ("cell", "attempt", "sample_index", "resolved", "resolved_letter")
"""Fields of a review's document that are read: never the text."""

CellReviews = dict[int | None, str]
"""Letters that persons read of one attempt of a cell, NULL_MARK for an abstention, by sample (None: greedy)."""

RunReviews = dict[tuple[Cell, int], CellReviews]
"""Settled reviews by cell and attempt."""


AUDIT = "AUDIT"
"""Reason of the review of an answer that was drawn at random."""

AUDIT_FIELDS = (*SETTLED_FIELDS, "reason", "audit_seed")
"""Fields that tell the reviews of an audit from others."""


def place_of(body: Body) -> tuple[Cell, int]:
    """Return cell and attempt of a review's document."""
    key = body.get("cell", {})
    names = ("run_id", "model", "condition", "question_id")
    return Cell(*(key.get(name, "") for name in names)), body.get("attempt", 0)


def take_review(found: RunReviews, body: Body) -> None:
    """Add the review of a stored document, where it is settled."""
    if not body.get("resolved"):
        return
    letters = found.setdefault(place_of(body), {})
    letters[body.get("sample_index")] = body.get("resolved_letter") or NULL_MARK
