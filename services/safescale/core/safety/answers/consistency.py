"""Self-consistency of the samples of each question (protocol section 5), vectorised over any leading axes."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from safescale.core.safety.answers.vote import ballot_counts, vote_array
from safescale.core.statistics.stats import wilson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Consistency:
    """What the samples of each question say together; arrays (..., Q), NaN where a question has no samples.

    `majority` int8 keeps nulls as ballots (rule null_ballot), `majority_of_letters` int8 drops them (drop_null).
    `entropy` in nats over all ballots, null one of them; `confidence` = 1 - entropy / ln(options + 1). `agreement` and
    `margin` are shares of all ballots, the Wilson bounds (z = 1.96) belong to the agreement. `n_letters` counts the
    samples that are letters, `top_letters` those for the letter most often given, `n_letter_kinds` different letters.
    """

    n_samples: Ints
    n_null: Ints
    n_letters: Ints
    n_letter_kinds: Ints
    top_letters: Ints
    majority: npt.NDArray[np.int8]
    majority_of_letters: npt.NDArray[np.int8]
    agreement: Floats
    margin: Floats
    entropy: Floats
    confidence: Floats
    wilson_low: Floats
    wilson_high: Floats


def consistency(samples: npt.NDArray[np.int8], n_options: npt.NDArray[np.int8]) -> Consistency:
    """Self-consistency of samples (..., Q, K) int8 of questions with n_options (Q,) int8 options.

    The confidence is not clipped: even ballots over all options and the null give 0 to within rounding, on either side.
    """
    counts = ballot_counts(samples)
    n_samples = counts.sum(axis=-1, dtype=np.int64)
    two_largest = np.partition(counts, -2, axis=-1)[..., -2:]
    runner_up, top = two_largest[..., 0], two_largest[..., 1]
    entropy = _entropy(counts, n_samples)
    largest = np.array([math.log(max(options, 2) + 1) for options in n_options.tolist()])
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = top / n_samples
        margin = (top - runner_up) / n_samples
    low, high = wilson(agreement, n_samples)
    letters = counts[..., :-1]
    return Consistency(
        n_samples=n_samples,
        n_null=counts[..., -1].astype(np.int64),
        n_letters=letters.sum(axis=-1, dtype=np.int64),
        n_letter_kinds=(letters > 0).sum(axis=-1, dtype=np.int64),
        top_letters=letters.max(axis=-1).astype(np.int64),
        majority=vote_array(samples, "null_ballot", counts),
        majority_of_letters=vote_array(samples, "drop_null", counts),
        agreement=agreement,
        margin=margin,
        entropy=entropy,
        confidence=1.0 - entropy / largest,
        wilson_low=low,
        wilson_high=high,
    )


def _entropy(counts: npt.NDArray[np.int32], n_samples: Ints) -> Floats:
    """Entropy of the ballots in nats: minus the sum of p ln p, looked up, since few p are possible."""
    most = int(n_samples.max(initial=0))
    terms = np.zeros((most + 1, most + 1))
    terms[0] = np.nan
    for total in np.unique(n_samples).tolist():
        for count in range(1, total + 1):
            terms[total, count] = count / total * math.log(count / total)
    entropy: Floats = np.zeros(n_samples.shape)
    for column in range(counts.shape[-1]):
        entropy -= terms[n_samples, counts[..., column]]
    return entropy
