"""Metrics of the engine: latencies and tokens of the answers that models gave, and their cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from safescale.inference.backends.port import Generation, Sampling, Scores
from safescale.inference.catalog import Price
from safescale.runtime.telemetry import Telemetry

MODEL_LATENCY = "safescale_model_latency_seconds"
SAMPLES_LATENCY = "safescale_samples_latency_seconds"


def latency_metric(greedy: bool) -> str:
    """Return the metric that the seconds of an answer belong to."""
    return MODEL_LATENCY if greedy else SAMPLES_LATENCY


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of an answer, in the currency of the catalog's prices; None where it has none.

    `sent` counts the prompt as often as it was sent, which is what most servers bill; `prompt_once` counts it once, as
    one that keeps prompts may.
    """

    sent: float | None
    prompt_once: float | None


@dataclass(frozen=True, slots=True)
class Observer:
    """Metrics of one model under one condition; `price` is per million tokens, None where the catalog has none."""

    telemetry: Telemetry
    model: str
    condition: str
    price: Price | None

    @property
    def nothing(self) -> Cost:
        """Cost of an answer that was there already, or that another caller asked for."""
        return Cost(None, None) if self.price is None else Cost(0.0, 0.0)

    def failed(self, metric: str, reason: str, seconds: float) -> None:
        """Record an attempt that failed after so many seconds."""
        labels = {"model": self.model, "condition": self.condition, "outcome": reason}
        self.telemetry.observe(metric, seconds, labels)

    def repeated(self, reason: str) -> None:
        """Record that an attempt is repeated for that reason."""
        labels = {"model": self.model, "reason": reason}
        self.telemetry.count("safescale_generation_retries_total", 1, labels)

    def answered(self, samplings: Sequence[Sampling], items: Sequence[Generation]) -> Cost:
        """Record an answered prompt; return its cost."""
        for sampling, generation in zip(samplings, items, strict=True):
            self._answer(latency_metric(sampling.greedy), generation.elapsed_s)
            if sampling.greedy:
                self._first_token(generation.time_to_first_token_s)
        sent = sum(generation.prompt_tokens * generation.prompt_calls for generation in items)
        generated = sum(generation.generated_tokens for generation in items)
        return self._tokens(sent, items[0].prompt_tokens, generated)

    def scored(self, scores: Scores) -> Cost:
        """Record a prompt whose continuations were scored; return the cost."""
        self._answer(MODEL_LATENCY, scores.elapsed_s)
        self._first_token(scores.time_to_first_token_s)
        return self._tokens(scores.prompt_tokens * scores.prompt_calls, scores.prompt_tokens, scores.scored_tokens)

    def _answer(self, metric: str, seconds: float) -> None:
        self.telemetry.observe(metric, seconds, {"model": self.model, "condition": self.condition, "outcome": "ok"})

    def _first_token(self, seconds: float | None) -> None:
        if seconds is not None:
            labels = {"model": self.model, "condition": self.condition}
            self.telemetry.observe("safescale_time_to_first_token_seconds", seconds, labels)

    def _tokens(self, sent: int, once: int, generated: int) -> Cost:
        labels = {"model": self.model, "condition": self.condition}
        self.telemetry.count("safescale_tokens_total", sent, {**labels, "kind": "prompt"})
        self.telemetry.count("safescale_tokens_total", generated, {**labels, "kind": "generated"})
        if self.price is None:
            return self.nothing
        cost = self._cost(sent, generated)
        self.telemetry.count("safescale_cost_total", cost, labels)
        return Cost(cost, self._cost(once, generated))

    def _cost(self, prompt: int, generated: int) -> float:
        price = self.price
        return 0.0 if price is None else (prompt * price.prompt + generated * price.generated) / 1e6
