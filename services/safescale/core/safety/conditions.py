"""The deployment conditions of protocol section 2, in the paper's order, and the pairs of section 5 they are tested in.

Adding a condition is adding one row to `CONDITIONS` (and, where it is tested against another, one to `PAIRS`).
"""

import difflib
from dataclasses import dataclass

from safescale.core.errors import InvalidInputError
from safescale.core.safety.builders import AgentReport, BenchmarkField, Builder, MaxContext, NoContext, Padded, TopK


@dataclass(frozen=True, slots=True)
class Condition:
    """One deployment condition: what context is put before the question.

    `id` names it in specs, records and tables, `paper_name` for people.
    """

    id: str
    paper_name: str
    builder: Builder

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The (left, right) pairs of `PAIRS` in which this condition is the left side."""
        return tuple(pair for pair in PAIRS if pair[0] == self.id)


# The two nominal windows carry the paper's budgets for context: 30,000 of 32k and 96,000 of 100k tokens.
CONDITIONS: tuple[Condition, ...] = (
    Condition("zero_shot", "closed-book", NoContext()),
    Condition("evidence_clean", "clean evidence", BenchmarkField("evidence_clean")),
    Condition("evidence_conflict", "conflict evidence", BenchmarkField("evidence_conflict")),
    Condition("top_1", "standard RAG (top-1)", TopK(1)),
    Condition("top_5", "standard RAG (top-5)", TopK(5)),
    Condition("top_10", "standard RAG", TopK(10)),
    Condition("padded_top_1", "padded control", Padded(10)),
    Condition("deep_research", "agentic RAG", AgentReport()),
    Condition("context_32k", "max-context (32k)", MaxContext(30_000, min_window_tokens=32_768)),
    Condition("context_100k", "max-context (100k)", MaxContext(96_000, min_window_tokens=102_400)),
    Condition("context_max", "max-context", MaxContext()),
)

PAIRS: tuple[tuple[str, str], ...] = (
    ("evidence_clean", "zero_shot"),
    ("evidence_conflict", "evidence_clean"),
    ("top_1", "zero_shot"),
    ("top_5", "zero_shot"),
    ("top_10", "zero_shot"),
    ("deep_research", "top_10"),
    ("deep_research", "zero_shot"),
    ("context_100k", "zero_shot"),
    ("context_max", "zero_shot"),
    ("context_100k", "top_10"),
    ("context_max", "top_10"),
    ("context_max", "context_100k"),
)

CONDITION_IDS: tuple[str, ...] = tuple(row.id for row in CONDITIONS)
_BY_ID = {row.id: row for row in CONDITIONS}


def condition(condition_id: str) -> Condition:
    """Return the condition of that id.

    Raises:
        InvalidInputError: no condition has that id; the message suggests the nearest one and lists all.

    """
    if (row := _BY_ID.get(condition_id)) is not None:
        return row
    near = difflib.get_close_matches(condition_id, CONDITION_IDS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InvalidInputError(f"unknown condition {condition_id!r}{hint}; expected one of {', '.join(CONDITION_IDS)}")
