"""How much memory an analysis takes, computed from its dimensions before anything is allocated.

Answers are kept as arrays over models, conditions, questions and samples. A few cells that share none of these names
span as much as a full study: some kilobytes of input would ask for gigabytes.
"""

from safescale.core.errors import LimitExceededError
from safescale.core.safety.protocol import RESAMPLES

MEGABYTE = 1024 * 1024

MAX_BYTES = 768 * MEGABYTE
"""Memory of one analysis at most: ten times what the paper's study of 74,880 cells takes."""

_PLACE_BYTES = 14
"""Of each model under each condition on each question: its greedy letter, whether it was read, its seconds, marks."""

_DRAW_BYTES = 32
"""Of each question in each resample: its index, and how often it is drawn, in two precisions."""

_SUM_BYTES = 8 * 225
"""Of each model in each resample: sums of the parts of all metrics, one condition at a time."""

_SAMPLE_BYTES = 12
"""Of each sample under one condition: what is counted of its letters."""


def needed_bytes(models: int, conditions: int, questions: int, samples: int) -> int:
    """Return about how many bytes the analysis of so many takes; `samples` is the most of any cell."""
    places = models * conditions * questions
    # A sample is a letter, and a mark where some were not read.
    kept = places * (_PLACE_BYTES + 2 * samples)
    drawn = RESAMPLES * (questions * _DRAW_BYTES + models * _SUM_BYTES)
    return kept + drawn + models * questions * samples * _SAMPLE_BYTES


def check_size(models: int, conditions: int, questions: int, samples: int) -> None:
    """Refuse an analysis that takes too much memory.

    Raises:
        LimitExceededError: it does; the message has the numbers and the limit.

    """
    needed = needed_bytes(models, conditions, questions, samples)
    if needed > MAX_BYTES:
        raise LimitExceededError(
            f"{models:,} models, {conditions:,} conditions, {questions:,} questions and {samples:,} samples a cell "
            f"span {models * conditions * questions * max(1, samples):,} answers, whose metrics need about "
            f"{needed // MEGABYTE:,} MB; the limit is {MAX_BYTES // MEGABYTE:,} MB: measure fewer of them at once"
        )
