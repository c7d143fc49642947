"""Checks that what a backend gave answers the request."""

import math
from collections.abc import Sequence

from safescale.core.errors import GarbageAnswerError
from safescale.inference.backends.port import Generation, Sampling, Scores


def check_generations(model: str, items: Sequence[Generation], samplings: Sequence[Sampling]) -> None:
    """Check that each sampling has its texts and a duration.

    Raises:
        GarbageAnswerError: one has not.

    """
    if len(items) != len(samplings):
        raise GarbageAnswerError(f"{model} gave {len(items)} answers to {len(samplings)} requests")
    for generation, sampling in zip(items, samplings, strict=True):
        if len(generation.outputs) != sampling.count:
            raise GarbageAnswerError(f"{model} gave {len(generation.outputs)} of {sampling.count} texts")
        if not generation.elapsed_s > 0:
            raise GarbageAnswerError(f"{model} answered without a duration")


def check_scores(model: str, scores: Scores, count: int) -> None:
    """Check that each continuation has a mean log-probability, and all a duration.

    Raises:
        GarbageAnswerError: one has not.

    """
    if len(scores.items) != count:
        raise GarbageAnswerError(f"{model} gave {len(scores.items)} of {count} scores")
    for score in scores.items:
        if score.tokens < 1 or not math.isfinite(score.mean_logprob) or score.mean_logprob > 0:
            raise GarbageAnswerError(f"{model} gave a score that is no mean log-probability")
    if not scores.elapsed_s > 0:
        raise GarbageAnswerError(f"{model} answered without a duration")
