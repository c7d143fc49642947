"""Places for costly work: who finds none is told to come back, instead of waiting until memory is gone."""

from collections.abc import Iterator
from contextlib import contextmanager

from safescale.gateway.http.problem import HttpError


class ConcurrencyLimit:
    """A number of places for one kind of work."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            HttpError: 429, all are taken.

        """
        if self._taken >= self._limit:
            detail = f"{self._limit} {self._what} are under way, which is the limit; try again"
            raise HttpError(429, "TOO_MANY_REQUESTS", detail, retryable=True)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
