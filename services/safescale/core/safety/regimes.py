"""The inference regimes of protocol section 3, the paper's ensembles, and the seeds from which answers are drawn."""

import hashlib
from dataclasses import dataclass

_SEEDS = 1 << 31


@dataclass(frozen=True, slots=True)
class Single:
    """One greedy answer: temperature 0 and a bound of new tokens, larger for a model that reasons first."""

    max_new_tokens: int = 10
    reasoning_max_new_tokens: int = 4096
    temperature: float = 0.0

    def new_tokens(self, *, reasoning: bool) -> int:
        """Bound of new tokens for a model that reasons, or does not."""
        return self.reasoning_max_new_tokens if reasoning else self.max_new_tokens


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """`samples` answers drawn at a temperature above 0, of which the majority counts."""

    samples: int = 20
    temperature: float = 0.7


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A majority vote over the greedy answers of different models, named as in the catalog."""

    name: str
    members: tuple[str, ...]


PAPER_ENSEMBLES: tuple[Ensemble, ...] = (
    Ensemble("Dense Mid", ("Qwen3-32B", "gemma-4-31B-it", "Mistral-Small-3.2-24B-Instruct-2506")),
    Ensemble("Frontier", ("Llama-3.3-70B-Instruct", "Mistral-Large-3-675B-Instruct-2512", "DeepSeek-R1")),
    Ensemble("Qwen scale", ("Qwen3-4B", "Qwen3-14B", "Qwen3-32B")),
    Ensemble("Cross scale", ("Meta-Llama-3-8B-Instruct", "Qwen3-32B", "Mistral-Large-3-675B-Instruct-2512")),
)


def cell_seed(run_seed: int, model: str, condition: str, question_id: str) -> int:
    """Seed of a cell, in [0, 2^31): the same whatever else the run asks, in whatever order."""
    parts = "\0".join((str(run_seed), model, condition, question_id))
    digest = hashlib.sha256(parts.encode()).digest()
    return int.from_bytes(digest[:8], "big") % _SEEDS


def sample_seed(base_seed: int, sample_index: int) -> int:
    """Seed of the sample of that index (from 0), in [0, 2^31): consecutive, as model servers count for n answers."""
    return (base_seed + sample_index) % _SEEDS
