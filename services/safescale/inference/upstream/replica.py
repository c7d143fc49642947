"""Which replica gets the next call: its calls, its limit, its circuit, and the choice among all. Pure; no clock."""

from collections.abc import Sequence
from enum import Enum

from safescale.inference.upstream.circuit_breaker import Circuit


class CallOutcome(Enum):
    """What a call revealed about its replica."""

    ANSWERED = "answered"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    OVERLOADED = "overloaded"
    DROPPED = "dropped"


class ReplicaState:
    """The state of one replica. Times are seconds of one clock that never goes back.

    The limit of calls halves when the replica says that it has too much to do, once for all the calls that were under
    way then, and grows again by one with each round of answers, up to `concurrency`. `overloads` counts the halvings
    since the last answer.
    """

    def __init__(self, url: str, concurrency: int, circuit: Circuit) -> None:
        self.url = url
        self.circuit = circuit
        self.outstanding = 0
        self.overloads = 0
        self._own = self._concurrency = float(concurrency)
        self._limit = float(concurrency)
        self._reduced_at = float("-inf")
        self._paused_until = float("-inf")
        self._turn = 0

    @property
    def limit(self) -> int:
        """Calls that may be under way at once now."""
        return int(self._limit)

    def bound(self, calls: int) -> None:
        """Bound the concurrent calls to that number: at least one, and no more than was given at the start."""
        self._concurrency = max(1.0, min(self._own, float(calls)))
        self._limit = min(self._limit, self._concurrency)

    @property
    def turn(self) -> int:
        """Number of the last call that began here, counted over all replicas: the least was asked longest ago."""
        return self._turn

    def opens_at(self, now: float) -> float:
        """Return the time from which circuit and pauses let a call begin; `now` or before when they do already."""
        return max(self.circuit.due, self._paused_until, now)

    def shut(self, now: float) -> bool:
        """Return whether the replica is held back: circuit open, a probe in flight, or a pause that it asked for."""
        return self.circuit.open or self._paused_until > now

    def accepts(self, now: float) -> bool:
        """Return whether a call may begin now."""
        return self.outstanding < self.limit and self.opens_at(now) <= now

    def begin(self, turn: int) -> int:
        """Begin a call; return its number as a probe, 0 for an ordinary call."""
        self.outstanding += 1
        self._turn = turn
        return self.circuit.begin()

    def end(self, outcome: CallOutcome, now: float, began: float, probe: int) -> None:
        """End a call that began at `began` with this outcome."""
        self.outstanding -= 1
        if outcome in (CallOutcome.FAILED, CallOutcome.TIMED_OUT):
            self.circuit.failed(now, probe, timed_out=outcome is CallOutcome.TIMED_OUT)
        elif outcome is CallOutcome.DROPPED:
            self.circuit.dropped(probe)
        else:
            self.circuit.succeeded()
        if outcome is CallOutcome.OVERLOADED and began >= self._reduced_at:
            self._limit = max(1.0, min(self._limit, self.outstanding + 1.0) / 2)
            self._reduced_at = now
            self.overloads += 1
        elif outcome is CallOutcome.ANSWERED:
            self.overloads = 0
            if self._limit < self._concurrency:
                self._limit = min(self._concurrency, self._limit + 1.0 / self._limit)

    def pause(self, until: float) -> None:
        """Begin no call before that time: the replica said so."""
        self._paused_until = max(self._paused_until, until)


def choose(replicas: Sequence[ReplicaState], now: float, prefer: str, avoid: str) -> ReplicaState | None:
    """Choose the replica for the next call; None while none accepts one.

    The preferred one if it accepts, else the one with the fewest calls, asked longest ago among equals; the one to
    avoid only where no other accepts.
    """
    best: ReplicaState | None = None
    rank = (True, 0, 0)
    for replica in replicas:
        if not replica.accepts(now):
            continue
        if replica.url == prefer:
            return replica
        this = (replica.url == avoid, replica.outstanding, replica.turn)
        if best is None or this < rank:
            best, rank = replica, this
    return best
