"""What the engine tells the metrics: latencies and tokens of the answers that models gave, and their cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from safescale.inference.backends.port import Generation, Sampling, Scores
from safescale.inference.catalog import Price
from safescale.runtime.telemetry import Telemetry

MODEL_LATENCY = "safescale_model_latency_seconds"
SAMPLES_LATENCY = "safescale_samples_latency_seconds"


def latency_metric(greedy: bool) -> str:
    """Metric that the seconds of an answer belong to."""
    return MODEL_LATENCY if greedy else SAMPLES_LATENCY


@dataclass(frozen=True, slots=True)
class Observer:
    """Metrics of one model under one condition; `price` is per million tokens, None where the catalog has none."""

    telemetry: Telemetry
    model: str
    condition: str
    price: Price | None

    def failed(self, metric: str, reason: str, seconds: float) -> None:
        """An attempt failed after so many seconds."""
        labels = {"model": self.model, "condition": self.condition, "outcome": reason}
        self.telemetry.observe(metric, seconds, labels)

    def repeated(self, reason: str) -> None:
        """An attempt is repeated for that reason."""
        labels = {"model": self.model, "reason": reason}
        self.telemetry.count("safescale_generation_retries_total", 1, labels)

    def answered(self, samplings: Sequence[Sampling], items: Sequence[Generation]) -> float | None:
        """One prompt was answered; its cost."""
        for sampling, generation in zip(samplings, items, strict=True):
            self._answer(latency_metric(sampling.greedy), generation.elapsed_s)
            if sampling.greedy:
                self._first_token(generation.time_to_first_token_s)
        return self._tokens(items[0].prompt_tokens, sum(generation.generated_tokens for generation in items))

    def scored(self, scores: Scores) -> float | None:
        """One prompt's continuations were scored; the cost."""
        self._answer(MODEL_LATENCY, scores.elapsed_s)
        self._first_token(scores.time_to_first_token_s)
        return self._tokens(scores.prompt_tokens, scores.scored_tokens)

    def _answer(self, metric: str, seconds: float) -> None:
        self.telemetry.observe(metric, seconds, {"model": self.model, "condition": self.condition, "outcome": "ok"})

    def _first_token(self, seconds: float | None) -> None:
        if seconds is not None:
            labels = {"model": self.model, "condition": self.condition}
            self.telemetry.observe("safescale_time_to_first_token_seconds", seconds, labels)

    def _tokens(self, prompt: int, generated: int) -> float | None:
        labels = {"model": self.model, "condition": self.condition}
        self.telemetry.count("safescale_tokens_total", prompt, {**labels, "kind": "prompt"})
        self.telemetry.count("safescale_tokens_total", generated, {**labels, "kind": "generated"})
        if self.price is None:
            return None
        cost = (prompt * self.price.prompt + generated * self.price.generated) / 1e6
        self.telemetry.count("safescale_cost_total", cost, labels)
        return cost
