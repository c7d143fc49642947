"""Admission of calls to the replicas of a model: those that find none free wait in a queue, each until its limit."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendTimeoutError,
    BackendUnavailableError,
    SafescaleError,
)
from safescale.inference.upstream.replica import CallOutcome, ReplicaState, choose
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry

SHOWN_AFTER_S = 0.2
"""Seconds by which the gauges of calls may be late."""


@dataclass(frozen=True, slots=True)
class InFlightCall:
    """A call in flight at a replica; `probe` is its number at the circuit breaker, 0 for an ordinary call."""

    replica: ReplicaState
    began: float
    probe: int


@dataclass(slots=True)
class PendingCall:
    """A call that waits for a replica: its deadline, the replica to prefer and to avoid, its failures so far.

    Times in seconds of `time.monotonic`. `failures` counts failed exchanges, `seen` those that a server saw.
    """

    deadline: float
    prefer: str = ""
    avoid: str = ""
    failed_at: float = math.inf
    failures: int = 0
    seen: int = 0
    overloads: int = 0
    repeated: bool = False
    error: BackendError | None = None


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """Seconds for which a call waits while all replicas are held back; the pause after so many overloads."""

    seconds: float
    pause_s: Callable[[int], float]


@dataclass(frozen=True, slots=True)
class _Waiter:
    pending: PendingCall
    began: float
    future: "asyncio.Future[InFlightCall]"


class AdmissionQueue:
    """Admits calls to the replicas of a model in the order in which they came. Used within one event loop."""

    def __init__(
        self, model: str, replicas: Sequence[ReplicaState], telemetry: Telemetry, wait_policy: WaitPolicy
    ) -> None:
        self._model = model
        self._states = replicas
        self._telemetry = telemetry
        self._wait_policy = wait_policy
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self._showing: asyncio.TimerHandle | None = None
        self._shut_since: float | None = None
        self._last_failure = ""
        self._turn = 0
        self._closed = False
        self._log = get_logger("inference")

    async def admit(self, pending: PendingCall) -> InFlightCall:
        """Wait for a replica and begin a call there; first come, first served, repeats before all others.

        Raises:
            BackendTimeoutError: the deadline passed.
            BackendUnavailableError: all replicas were held back for too long, or the service stops.
            BackendOverloadedError: the same, for a call that was refused because of overload before.

        """
        begin = time.monotonic()
        if begin >= pending.deadline:
            raise self._too_late(pending)
        if self._closed:
            raise self._stopped()
        call = None if self._waiters else self._try(pending, begin)
        if call is None:
            call = await self._wait(pending, begin)
        self._telemetry.observe("safescale_backend_wait_seconds", call.began - begin, {"model": self._model})
        return call

    def _try(self, pending: PendingCall, now: float) -> InFlightCall | None:
        replica = choose(self._states, now, pending.prefer, pending.avoid)
        if replica is None:
            return None
        self._turn += 1
        call = InFlightCall(replica, now, replica.begin(self._turn))
        self._shown_soon()
        return call

    async def _wait(self, pending: PendingCall, begin: float) -> InFlightCall:
        waiter = _Waiter(pending, begin, asyncio.get_running_loop().create_future())
        # A repeat has waited its turn already.
        (self._waiters.append if pending.error is None else self._waiters.appendleft)(waiter)
        self._dispatch(begin)
        self._wake_at(self._expiry(waiter))
        try:
            return await waiter.future
        except asyncio.CancelledError as error:
            # Where it was admitted at the same moment, the next call takes over. A cancelled waiter is skipped.
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                self.end(waiter.future.result(), error, asked=False)
            raise

    def _dispatch(self, now: float) -> None:
        """Admit waiting calls, in their order, while replicas are free."""
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.future.done():
                call = self._try(waiter.pending, now)
                if call is None:
                    break
                waiter.future.set_result(call)
            self._waiters.popleft()
        self._note_shut(now)
        if self._waiters:
            # A call that ends dispatches by itself; a circuit or a pause whose time has come does not.
            self._wake_at(min((s.opens_at(now) for s in self._states if s.opens_at(now) > now), default=math.inf))

    def _note_shut(self, now: float) -> None:
        if not all(replica.shut(now) for replica in self._states):
            self._shut_since = None
        elif self._shut_since is None:
            self._shut_since = now
            if self._waiters:
                self._wake_at(now)

    def _expiry(self, waiter: _Waiter) -> float:
        """Return when a waiter gives up: at its deadline, or when all replicas were held back for long enough."""
        pending = waiter.pending
        if self._shut_since is None:
            return pending.deadline
        since = min(pending.failed_at, max(waiter.began, self._shut_since))
        return min(pending.deadline, since + self._wait_policy.seconds)

    def _wake_at(self, when: float) -> None:
        if when >= self._wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = when
        self._timer = asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()) + 0.001, self._wake)

    def _wake(self) -> None:
        """Give up the calls whose time has come, admit others."""
        self._timer, self._wakes_at = None, math.inf
        now = time.monotonic()
        next_expiry = math.inf
        for waiter in self._waiters:
            if waiter.future.done():
                continue
            expiry = self._expiry(waiter)
            if now >= expiry:
                late = now >= waiter.pending.deadline
                waiter.future.set_exception(self._too_late(waiter.pending) if late else self._given_up(waiter.pending))
            next_expiry = min(next_expiry, expiry) if now < expiry else next_expiry
        self._dispatch(now)
        self._wake_at(next_expiry)

    def end(self, call: InFlightCall, error: BaseException | None, asked: bool = True, aside: bool = False) -> None:
        """End a call whose exchange ended, or which was cancelled before its exchange.

        The success of an exchange `aside` says nothing of generations: a server can answer it and hang.
        """
        now = time.monotonic()
        replica = call.replica
        was_open = replica.circuit.open
        told = asked and not (aside and error is None)
        replica.end(_outcome(error) if told else CallOutcome.DROPPED, now, call.began, call.probe)
        if asked and isinstance(error, BackendError):
            self._last_failure = error.message
            pause = _retry_after(error)
            if not pause and isinstance(error, BackendOverloadedError):
                # Else those that wait would run into the same wall, one after the other.
                pause = self._wait_policy.pause_s(replica.overloads)
            replica.pause(now + pause)
        if replica.circuit.open != was_open:
            why = "HUNG" if replica.circuit.hung else "" if error is None else as_safescale_error(error).reason
            self._log.warning("circuit", model=self._model, replica=replica.url, open=replica.circuit.open, reason=why)
            self._show()
        if asked:
            outcome = "ok" if error is None else "CANCELLED" if _went_away(error) else as_safescale_error(error).reason
            labels = {"model": self._model, "outcome": outcome}
            self._telemetry.observe("safescale_backend_attempt_seconds", now - call.began, labels)
        self._shown_soon()
        if self._waiters:
            self._dispatch(now)
        elif error is not None or self._shut_since is not None:
            self._note_shut(now)

    def _shown_soon(self) -> None:
        """Schedule the gauges: calls can begin and end more often than anybody reads them."""
        if self._showing is None:
            self._showing = asyncio.get_running_loop().call_later(SHOWN_AFTER_S, self._show)

    def _show(self) -> None:
        """Set the gauges of all replicas."""
        self._showing = None
        for replica in self._states:
            labels = {"model": self._model, "replica": replica.url}
            self._telemetry.gauge("safescale_backend_in_flight", replica.outstanding, labels)
            self._telemetry.gauge("safescale_backend_circuit_open", float(replica.circuit.open), labels)
            self._telemetry.gauge("safescale_backend_hung", float(replica.circuit.hung), labels)

    def _too_late(self, pending: PendingCall) -> BackendTimeoutError:
        why = f"; its last failure: {pending.error.message}" if pending.error else ""
        return BackendTimeoutError(f"{self._model}: the deadline passed before a server could be asked{why}")

    def _given_up(self, pending: PendingCall) -> BackendError:
        last = pending.error.message if pending.error else self._last_failure
        waited = f"{self._wait_policy.seconds:g} s"
        if isinstance(pending.error, BackendOverloadedError):
            return BackendOverloadedError(f"{self._model}: its servers had too much to do for {waited}: {last}")
        return BackendUnavailableError(
            f"{self._model}: no server could be asked for {waited}; the last failure: {last}"
        )

    def close(self) -> None:
        """Let the calls that wait fail."""
        self._closed = True
        for timer in (self._timer, self._showing):
            if timer is not None:
                timer.cancel()
        self._show()
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(self._stopped())
        self._waiters.clear()

    def _stopped(self) -> BackendUnavailableError:
        return BackendUnavailableError(f"{self._model}: the service stops")


def _went_away(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, Exception)


def _outcome(error: BaseException | None) -> CallOutcome:
    if isinstance(error, BackendTimeoutError):
        return CallOutcome.TIMED_OUT
    if isinstance(error, BackendUnavailableError):
        return CallOutcome.FAILED
    if isinstance(error, BackendOverloadedError):
        return CallOutcome.OVERLOADED
    if error is None or isinstance(error, SafescaleError):
        return CallOutcome.ANSWERED
    return CallOutcome.DROPPED


def _retry_after(error: BackendError) -> float:
    try:
        seconds = float(error.details.get("retry_after_s", "0"))
    except ValueError:
        return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
