"""Readings of persons, applied to the letters of a run."""

from collections.abc import Iterable
from dataclasses import replace

from safescale.core.safety.answers.judge import JUDGE_FAILED
from safescale.rpc.readings import FAILED_MARK, PERSON_MARK
from safescale.scoring.records import StoredKey, StoredLetters
from safescale.scoring.settled import CellReviews, RunReviews


def with_reviews(letters: Iterable[StoredLetters], reviews: RunReviews) -> list[StoredLetters]:
    """Return the letters, replaced by the readings of persons where there are any."""
    if not reviews:
        return list(letters)
    found = []
    for one in letters:
        read = reviews.get((one.cell, one.key.attempt))
        found.append(one if read is None else _as_read(one, read))
    return found


def _as_read(one: StoredLetters, read: CellReviews) -> StoredLetters:
    answers = one.answers
    samples = _replaced(answers.samples, read)
    answers = replace(answers, greedy=read.get(None, answers.greedy), samples=samples)
    return replace(one, key=settled_key(one.key, read), answers=answers)


def _replaced(marks: str, read: CellReviews) -> str:
    changed = list(marks)
    for index, mark in read.items():
        if index is not None and index < len(changed):
            changed[index] = mark
    return "".join(changed)


def settled_key(key: StoredKey, read: CellReviews) -> StoredKey:
    """Return the key with the marks of persons; drop a judge's failure once they read all that it failed on."""
    greedy = PERSON_MARK if key.greedy_by and None in read else key.greedy_by
    samples = _replaced(key.samples_by, dict.fromkeys(read, PERSON_MARK))
    lifted = key.failure == JUDGE_FAILED and FAILED_MARK not in greedy + samples
    return replace(key, greedy_by=greedy, samples_by=samples, failure="" if lifted else key.failure)
