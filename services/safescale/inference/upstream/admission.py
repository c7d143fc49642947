"""Places at the replicas of a model: calls that find none wait in a queue, each for as long as it may."""

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
from safescale.inference.upstream.replica import Outcome, Server, choose
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry

SHOWN_AFTER_S = 0.2
"""Seconds by which the gauges of calls may be late."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call that is under way at a server; `probe` is the circuit's number of it, 0 for an ordinary call."""

    server: Server
    began: float
    probe: int


@dataclass(slots=True)
class Wish:
    """What a call asks for: until when, which replica rather, which rather not, its trouble so far.

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
class Patience:
    """Seconds for which a call waits while all replicas are held back; the pause after so many overloads."""

    seconds: float
    pause_s: Callable[[int], float]


@dataclass(frozen=True, slots=True)
class _Waiter:
    wish: Wish
    began: float
    future: "asyncio.Future[Ticket]"


class Places:
    """The places at all replicas of a model, given out in the order of asking. Used within one event loop."""

    def __init__(self, model: str, servers: Sequence[Server], telemetry: Telemetry, patience: Patience) -> None:
        self._model = model
        self._servers = servers
        self._telemetry = telemetry
        self._patience = patience
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self._showing: asyncio.TimerHandle | None = None
        self._shut_since: float | None = None
        self._last_failure = ""
        self._turn = 0
        self._closed = False
        self._log = get_logger("inference")

    async def take(self, wish: Wish) -> Ticket:
        """A place at a server; those that were asked for first come first, repeats before them.

        Raises:
            BackendTimeoutError: the deadline passed.
            BackendUnavailableError: all replicas were held back for too long, or the service stops.
            BackendOverloadedError: the same, for a call that was refused because of overload before.

        """
        begin = time.monotonic()
        if begin >= wish.deadline:
            raise self._too_late(wish)
        if self._closed:
            raise self._stopped()
        ticket = None if self._waiters else self._try(wish, begin)
        if ticket is None:
            ticket = await self._wait(wish, begin)
        self._telemetry.observe("safescale_backend_wait_seconds", ticket.began - begin, {"model": self._model})
        return ticket

    def _try(self, wish: Wish, now: float) -> Ticket | None:
        server = choose(self._servers, now, wish.prefer, wish.avoid)
        if server is None:
            return None
        self._turn += 1
        ticket = Ticket(server, now, server.begin(self._turn))
        self._shown_soon()
        return ticket

    async def _wait(self, wish: Wish, begin: float) -> Ticket:
        waiter = _Waiter(wish, begin, asyncio.get_running_loop().create_future())
        # A repeat has waited its turn already.
        (self._waiters.append if wish.error is None else self._waiters.appendleft)(waiter)
        self._dispatch(begin)
        self._wake_at(self._expiry(waiter))
        try:
            return await waiter.future
        except asyncio.CancelledError as error:
            # A place that was given at the same moment goes to the next. A cancelled waiter is passed over.
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                self.end(waiter.future.result(), error, asked=False)
            raise

    def _dispatch(self, now: float) -> None:
        """Give free places to those that wait, in their order."""
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.future.done():
                ticket = self._try(waiter.wish, now)
                if ticket is None:
                    break
                waiter.future.set_result(ticket)
            self._waiters.popleft()
        self._note_shut(now)
        if self._waiters:
            # A place that is given back wakes by itself; a circuit or a pause whose time has come does not.
            self._wake_at(min((s.opens_at(now) for s in self._servers if s.opens_at(now) > now), default=math.inf))

    def _note_shut(self, now: float) -> None:
        if not all(server.shut(now) for server in self._servers):
            self._shut_since = None
        elif self._shut_since is None:
            self._shut_since = now
            if self._waiters:
                self._wake_at(now)

    def _expiry(self, waiter: _Waiter) -> float:
        """Time when a waiter gives up: at its deadline, or when all replicas were held back for long enough."""
        wish = waiter.wish
        if self._shut_since is None:
            return wish.deadline
        since = min(wish.failed_at, max(waiter.began, self._shut_since))
        return min(wish.deadline, since + self._patience.seconds)

    def _wake_at(self, when: float) -> None:
        if when >= self._wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = when
        self._timer = asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()) + 0.001, self._wake)

    def _wake(self) -> None:
        """Give up those whose time has come, give places to others."""
        self._timer, self._wakes_at = None, math.inf
        now = time.monotonic()
        next_expiry = math.inf
        for waiter in self._waiters:
            if waiter.future.done():
                continue
            expiry = self._expiry(waiter)
            if now >= expiry:
                late = now >= waiter.wish.deadline
                waiter.future.set_exception(self._too_late(waiter.wish) if late else self._given_up(waiter.wish))
            next_expiry = min(next_expiry, expiry) if now < expiry else next_expiry
        self._dispatch(now)
        self._wake_at(next_expiry)

    def end(self, ticket: Ticket, error: BaseException | None, asked: bool = True, aside: bool = False) -> None:
        """The call's exchange ended, or it went away before it asked.

        That an exchange `aside` of generations ended well says nothing of those: a server can answer it and hang.
        """
        now = time.monotonic()
        server = ticket.server
        was_open = server.circuit.open
        told = asked and not (aside and error is None)
        server.end(_outcome(error) if told else Outcome.DROPPED, now, ticket.began, ticket.probe)
        if asked and isinstance(error, BackendError):
            self._last_failure = error.message
            pause = _retry_after(error)
            if not pause and isinstance(error, BackendOverloadedError):
                # Else those that wait would run into the same wall, one after the other.
                pause = self._patience.pause_s(server.overloads)
            server.pause(now + pause)
        if server.circuit.open != was_open:
            why = "HUNG" if server.circuit.hung else "" if error is None else as_safescale_error(error).reason
            self._log.warning("circuit", model=self._model, replica=server.url, open=server.circuit.open, reason=why)
            self._show()
        if asked:
            outcome = "ok" if error is None else "CANCELLED" if _went_away(error) else as_safescale_error(error).reason
            labels = {"model": self._model, "outcome": outcome}
            self._telemetry.observe("safescale_backend_attempt_seconds", now - ticket.began, labels)
        self._shown_soon()
        if self._waiters:
            self._dispatch(now)
        elif error is not None or self._shut_since is not None:
            self._note_shut(now)

    def _shown_soon(self) -> None:
        """Gauges follow within a moment: calls can begin and end more often than anybody looks."""
        if self._showing is None:
            self._showing = asyncio.get_running_loop().call_later(SHOWN_AFTER_S, self._show)

    def _show(self) -> None:
        """Set the gauges of all replicas."""
        self._showing = None
        for server in self._servers:
            labels = {"model": self._model, "replica": server.url}
            self._telemetry.gauge("safescale_backend_in_flight", server.outstanding, labels)
            self._telemetry.gauge("safescale_backend_circuit_open", float(server.circuit.open), labels)
            self._telemetry.gauge("safescale_backend_hung", float(server.circuit.hung), labels)

    def _too_late(self, wish: Wish) -> BackendTimeoutError:
        why = f"; its last failure: {wish.error.message}" if wish.error else ""
        return BackendTimeoutError(f"{self._model}: the deadline passed before a server could be asked{why}")

    def _given_up(self, wish: Wish) -> BackendError:
        last = wish.error.message if wish.error else self._last_failure
        waited = f"{self._patience.seconds:g} s"
        if isinstance(wish.error, BackendOverloadedError):
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


def _outcome(error: BaseException | None) -> Outcome:
    if isinstance(error, BackendTimeoutError):
        return Outcome.TIMED_OUT
    if isinstance(error, BackendUnavailableError):
        return Outcome.FAILED
    if isinstance(error, BackendOverloadedError):
        return Outcome.OVERLOADED
    if error is None or isinstance(error, SafescaleError):
        return Outcome.ANSWERED
    return Outcome.DROPPED


def _retry_after(error: BackendError) -> float:
    try:
        seconds = float(error.details.get("retry_after_s", "0"))
    except ValueError:
        return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
