"""Cuts a sequence into batches that are bounded in number and weight."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], most: int, heaviest: int, weight: Callable[[T], int]) -> Iterator[list[T]]:
    """Items in their order, at most `most` in a batch (at least 1) and `heaviest` in weight; a heavier one alone."""
    batch: list[T] = []
    room = heaviest
    for item in items:
        heavy = weight(item)
        if batch and (len(batch) == most or heavy > room):
            yield batch
            batch, room = [], heaviest
        batch.append(item)
        room -= heavy
    if batch:
        yield batch
