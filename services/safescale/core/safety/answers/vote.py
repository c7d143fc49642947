"""Votes over answers, for one question and for whole arrays, under one of two rules.

The reference analysis uses two rules, and they differ where a model abstains or ties; so the rule is an argument here
and each metric names its own (`core.safety.metrics`).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Rule = Literal["null_ballot", "drop_null"]
RULES: tuple[Rule, ...] = ("null_ballot", "drop_null")

NULL = -1
"""An abstention or a failure, in arrays of letters (0 = A … 25 = Z)."""
ABSENT = -2
"""Not attempted: a place of an array that holds no answer."""


def vote(ballots: Sequence[str | None], rule: Rule) -> str | None:
    """Return the letter that wins a vote; None for an abstention. `ballots` are letters, None for an abstention.

    `null_ballot`: None is a ballot; if it wins or ties, the vote is None; other ties go to the first letter of the
    alphabet. `drop_null`: abstentions are dropped; ties go to the letter seen first. Without ballots the vote is None.
    """
    counts = Counter(ballots if rule == "null_ballot" else [ballot for ballot in ballots if ballot is not None])
    if not counts:
        return None
    top = max(counts.values())
    tied = [ballot for ballot, count in counts.items() if count == top]
    if None in tied:
        return None
    return tied[0] if rule == "drop_null" else min(letter for letter in tied if letter is not None)


def ballot_counts(samples: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Ballots by letter: (..., L + 1) int32 of samples (..., K) int8, L the number of letters up to the last one seen.

    The last column counts the nulls; absent samples count nowhere. L is at least 1.
    """
    letters = max(int(samples.max(initial=NULL)) + 1, 1)
    counts = np.empty((*samples.shape[:-1], letters + 1), dtype=np.int32)
    for letter in range(letters):
        np.sum(samples == letter, axis=-1, out=counts[..., letter], dtype=np.int32)
    np.sum(samples == NULL, axis=-1, out=counts[..., letters], dtype=np.int32)
    return counts


def vote_array(
    samples: npt.NDArray[np.int8], rule: Rule, counts: npt.NDArray[np.int32] | None = None
) -> npt.NDArray[np.int8]:
    """Return the votes over the last axis: (...) int8 of samples (..., K) int8, as `vote` does for one question.

    NULL where the vote is an abstention or where all samples are absent. `counts` are those of `ballot_counts`, where
    they are known already.
    """
    counts = ballot_counts(samples) if counts is None else counts
    of_letters, nulls = counts[..., :-1], counts[..., -1]
    if rule == "null_ballot":
        winner = of_letters.argmax(axis=-1).astype(np.int8)
        return np.where(of_letters.max(axis=-1) > nulls, winner, np.int8(NULL))
    if samples.shape[-1] == 0:
        return np.full(samples.shape[:-1], NULL, dtype=np.int8)
    # The letter of the first sample whose letter has most ballots: the one of the tied letters that was seen first.
    support = np.take_along_axis(of_letters, np.maximum(samples, 0).astype(np.intp), axis=-1)
    support[samples < 0] = 0
    first = support.argmax(axis=-1)[..., np.newaxis]
    letter = np.take_along_axis(samples, first, axis=-1)[..., 0]
    return np.maximum(letter, np.int8(NULL))
