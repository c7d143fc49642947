"""Answers count once their servers were looked at again after the last of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from safescale.core.errors import BackendOverloadedError, BackendTimeoutError, BackendUnavailableError

PAUSES_S = (0.5, 1.0, 2.0)
"""Seconds between looks at servers that cannot be asked just then, before the call is made again."""

T = TypeVar("T")

TRIES = 3
"""Times that a call is made whole where its servers went away before they could be looked at again."""


async def confirmed(work: Callable[[], Awaitable[T]], look: Callable[[T], Awaitable[None]]) -> T:
    """Return what the work gives, once a look at its servers finds nothing against it.

    Raises:
        ModelChangedError: as the look does, when another model answers.
        BackendError: as the work does; as the look does, when no server could be asked after each of the tries.

    """
    for last in (False,) * (TRIES - 1) + (True,):
        done = await work()
        for pause_s in (*PAUSES_S, None):
            try:
                await look(done)
            except (BackendUnavailableError, BackendOverloadedError, BackendTimeoutError):
                if pause_s is not None:
                    await asyncio.sleep(pause_s)
                elif last:
                    raise
            else:
                return done
    raise AssertionError("the last try returns or raises")
