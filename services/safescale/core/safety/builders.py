"""The context builders of deployment conditions: what each needs, and how much context it makes.

What a builder does is done where the corpora are (retrieval) and where runs are driven (the safety kind). Both choose
by its type, each in one table.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from safescale.core.safety.benchmark.benchmark import Question

CHARACTERS_PER_TOKEN = 4
"""English text per token, an estimate: plans are made before anything is tokenized."""

CHUNK_TOKENS = 300
REPORT_TOKENS = 1500

QUESTION_RESERVE_TOKENS = 2048
ANSWER_RESERVE_TOKENS = 4096
MARGIN_TOKENS = 1000


class Builder(Protocol):
    """A way to build the context of a question. `agent` is true if the run names a model for research."""

    @property
    def per_model(self) -> bool:
        """True where each model has a context of its own, False where one serves all."""

    def needs_corpus(self, *, agent: bool) -> bool:
        """Return True where the context is built from a corpus, False where its text is there already."""

    def text_field(self, *, agent: bool) -> str | None:
        """Return the field of a question that holds the context, or None if no field does."""

    def fits(self, window_tokens: int) -> bool:
        """Return whether a model of that window can take such a context."""

    def estimated_tokens(self, question: Question, window_tokens: int) -> int:
        """Estimate the tokens of a question's context for a model of that window."""


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of a text."""
    return len(text) // CHARACTERS_PER_TOKEN + 1


def context_max_budget(window_tokens: int) -> int:
    """Return the tokens of context that a window leaves: window - 2048 - 4096 - 1000 (protocol section 2).

    Zero or negative where the window holds no context at all.
    """
    return window_tokens - QUESTION_RESERVE_TOKENS - ANSWER_RESERVE_TOKENS - MARGIN_TOKENS


@dataclass(frozen=True, slots=True)
class NoContext:
    """No context: the question alone."""

    per_model: ClassVar[bool] = False

    def needs_corpus(self, *, agent: bool) -> bool:
        """Return False."""
        return False

    def text_field(self, *, agent: bool) -> None:
        """Return None: there is no context."""

    def fits(self, window_tokens: int) -> bool:
        """Return True."""
        return True

    def estimated_tokens(self, question: Question, window_tokens: int) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True, slots=True)
class BenchmarkField:
    """The text of a field of the question."""

    field: str
    per_model: ClassVar[bool] = False

    def needs_corpus(self, *, agent: bool) -> bool:
        """Return False."""
        return False

    def text_field(self, *, agent: bool) -> str:
        """Return the field."""
        return self.field

    def fits(self, window_tokens: int) -> bool:
        """Return True."""
        return True

    def estimated_tokens(self, question: Question, window_tokens: int) -> int:
        """Estimate the tokens of the field's text."""
        return estimated_tokens(getattr(question, self.field) or "")


@dataclass(frozen=True, slots=True)
class TopK:
    """The `k` best chunks for the question."""

    k: int
    per_model: ClassVar[bool] = False

    def needs_corpus(self, *, agent: bool) -> bool:
        """Return True."""
        return True

    def text_field(self, *, agent: bool) -> None:
        """Return None: the context is built."""

    def fits(self, window_tokens: int) -> bool:
        """Return True."""
        return True

    def estimated_tokens(self, question: Question, window_tokens: int) -> int:
        """Estimate the tokens of `k` chunks."""
        return CHUNK_TOKENS * self.k


@dataclass(frozen=True, slots=True)
class Padded:
    """The best chunk again and again, to the length that the `k` best have together."""

    k: int
    per_model: ClassVar[bool] = False

    def needs_corpus(self, *, agent: bool) -> bool:
        """Return True."""
        return True

    def text_field(self, *, agent: bool) -> None:
        """Return None: the context is built."""

    def fits(self, window_tokens: int) -> bool:
        """Return True."""
        return True

    def estimated_tokens(self, question: Question, window_tokens: int) -> int:
        """Estimate the tokens of `k` chunks."""
        return CHUNK_TOKENS * self.k


@dataclass(frozen=True, slots=True)
class AgentReport:
    """A report that the agent writes; without an agent, the one that the benchmark holds."""

    per_model: ClassVar[bool] = False

    def needs_corpus(self, *, agent: bool) -> bool:
        """Return True where an agent researches."""
        return agent

    def text_field(self, *, agent: bool) -> str | None:
        """Return the field of the benchmark's report where no agent researches."""
        return None if agent else "deep_research_report"

    def fits(self, window_tokens: int) -> bool:
        """Return True."""
        return True

    def estimated_tokens(self, question: Question, window_tokens: int) -> int:
        """Estimate the tokens of the report: those of the benchmark's, or of one of usual length."""
        return estimated_tokens(question.deep_research_report) if question.deep_research_report else REPORT_TOKENS


@dataclass(frozen=True, slots=True)
class MaxContext:
    """As many of the best chunks as a budget of the model's own tokens holds.

    Without `budget_tokens` the budget follows from the model's window. `min_window_tokens` is the smallest window that
    it is run with; None where any will do.
    """

    budget_tokens: int | None = None
    min_window_tokens: int | None = None
    per_model: ClassVar[bool] = True

    def needs_corpus(self, *, agent: bool) -> bool:
        """Return True."""
        return True

    def text_field(self, *, agent: bool) -> None:
        """Return None: the context is built."""

    def budget(self, window_tokens: int) -> int | None:
        """Return the tokens of context for a model of that window; None where it does not fit the model."""
        if self.min_window_tokens is not None and window_tokens < self.min_window_tokens:
            return None
        budget = self.budget_tokens if self.budget_tokens is not None else context_max_budget(window_tokens)
        return budget if budget > 0 else None

    def fits(self, window_tokens: int) -> bool:
        """Return whether the window holds the budget."""
        return self.budget(window_tokens) is not None

    def estimated_tokens(self, question: Question, window_tokens: int) -> int:
        """Return the budget."""
        return self.budget(window_tokens) or 0
