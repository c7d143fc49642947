"""Questions drawn from a bank for one run of a series, without replacement within the series."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import date

from safescale.core.errors import InvalidInputError


def draw_questions(bank: Sequence[str], asked: Collection[str], count: int, seed: int, day: str) -> tuple[str, ...]:
    """Return `count` ids of the bank that were not asked yet, sorted: a simple random draw by seed and day.

    The same seed and day over the same bank give the same questions on every machine. An id takes part by the SHA-256
    of seed, day and id, and the smallest are drawn: which ids were asked before changes nothing of the order of others.

    Raises:
        InvalidInputError: fewer are left in the bank.

    """
    used = set(asked)
    left = [identifier for identifier in bank if identifier not in used]
    if len(left) < count:
        asked_before = len(bank) - len(left)
        taken = f", since runs of the series with an earlier date asked {asked_before:,}" if asked_before else ""
        raise InvalidInputError(
            f"the bank is used up: {count:,} questions are to be drawn and {len(left):,} of its {len(bank):,} are "
            f"left{taken}; add questions "
            "to the benchmark and begin another series, or draw fewer"
        )
    ordered = sorted(left, key=lambda identifier: _place(identifier, seed, day))
    return tuple(sorted(ordered[:count]))


def _place(identifier: str, seed: int, day: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{day}\0{identifier}".encode()).digest()


def is_day(text: str) -> bool:
    """Return whether a text is a day as ISO 8601 writes it, such as 2026-12-01."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
