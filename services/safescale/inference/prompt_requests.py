"""Requests to the engine, and its answers."""

from dataclasses import dataclass, field

from safescale.core.safety.prompts import Messages
from safescale.inference.backends.port import Generation, Scores
from safescale.inference.identity import ModelIdentity

CALLS = "rpc"
"""Stands for the condition in metrics of calls that belong to no cell (a judge, an agent, a caller)."""


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """A prompt for a model; `fresh` ignores what the cache holds; `condition` is for metrics alone.

    `expected` is what must answer, in what it states.
    """

    model: str
    messages: Messages
    fresh: bool = False
    condition: str = CALLS
    expected: ModelIdentity = field(default_factory=ModelIdentity)


@dataclass(frozen=True, slots=True)
class GeneratedTexts:
    """One generation per sampling, with what came from the cache, the seconds waited, the revision and the cost.

    All are of one revision. The costs are of what was asked now, by the catalog's price, None where it has none: `cost`
    with the prompt as often as it was sent, `cost_prompt_once` with it once.
    """

    generations: tuple[Generation, ...]
    cached: tuple[bool, ...]
    waited_s: float
    revision: str
    cost: float | None = None
    cost_prompt_once: float | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, once."""
        return self.generations[0].prompt_tokens

    @property
    def prompt_tokens_sent(self) -> int:
        """Tokens of the prompt as often as it was sent."""
        return sum(generation.prompt_tokens * generation.prompt_calls for generation in self.generations)

    @property
    def generated_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(generation.generated_tokens for generation in self.generations)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd about the texts though they count, each once."""
        return tuple(sorted({warning for generation in self.generations for warning in generation.warnings}))


@dataclass(frozen=True, slots=True)
class ScoredContinuations:
    """Scores, whether they came from the cache, the revision, and the costs as in `GeneratedTexts`."""

    scores: Scores
    cached: bool
    revision: str
    cost: float | None = None
    cost_prompt_once: float | None = None

    @property
    def prompt_tokens_sent(self) -> int:
        """Tokens of the prompt as often as it was sent."""
        return self.scores.prompt_tokens * self.scores.prompt_calls
