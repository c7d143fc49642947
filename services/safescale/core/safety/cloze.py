"""The cloze formulation: from the scores of the options to letters (protocol section 4b).

A score is the mean log-probability per token of an option's text after the prompt. Options are in the order of their
letters throughout, so index 0 is A.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from safescale.core.errors import InvalidInputError


def _checked(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise InvalidInputError(f"scores have the shape {values.shape}; expected (options,) with at least 2 options")
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidInputError(
            f"the score of option {chr(ord('A') + index)} is {values[index]}; expected a finite number"
        )
    return values


def probabilities(scores: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of the options, (options,) float64 that sum to 1: softmax(score / T) (protocol section 4b).

    `scores` is (options,) float64. Raises InvalidInputError for a score that is not finite or a temperature not
    above 0.
    """
    values = _checked(scores)
    if not (np.isfinite(temperature) and temperature > 0):
        raise InvalidInputError(f"the temperature is {temperature}; expected a finite number above 0")
    # Differences first: a tiny temperature would turn both ends into infinities.
    with np.errstate(over="ignore", under="ignore"):
        weights: NDArray[np.float64] = np.exp((values - values.max()) / temperature)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def greedy(scores: ArrayLike) -> int:
    """Index of the option with the best score; of equal ones the first, hence the alphabetically first letter.

    `scores` is (options,) float64. Raises InvalidInputError for a score that is not finite.
    """
    return int(np.argmax(_checked(scores)))


def sample(scores: ArrayLike, temperature: float, seed: int, count: int) -> NDArray[np.int8]:
    """`count` options drawn from softmax(score / T): (count,) int8 indices, the same for the same seed.

    `scores` is (options,) float64; sample i does not depend on `count`. Raises InvalidInputError as `probabilities`.
    """
    cumulative = np.cumsum(probabilities(scores, temperature))
    # Rounding may leave the last sum below 1; a draw above it belongs to the last option that has any probability.
    draws = np.random.default_rng(seed).random(count) * cumulative[-1]
    chosen: NDArray[np.int8] = np.searchsorted(cumulative, draws, side="right").astype(np.int8)
    return chosen
