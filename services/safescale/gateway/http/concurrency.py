"""A limit on costly work: requests above it are refused at once, instead of waiting until memory is exhausted."""

from collections.abc import Iterator
from contextlib import contextmanager

from safescale.gateway.http.problem import HttpError


class ConcurrencyLimit:
    """At most so many pieces of one kind of work at a time."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take one of them for the length of the context.

        Raises:
            HttpError: 429, the limit is reached.

        """
        if self._taken >= self._limit:
            detail = f"{self._limit} {self._what} are under way, which is the limit; try again"
            raise HttpError(429, "TOO_MANY_REQUESTS", detail, retryable=True)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
