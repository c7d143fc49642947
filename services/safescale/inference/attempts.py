"""How often and for how long a prompt is tried."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from safescale.core.errors import BackendError, BackendTimeoutError
from safescale.inference.backends.port import Backend
from safescale.inference.generation_metrics import Observer
from safescale.runtime.errors import as_safescale_error

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Seconds for one exchange and for all about one prompt, waits and retries included.

    `attempts` after transport failures and `max_wait_s` between two are for backends that do not repeat by themselves.
    """

    timeout_s: float = 600.0
    attempts: int = 3
    max_wait_s: float = 8.0
    deadline_s: float = 3600.0


class Attempts:
    """Tries exchanges by a policy."""

    def __init__(self, policy: CallPolicy) -> None:
        self._policy = policy

    async def run(
        self,
        backend: Backend,
        seen: tuple[Observer, str],
        deadline: float,
        attempt: Callable[[], Awaitable[T]],
    ) -> T:
        """Run an exchange until it succeeds, within its time and attempts.

        Raises:
            BackendTimeoutError: it did not succeed by the deadline (seconds of `time.monotonic`).
            SafescaleError: it failed at its last try, or in a way that no other try helps.

        """
        scope = asyncio.timeout(deadline - time.monotonic())
        try:
            async with scope:
                # A backend that repeats by itself has metrics of its own for each attempt; seen from here, they
                # and their waits would count as latency.
                if backend.capabilities.repeats:
                    return await attempt()
                return await self._retried(seen, attempt)
        except TimeoutError as error:
            if not scope.expired():
                raise
            message = f"{seen[0].model} gave no answer within {self._policy.deadline_s:g} s, waits and retries included"
            raise BackendTimeoutError(message) from error

    async def _retried(self, seen: tuple[Observer, str], attempt: Callable[[], Awaitable[T]]) -> T:
        observer, metric = seen
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._policy.attempts),
            wait=wait_random_exponential(multiplier=0.5, max=self._policy.max_wait_s),
            retry=retry_if_exception(_worth_another_try),
            before_sleep=lambda state: observer.repeated(_reason(state)),
            reraise=True,
        )

        async def timed() -> T:
            begin = time.perf_counter()
            try:
                return await attempt()
            except Exception as error:
                observer.failed(metric, as_safescale_error(error).reason, time.perf_counter() - begin)
                raise

        return await retrying(timed)


def _reason(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome else None
    return as_safescale_error(error).reason if error else "INTERNAL"


def _worth_another_try(error: BaseException) -> bool:
    # A call that timed out has had all its time; only what may have failed on the way is repeated.
    return isinstance(error, BackendError) and error.retryable and not isinstance(error, BackendTimeoutError)
