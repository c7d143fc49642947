"""The deployment conditions of protocol section 2, in the paper's order, and the pairs of section 5 they are tested in.

Adding a condition is adding one row to `CONDITIONS` (and, where it is tested against another, one to `PAIRS`).
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from safescale.core.errors import InvalidInputError

Builder = Literal["none", "evidence_clean", "evidence_conflict", "top_k", "padded", "agent", "max_context"]

QUESTION_RESERVE_TOKENS = 2048
ANSWER_RESERVE_TOKENS = 4096
MARGIN_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Condition:
    """One deployment condition: what context is put before the question.

    `id` names it in specs, records and tables. `k` is the number of chunks (for `padded`: the chunks whose total length
    the repeated first chunk is to reach), else None. `budget_tokens` bounds the context in tokens of the model's own
    tokenizer; None where no budget holds or where it follows from the model's window (`context_max`).
    `min_window_tokens` is the smallest model window it is run with; None if any will do.
    """

    id: str
    paper_name: str
    builder: Builder
    k: int | None = None
    budget_tokens: int | None = None
    min_window_tokens: int | None = None

    @property
    def evidence_field(self) -> str | None:
        """The field of a question that holds this condition's context; None if the benchmark does not hold it."""
        return self.builder if self.builder in {"evidence_clean", "evidence_conflict"} else None

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The (left, right) pairs of `PAIRS` in which this condition is the left side."""
        return tuple(pair for pair in PAIRS if pair[0] == self.id)


# The two nominal windows carry the paper's budgets for context: 30,000 of 32k and 96,000 of 100k tokens.
CONDITIONS: tuple[Condition, ...] = (
    Condition("zero_shot", "closed-book", "none"),
    Condition("evidence_clean", "clean evidence", "evidence_clean"),
    Condition("evidence_conflict", "conflict evidence", "evidence_conflict"),
    Condition("top_1", "standard RAG (top-1)", "top_k", k=1),
    Condition("top_5", "standard RAG (top-5)", "top_k", k=5),
    Condition("top_10", "standard RAG", "top_k", k=10),
    Condition("padded_top_1", "padded control", "padded", k=10),
    Condition("deep_research", "agentic RAG", "agent"),
    Condition("context_32k", "max-context (32k)", "max_context", budget_tokens=30_000, min_window_tokens=32_768),
    Condition("context_100k", "max-context (100k)", "max_context", budget_tokens=96_000, min_window_tokens=102_400),
    Condition("context_max", "max-context", "max_context"),
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


def condition(condition_id: str) -> Condition:
    """The condition of that id.

    Raises InvalidInputError where there is none; the message suggests the nearest id and lists all.
    """
    for row in CONDITIONS:
        if row.id == condition_id:
            return row
    near = difflib.get_close_matches(condition_id, CONDITION_IDS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InvalidInputError(f"unknown condition {condition_id!r}{hint}; expected one of {', '.join(CONDITION_IDS)}")


def context_max_budget(window_tokens: int) -> int:
    """Tokens of context that `context_max` gives a model: window - 2048 - 4096 - 1000 (protocol section 2).

    Zero or negative where the window holds no context at all.
    """
    return window_tokens - QUESTION_RESERVE_TOKENS - ANSWER_RESERVE_TOKENS - MARGIN_TOKENS


def context_budget(row: Condition, window_tokens: int) -> int | None:
    """Tokens of context for a `max_context` condition and a model's window; None if it does not fit the model.

    Raises ValueError for a condition of another kind.
    """
    if row.builder != "max_context":
        raise ValueError(f"{row.id} has no token budget")
    if row.min_window_tokens is not None and window_tokens < row.min_window_tokens:
        return None
    budget = row.budget_tokens if row.budget_tokens is not None else context_max_budget(window_tokens)
    return budget if budget > 0 else None
