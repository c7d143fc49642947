"""Whether a TGI knows a LoRA adapter: it lists none, and answers under an unknown name as its base model."""

from typing import Any

from safescale.core.errors import GarbageAnswerError
from safescale.inference.backends.steps import Ask, Steps, field
from safescale.inference.backends.tgi.wire import NO_ADAPTER

TEXT = "Findings: The heart is of normal size. The lungs are clear. Impression:"
TOKENS = 16

SAME = 1e-3
"""Log-probabilities that are this near at every token are those of one model; batches move the last digits alone."""


def has_effect(adapter: str) -> Steps[bool]:
    """Return whether a text requested by this name differs from the base model's in a token or log-probability."""
    named = yield from _tokens({"adapter_id": adapter})
    base = yield from _tokens({})
    if [number for number, _ in named] != [number for number, _ in base]:
        return True
    return any(abs(one - other) > SAME for (_, one), (_, other) in zip(named, base, strict=True))


def _tokens(adapter: dict[str, str]) -> Steps[list[tuple[int, float]]]:
    parameters = {"details": True, "do_sample": False, "max_new_tokens": TOKENS, **adapter}
    answer = yield Ask("/generate", {"inputs": TEXT, "parameters": parameters})
    tokens: Any = field(answer, "details", "tokens")
    try:
        return [(int(token["id"]), float(token["logprob"])) for token in tokens]
    except (TypeError, KeyError, ValueError) as error:
        raise GarbageAnswerError("TGI told no tokens of a text (details.tokens)") from error


def unknown(url: str, model: str, adapter: str) -> str:
    """Return the message for an adapter without effect."""
    return (
        f"{url} answers for {model} as {adapter!r} exactly as its base model does: it does not know that adapter "
        f"(--lora-adapters), or it changes nothing; set served_model to one that it has, or to {NO_ADAPTER}"
    )
