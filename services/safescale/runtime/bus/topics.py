"""Names of the topics (docs/bus.md)."""

CONTEXT_REQUESTED = "safescale.context.requested.v1"
RESEARCH_REQUESTED = "safescale.research.requested.v1"
CONTEXT_BUILT = "safescale.context.built.v1"
GENERATION_COMPLETED = "safescale.generation.completed.v1"
VERDICT_RECORDED = "safescale.verdict.recorded.v1"
RUN_ENDED = "safescale.run.ended.v1"
DEAD_LETTER = "safescale.dead-letter.v1"
DEAD_LETTER_REPLAYED = "safescale.dead-letter.replayed.v1"
GENERATION_REQUESTED_PREFIX = "safescale.generation.requested.v1."

BROADCASTS = frozenset({RUN_ENDED})
"""Topics that each process reads from the beginning; of a key the newest message is kept."""


def generation_requested(model: str) -> str:
    """Topic of one model's cells: a topic per model, so that a slow model holds back no other."""
    return GENERATION_REQUESTED_PREFIX + model
