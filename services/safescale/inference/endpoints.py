"""The replicas of one model server: who is asked next, how many calls each gets, what is repeated and for how long.

An adapter hands every HTTP exchange to `Endpoints.call`. What the exchange raises decides what comes next:

- BackendUnavailableError (no connection, cut answer, 5xx): counts against the replica's circuit; repeated.
- BackendOverloadedError (429): the replica gets fewer calls at once for a while; repeated. Its circuit stays closed.
- BackendTimeoutError: counts against the circuit; not repeated, since the call has had its time.
- any other error with `details["repeat"] == "once"` (`REPEAT_ONCE`): repeated one time; for a server that failed while
  it generated. The replica answered, so its circuit stays closed.
- anything else is raised as it is: to ask again would not help, or would shift the distribution of answers.

`details["retry_after_s"]` (seconds, what Retry-After said) keeps all calls from that replica for so long.
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendTimeoutError,
    BackendUnavailableError,
    SafescaleError,
)
from safescale.inference.balance import Outcome, Server, choose
from safescale.inference.catalog import HttpEndpoint
from safescale.inference.circuit import Circuit, CircuitPolicy
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.log import get_logger
from safescale.runtime.telemetry import Telemetry

REPEAT_ONCE = {"repeat": "once"}
"""Details of an error that is worth one more try: `GarbageAnswerError(message, details=REPEAT_ONCE)`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replica:
    """One server: its root URL without a slash at the end."""

    url: str


@dataclass(frozen=True, slots=True)
class Place:
    """A call's place at a replica, and the seconds waited for it."""

    replica: Replica
    waited_s: float


@dataclass(frozen=True, slots=True)
class Served(Generic[T]):
    """What an exchange gave, the seconds that were no part of it (queue, back-off, failed attempts), who gave it."""

    value: T
    waited_s: float
    attempts: int
    replica: Replica


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Replicas, calls in flight at each, exchanges of one call, seconds of waiting after its first failure.

    `retry_for_s` bounds what a call waits because of failures (back-off, open circuits, overload), not its exchanges.
    """

    replicas: tuple[Replica, ...]
    concurrency: int = 16
    attempts: int = 5
    retry_for_s: float = 120.0
    back_off_s: float = 0.25
    longest_back_off_s: float = 8.0
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy)


def endpoint_options(endpoint: HttpEndpoint) -> EndpointOptions:
    """Options of a catalog's endpoint."""
    replicas = tuple(Replica(url) for url in endpoint.urls)
    return EndpointOptions(replicas, endpoint.concurrency, retry_for_s=endpoint.retry_for_s)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A call that is under way at a server."""

    server: Server
    began: float
    probe: bool


@dataclass(slots=True)
class _Wish:
    """What a call asks for: until when, which replica rather, which rather not, its trouble so far."""

    deadline: float
    prefer: str = ""
    avoid: str = ""
    failed_at: float = math.inf
    failures: int = 0
    overloads: int = 0
    repeated: bool = False
    error: BackendError | None = None


@dataclass(frozen=True, slots=True)
class _Waiter:
    wish: _Wish
    future: "asyncio.Future[_Ticket]"


class Endpoints:
    """The replicas of one model. Used within one event loop."""

    def __init__(self, model: str, options: EndpointOptions, telemetry: Telemetry) -> None:
        self._model = model
        self._options = options
        self._telemetry = telemetry
        self._servers = [
            Server(replica.url, options.concurrency, Circuit(options.circuit, random.uniform))
            for replica in options.replicas
        ]
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._shut_since: float | None = None
        self._last_failure = ""
        self._turn = 0
        self._closed = False
        self._log = get_logger("inference")

    async def call(
        self, exchange: Callable[[Replica], Awaitable[T]], deadline: float, prefer: Replica | None = None
    ) -> Served[T]:
        """Run an exchange at the replica with the fewest calls, again while that can help and time is left.

        `deadline` in seconds of `time.monotonic`. `prefer` is taken while it has a place: the calls of one prompt then
        share its prefix cache.

        Raises:
            BackendTimeoutError: the deadline passed.
            BackendUnavailableError: no replica could be asked for `retry_for_s`; the message holds the last failure.
            SafescaleError: what the last exchange raised.

        """
        begin = time.monotonic()
        wish = _Wish(deadline, prefer.url if prefer else "")
        attempts = 0
        while True:
            ticket = await self._take(wish)
            attempts += 1
            replica = Replica(ticket.server.url)
            try:
                value = await _within(exchange(replica), deadline, self._model)
            except BaseException as error:
                self._end(ticket, error)
                if not isinstance(error, BackendError) or not self._again(wish, error):
                    raise
                wish.avoid = replica.url
                wish.prefer = ""
                await self._back_off(wish, error)
            else:
                self._end(ticket, None)
                return Served(value, ticket.began - begin, attempts, replica)

    @asynccontextmanager
    async def place(self, deadline: float) -> AsyncIterator[Place]:
        """A place at a replica for one exchange that is not repeated, such as a stream.

        Raises:
            BackendTimeoutError: the deadline passed.
            BackendUnavailableError: no replica could be asked for `retry_for_s`.

        """
        begin = time.monotonic()
        ticket = await self._take(_Wish(deadline))
        try:
            yield Place(Replica(ticket.server.url), ticket.began - begin)
        except BaseException as error:
            self._end(ticket, error)
            raise
        self._end(ticket, None)

    def _again(self, wish: _Wish, error: BackendError) -> bool:
        now = time.monotonic()
        wish.failed_at = min(wish.failed_at, now)
        wish.error = error
        if now >= wish.deadline or now - wish.failed_at > self._options.retry_for_s or self._closed:
            return False
        if isinstance(error, BackendOverloadedError):
            wish.overloads += 1
            return True
        if isinstance(error, BackendUnavailableError):
            wish.failures += 1
            return wish.failures < self._options.attempts
        once = error.details.get("repeat") == "once" and not wish.repeated
        wish.repeated = True
        return once

    async def _back_off(self, wish: _Wish, error: BackendError) -> None:
        tries = wish.failures + wish.overloads
        longest = min(self._options.longest_back_off_s, self._options.back_off_s * 2.0 ** min(tries, 30))
        pause = random.uniform(self._options.back_off_s / 4, longest)
        if time.monotonic() + pause >= wish.deadline:
            raise error
        await asyncio.sleep(pause)

    async def _take(self, wish: _Wish) -> _Ticket:
        """A place at a server; those that were asked for first come first, repeats before them."""
        begin = time.monotonic()
        if begin >= wish.deadline:
            raise self._too_late(wish)
        if self._closed:
            raise BackendUnavailableError(f"{self._model}: the service stops")
        ticket = None if self._waiters else self._try(wish, begin)
        if ticket is None:
            ticket = await self._wait(wish, begin)
        self._telemetry.observe("safescale_backend_wait_seconds", ticket.began - begin, {"model": self._model})
        return ticket

    def _try(self, wish: _Wish, now: float) -> _Ticket | None:
        server = choose(self._servers, now, wish.prefer, wish.avoid)
        if server is None:
            return None
        self._turn += 1
        ticket = _Ticket(server, now, server.begin(self._turn))
        self._show(server)
        return ticket

    async def _wait(self, wish: _Wish, begin: float) -> _Ticket:
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
            self._end(waiter.future.result(), error, asked=False)

    def _gives_up_at(self, wish: _Wish, begin: float, now: float) -> float:
        """Time when the call has waited long enough for replicas that are all held back; while one is not, later."""
        if self._shut_since is None:
            return now + max(1.0, self._options.retry_for_s)
        return min(wish.failed_at, max(begin, self._shut_since)) + self._options.retry_for_s

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

    def _end(self, ticket: _Ticket, error: BaseException | None, asked: bool = True) -> None:
        """The call's exchange ended, or it went away before it asked."""
        now = time.monotonic()
        server = ticket.server
        was_open = server.circuit.open
        server.end(_outcome(error) if asked else Outcome.DROPPED, now, ticket.began, ticket.probe)
        if asked and isinstance(error, BackendError):
            self._last_failure = error.message
            if (pause := _retry_after(error)) > 0:
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

    def _too_late(self, wish: _Wish) -> BackendTimeoutError:
        why = f"; its last failure: {wish.error.message}" if wish.error else ""
        return BackendTimeoutError(f"{self._model}: the deadline passed before a server could be asked{why}")

    def _given_up(self, wish: _Wish) -> BackendError:
        last = wish.error.message if wish.error else self._last_failure
        waited = f"{self._options.retry_for_s:g} s"
        if isinstance(wish.error, BackendOverloadedError):
            return BackendOverloadedError(f"{self._model}: its servers had too much to do for {waited}: {last}")
        return BackendUnavailableError(
            f"{self._model}: no server could be asked for {waited}; the last failure: {last}"
        )

    async def close(self) -> None:
        """Let the calls that wait for a place fail; those under way end by themselves."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(BackendUnavailableError(f"{self._model}: the service stops"))
        self._waiters.clear()


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
    return seconds if math.isfinite(seconds) else 0.0
