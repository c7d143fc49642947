"""The draw of an audit of the reading: answers at random, from each stratum its share."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

S = TypeVar("S")


def draw_audit(strata: Mapping[S, Sequence[str]], sample: int, seed: int) -> dict[S, tuple[str, ...]]:
    """Return the ids drawn from each stratum, `sample` in all, or all that there are where they are fewer.

    Each stratum gets its share of the sample, rounded by the largest remainders, and at least one as long as the sample
    reaches: of a stratum without any, nothing would be known. Within a stratum the draw is simple and random: ids by
    the SHA-256 of seed and id, the smallest first.
    """
    sizes = {stratum: len(ids) for stratum, ids in strata.items()}
    counts = _allocated(sizes, min(sample, sum(sizes.values())))
    return {
        stratum: tuple(sorted(ids, key=lambda identifier: _place(identifier, seed))[: counts[stratum]])
        for stratum, ids in strata.items()
    }


def _allocated(sizes: Mapping[S, int], sample: int) -> dict[S, int]:
    total = sum(sizes.values())
    largest = sorted((stratum for stratum, size in sizes.items() if size), key=lambda s: sizes[s], reverse=True)
    counts = dict.fromkeys(sizes, 0)
    for stratum in largest[:sample]:
        counts[stratum] = 1
    # What is left goes one by one to whoever is furthest below their share: nobody is over their size by that.
    for _ in range(sample - sum(counts.values())):
        below = [stratum for stratum in largest if counts[stratum] < sizes[stratum]]
        counts[max(below, key=lambda s: sample * sizes[s] / total - counts[s])] += 1
    return counts


def _place(identifier: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{identifier}".encode()).digest()
