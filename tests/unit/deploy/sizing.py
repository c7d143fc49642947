"""The model of docs/deploy/sizing.md, as it stands there."""

from dataclasses import dataclass

from safescale.core.safety.benchmark.benchmark import Question
from safescale.core.safety.builders import CHARACTERS_PER_TOKEN, AgentReport
from safescale.core.safety.conditions import CONDITIONS

PEAK_FLOPS = 989e12
PROMPT_SHARE = 0.4
DECODE_SHARE = 0.05
ANSWERS = 21
QUESTION_TOKENS = 300
EVIDENCE_TOKENS = 400
CHUNK_TOKENS = 300
WINDOW_TOKENS = 131_072
PASSAGE = "x" * (EVIDENCE_TOKENS * CHARACTERS_PER_TOKEN - 1)
QUESTION = Question("q", "?", {"A": "1", "B": "2"}, "A", evidence_clean=PASSAGE, evidence_conflict=PASSAGE)
CONTEXTS = {
    row.id: row.builder.estimated_tokens(QUESTION, WINDOW_TOKENS)
    for row in CONDITIONS
    if not isinstance(row.builder, AgentReport)
}


@dataclass(frozen=True)
class Model:
    """A row of the page: parameters in billions, layers, width of attention."""

    parameters_b: float
    layers: int
    width: int


MODELS = {"1B": Model(1, 16, 2048), "7B": Model(7, 28, 3584), "70B": Model(70, 80, 8192)}


def gpu_seconds(model: Model, condition: str, tokens_of_answer: int = 10) -> float:
    """GPU seconds of a cell."""
    prompt = QUESTION_TOKENS + CONTEXTS[condition]
    each = 2 * model.parameters_b * 1e9
    reading = each * prompt + 2 * model.layers * model.width * prompt**2
    return reading / (PROMPT_SHARE * PEAK_FLOPS) + each * ANSWERS * tokens_of_answer / (DECODE_SHARE * PEAK_FLOPS)


def cells_an_hour(model: Model, condition: str, tokens_of_answer: int = 10) -> str:
    """Cells an hour of one GPU, to two figures."""
    return f"{float(f'{3600 / gpu_seconds(model, condition, tokens_of_answer):.2g}'):,.0f}"
