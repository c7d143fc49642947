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
from safescale.inference.balance import Outcome, Server, choose
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry


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
        self._shut_since: float | None = None
        self._last_failure = ""
        self._turn = 0
        self._closed = False
        self._log = get_logger("inference")

    async def take(self, wish: Wish) -> Ticket:
        """A place at a server; those that were asked for first come first, repeats before them."""
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
        self._show(server)
        return ticket

    async def _wait(self, wish: Wish, begin: float) -> Ticket:
        waiter = _Waiter(wish, asyncio.get_running_loop().create_future())
        # A repeat has waited its turn already.
        (self._waiters.append if wish.error is None else self._waiters.appendleft)(waiter)
        self._dispatch()
        try:
            while not waiter.future.done():
                now = time.monotonic()
                if now >= wish.deadline:
                    raise self._too_late(wish)
                until = self._gives_up_at(wish, begin, now)
                if now >= until:
                    raise self._given_up(wish)
                await asyncio.wait((waiter.future,), timeout=min(until, wish.deadline) - now)
            return waiter.future.result()
        except BaseException as error:
            self._leave(waiter, error)
            raise

    def _leave(self, waiter: _Waiter, error: BaseException) -> None:
        if not waiter.future.done():
            # What is done is passed over when places are given out.
            waiter.future.cancel()
        elif not waiter.future.cancelled() and waiter.future.exception() is None:
            self.end(waiter.future.result(), error, asked=False)

    def _gives_up_at(self, wish: Wish, begin: float, now: float) -> float:
        """Time when the call has waited long enough for replicas that are all held back; while one is not, later."""
        if self._shut_since is None:
            return now + max(1.0, self._patience.seconds)
        return min(wish.failed_at, max(begin, self._shut_since)) + self._patience.seconds

    def _dispatch(self) -> None:
        """Give free places to those that wait, in their order."""
        now = time.monotonic()
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.future.done():
                ticket = self._try(waiter.wish, now)
                if ticket is None:
                    break
                waiter.future.set_result(ticket)
            self._waiters.popleft()
        self._note_shut(now)
        self._arm(now)

    def _arm(self, now: float) -> None:
        """Wake up when the next circuit or pause lets a call begin; a place that is given back wakes by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [server.opens_at(now) for server in self._servers] if self._waiters else []
        later = [when for when in times if now < when < math.inf]
        if later:
            self._timer = asyncio.get_running_loop().call_later(min(later) - now + 0.001, self._dispatch)

    def _note_shut(self, now: float) -> None:
        if not all(server.shut(now) for server in self._servers):
            self._shut_since = None
        elif self._shut_since is None:
            self._shut_since = now

    def end(self, ticket: Ticket, error: BaseException | None, asked: bool = True) -> None:
        """The call's exchange ended, or it went away before it asked."""
        now = time.monotonic()
        server = ticket.server
        was_open = server.circuit.open
        server.end(_outcome(error) if asked else Outcome.DROPPED, now, ticket.began, ticket.probe)
        if asked and isinstance(error, BackendError):
            self._last_failure = error.message
            pause = _retry_after(error)
            if not pause and isinstance(error, BackendOverloadedError):
                # Else those that wait would run into the same wall, one after the other.
                pause = self._patience.pause_s(server.overloads)
            server.pause(now + pause)
        if server.circuit.open != was_open:
            self._log.warning("circuit", model=self._model, replica=server.url, open=server.circuit.open)
        if asked:
            reason = "ok" if error is None else as_safescale_error(error).reason
            labels = {"model": self._model, "outcome": "CANCELLED" if _went_away(error) else reason}
            self._telemetry.observe("safescale_backend_attempt_seconds", now - ticket.began, labels)
        self._show(server)
        if self._waiters:
            self._dispatch()
        else:
            self._note_shut(now)

    def _show(self, server: Server) -> None:
        labels = {"model": self._model, "replica": server.url}
        self._telemetry.gauge("safescale_backend_in_flight", server.outstanding, labels)
        self._telemetry.gauge("safescale_backend_circuit_open", float(server.circuit.open), labels)

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
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(self._stopped())
        self._waiters.clear()

    def _stopped(self) -> BackendUnavailableError:
        return BackendUnavailableError(f"{self._model}: the service stops")


def _went_away(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, Exception)


def _outcome(error: BaseException | None) -> Outcome:
    if isinstance(error, BackendUnavailableError | BackendTimeoutError):
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
