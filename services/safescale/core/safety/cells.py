"""Cells: their identifiers, seeds' scope and which questions of a benchmark a run asks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from safescale.core.errors import InvalidInputError
from safescale.core.safety.benchmark.benchmark import Question

NAMED = 10
"""Ids that an error names."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """The unit of work: one greedy answer and k samples of one prompt."""

    run_id: str
    model: str
    condition: str
    question_id: str

    @property
    def cell_id(self) -> str:
        """Identifier: 32 hex digits of the SHA-256 of the four parts, joined by NUL."""
        parts = "\0".join((self.run_id, self.model, self.condition, self.question_id))
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


def record_key(cell: Cell, attempt: int) -> str:
    """Key under which the outcome of one attempt of a cell is stored; keys of a run sort together."""
    return f"{cell.run_id}/{cell.cell_id}/{attempt:04d}"


def select_questions(questions: Sequence[Question], ids: Sequence[str], limit: int) -> tuple[str, ...]:
    """Ids of the questions to ask, sorted: those named, or all; of these at most `limit` (0 is no limit).

    A limit takes turns over the subspecialties in id order, so that a part of a benchmark still spans it.

    Raises:
        InvalidInputError: an id that the benchmark does not have.

    """
    by_id = {question.question_id: question for question in questions}
    missing = [identifier for identifier in ids if identifier not in by_id]
    if missing:
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        raise InvalidInputError(f"question ids that the benchmark does not have: {', '.join(missing[:NAMED])}{more}")
    chosen = sorted(set(ids) or by_id)
    if not limit or limit >= len(chosen):
        return tuple(chosen)
    queues: dict[str, list[str]] = {}
    for identifier in chosen:
        queues.setdefault(by_id[identifier].subspecialty, []).append(identifier)
    turns = [(turn, name, identifier) for name, queue in queues.items() for turn, identifier in enumerate(queue)]
    return tuple(sorted(identifier for _, _, identifier in sorted(turns)[:limit]))
