"""The replicas of one model: which gets the next call, how many calls each gets, what is repeated and for how long.

An adapter hands every HTTP exchange to `ReplicaSet.call`. What the exchange raises decides what comes next:

- BackendUnavailableError (no connection, cut answer, 5xx): counts against the replica's circuit; repeated. With
  `details["sent"] == "no"` (`NOT_SENT`: the server never saw it) it is repeated without counting.
- BackendOverloadedError (429): the replica gets fewer calls at once for a while; repeated. Its circuit stays closed.
- BackendTimeoutError: counts against the circuit; not repeated, since the call has had its time. Three in a row, with
  no generation that ended between them, are a server that hangs (`safescale_backend_hung`), whatever its health says.
- any other error with `details["repeat"] == "once"` (`REPEAT_ONCE`): repeated one time; for a server that failed while
  it generated. The replica answered, so its circuit stays closed.
- anything else is raised as it is: to ask again would not help, or would shift the distribution of answers.

`details["retry_after_s"]` (seconds, what Retry-After said) keeps all calls from that replica for so long.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendTimeoutError,
    BackendUnavailableError,
)
from safescale.inference.catalog import HttpEndpoint
from safescale.inference.upstream.admission import AdmissionQueue, InFlightCall, PendingCall, WaitPolicy
from safescale.inference.upstream.circuit_breaker import Circuit, CircuitPolicy
from safescale.inference.upstream.replica import ReplicaState
from safescale.runtime.telemetry import Telemetry

NOT_SENT = {"sent": "no"}
"""Details of a BackendUnavailableError whose request never reached the server."""

REPEAT_ONCE = {"repeat": "once"}
"""Details of an error that is worth one more try: `GarbageAnswerError(message, details=REPEAT_ONCE)`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replica:
    """One server: its root URL without a slash at the end."""

    url: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A replica lent to one exchange, and the seconds waited for it."""

    replica: Replica
    waited_s: float


@dataclass(frozen=True, slots=True)
class CallResult(Generic[T]):
    """What an exchange gave, the seconds that were no part of it (queue, back-off, failed attempts), who gave it."""

    value: T
    waited_s: float
    attempts: int
    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaSetOptions:
    """Replicas and calls in flight at each; exchanges of one call; seconds after its first failure.

    `attempts` bounds the exchanges of a call that a server saw and failed at; `retry_for_s` the time from a call's
    first failure, or from the moment when all replicas were held back, until it is given up: a server that restarts
    within that time costs no call.
    """

    replicas: tuple[Replica, ...]
    concurrency: int = 16
    attempts: int = 5
    retry_for_s: float = 120.0
    back_off_s: float = 0.25
    longest_back_off_s: float = 8.0
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy)


def replica_set_options(endpoint: HttpEndpoint) -> ReplicaSetOptions:
    """Options of a catalog's endpoint."""
    replicas = tuple(Replica(url) for url in endpoint.urls)
    return ReplicaSetOptions(replicas, endpoint.concurrency, retry_for_s=endpoint.retry_for_s)


class ReplicaSet:
    """The replicas of one model. Used within one event loop."""

    def __init__(self, model: str, options: ReplicaSetOptions, telemetry: Telemetry) -> None:
        self._model = model
        self._options = options
        self._telemetry = telemetry
        replicas = [
            ReplicaState(replica.url, options.concurrency, Circuit(options.circuit, random.uniform))
            for replica in options.replicas
        ]
        self._states = {replica.url: replica for replica in replicas}
        self._admission = AdmissionQueue(model, replicas, telemetry, WaitPolicy(options.retry_for_s, self._pause_s))

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The servers."""
        return self._options.replicas

    def bound(self, replica: Replica, calls: int) -> None:
        """Bound the concurrent calls to what a replica says it takes, and to no more than its row has."""
        self._states[replica.url].bound(calls)

    async def call(
        self,
        exchange: Callable[[Replica], Awaitable[T]],
        deadline: float,
        prefer: Replica | None = None,
        *,
        bounded: bool = False,
        aside: bool = False,
    ) -> CallResult[T]:
        """Run an exchange at the replica with the fewest calls, again while that can help and time is left.

        `deadline` in seconds of `time.monotonic`. `prefer` is taken while it accepts calls: calls of one prompt then
        share its prefix cache. `bounded`: the exchange ends by the deadline itself, which spares a timer for each.
        `aside`: it is not a generation, so that its answer does not show that generations end.

        Raises:
            BackendTimeoutError: the deadline passed.
            BackendUnavailableError: no replica could be asked for `retry_for_s`; the message holds the last failure.
            SafescaleError: what the last exchange raised.

        """
        begin = time.monotonic()
        pending = PendingCall(deadline, prefer.url if prefer else "")
        attempts = 0
        while True:
            call = await self._admission.admit(pending)
            attempts += 1
            replica = Replica(call.replica.url)
            try:
                with self._telemetry.span("exchange", {"model": self._model, "attempt": attempts}):
                    asked = exchange(replica)
                    value = await (asked if bounded else _within(asked, deadline, self._model))
            except BaseException as error:
                self._admission.end(call, error)
                if not isinstance(error, BackendError) or not self._again(pending, error, call):
                    raise
                labels = {"model": self._model, "reason": error.reason}
                self._telemetry.count("safescale_generation_retries_total", 1, labels)
                pending.avoid = replica.url
                pending.prefer = ""
                await self._back_off(pending, error)
            else:
                self._admission.end(call, None, aside=aside)
                return CallResult(value, call.began - begin, attempts, replica)

    @asynccontextmanager
    async def lease(self, deadline: float) -> AsyncIterator[Lease]:
        """Lend a replica for one exchange that is not repeated, such as a stream.

        Raises:
            BackendTimeoutError: the deadline passed.
            BackendUnavailableError: no replica could be asked for `retry_for_s`.

        """
        begin = time.monotonic()
        call = await self._admission.admit(PendingCall(deadline))
        try:
            yield Lease(Replica(call.replica.url), call.began - begin)
        except BaseException as error:
            self._admission.end(call, error)
            raise
        self._admission.end(call, None)

    def _again(self, pending: PendingCall, error: BackendError, call: InFlightCall) -> bool:
        now = time.monotonic()
        pending.failed_at = min(pending.failed_at, now)
        pending.error = error
        if now >= pending.deadline or now - pending.failed_at >= self._options.retry_for_s:
            return False
        if isinstance(error, BackendOverloadedError):
            pending.overloads += 1
            return True
        if isinstance(error, BackendUnavailableError):
            # A server that is down says nothing about the call, however often it is probed.
            unseen = call.probe or error.details.get("sent") == "no"
            pending.failures += 1
            pending.seen += not unseen
            return pending.seen < self._options.attempts
        once = error.details.get("repeat") == "once" and not pending.repeated
        pending.repeated = True
        return once

    def _pause_s(self, tries: int) -> float:
        longest = min(self._options.longest_back_off_s, self._options.back_off_s * 2.0 ** min(tries, 30))
        return random.uniform(self._options.back_off_s / 4, longest)

    async def _back_off(self, pending: PendingCall, error: BackendError) -> None:
        pause = self._pause_s(pending.failures + pending.overloads)
        if time.monotonic() + pause >= pending.deadline:
            raise error
        await asyncio.sleep(pause)

    async def close(self) -> None:
        """Let the calls that wait fail; those in flight end by themselves."""
        self._admission.close()


async def _within(exchange: Awaitable[T], deadline: float, model: str) -> T:
    if deadline == math.inf:
        return await exchange
    scope = asyncio.timeout(deadline - time.monotonic())
    try:
        async with scope:
            return await exchange
    except TimeoutError as error:
        if scope.expired():
            raise BackendTimeoutError(f"{model}: no answer before the deadline") from error
        raise
