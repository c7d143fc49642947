"""Answers count once their servers were looked at again after the last of them."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from safescale.core.errors import BackendOverloadedError, BackendTimeoutError, BackendUnavailableError

T = TypeVar("T")

TRIES = 3
"""Times that a call is made whole where its servers went away before they could be looked at again."""


async def confirmed(work: Callable[[], Awaitable[T]], look: Callable[[T], Awaitable[None]]) -> T:
    """What the work gives, once the look at its servers found nothing against it.

    Raises:
        ModelChangedError: as the look does, when another model answers.
        BackendError: as the work does; as the look does, when no server could be asked after each of the tries.

    """
    for _ in range(TRIES - 1):
        done = await work()
        try:
            await look(done)
        except (BackendUnavailableError, BackendOverloadedError, BackendTimeoutError):
            continue
        return done
    done = await work()
    await look(done)
    return done
