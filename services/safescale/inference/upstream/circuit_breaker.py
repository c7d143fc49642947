"""A circuit breaker: a replica that keeps failing gets no calls but a probe now and then."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """Failures in a row that open a circuit; seconds until the first probe, doubling up to the longest.

    So many `timeouts` in a row, with no generation between them that ended, are those of a server that hangs.
    """

    failures: int = 3
    timeouts: int = 3
    probe_after_s: float = 1.0
    probe_at_most_s: float = 10.0


class Circuit:
    """The state of one replica. It knows no clock: `now` is given, in seconds of one clock that never goes back.

    closed: calls pass. open: none passes until the probe is due. half-open: one call, the probe, runs; its outcome
    closes the circuit or opens it for longer. Each interval is drawn by `jitter(low, high)`, so that many processes do
    not probe at once.
    """

    def __init__(self, policy: CircuitPolicy, jitter: Callable[[float, float], float]) -> None:
        self._policy = policy
        self._jitter = jitter
        self._failures = 0
        self._timeouts = 0
        self._openings = 0
        self._due = 0.0
        self._probes = 0
        self._probe = 0

    @property
    def open(self) -> bool:
        """Whether calls are held back; also while a probe runs."""
        return self._openings > 0

    @property
    def hung(self) -> bool:
        """Whether the last failures were timeouts: the server takes calls and ends none."""
        return self.open and self._timeouts >= self._policy.timeouts

    @property
    def due(self) -> float:
        """Time from which a call may pass: 0 when closed, infinite while a probe runs."""
        if not self.open:
            return 0.0
        return float("inf") if self._probe else self._due

    def passes(self, now: float) -> bool:
        """Return whether a call may begin now."""
        return now >= self.due

    def begin(self) -> int:
        """Note that a call begins; return its number as a probe, 0 for an ordinary call."""
        if not self.open:
            return 0
        self._probes += 1
        self._probe = self._probes
        return self._probe

    def succeeded(self) -> None:
        """Note that the replica answered: the circuit closes."""
        self._failures = self._timeouts = self._openings = self._probe = 0

    def failed(self, now: float, probe: int, *, timed_out: bool = False) -> None:
        """Note that a call failed. While open only the running probe counts: the others began before."""
        if self.open and (not probe or probe != self._probe):
            return
        self._failures += 1
        self._timeouts = self._timeouts + 1 if timed_out else 0
        many = self._failures >= self._policy.failures or self._timeouts >= self._policy.timeouts
        if self.open or many:
            longest = min(self._policy.probe_at_most_s, self._policy.probe_after_s * 2.0 ** min(self._openings, 30))
            self._openings += 1
            self._due = now + self._jitter(longest / 2, longest)
            self._probe = 0

    def dropped(self, probe: int) -> None:
        """Note that a call ended without revealing anything about the replica: another may probe at once."""
        if probe and probe == self._probe:
            self._probe = 0
