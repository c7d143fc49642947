import hypothesis.strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from safescale.inference.upstream.circuit_breaker import Circuit, CircuitPolicy

POLICY = CircuitPolicy(failures=3, probe_after_s=1.0, probe_at_most_s=6.0)


def circuit(share: float = 1.0) -> Circuit:
    return Circuit(POLICY, lambda low, high: low + share * (high - low))


def opened(at: float = 0.0) -> Circuit:
    made = circuit()
    for _ in range(3):
        made.failed(at, made.begin())
    return made


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    made = circuit()
    for outcome in "ff.ff":
        made.failed(0.0, made.begin()) if outcome == "f" else made.succeeded()
    assert not made.open
    assert made.passes(0.0)
    made.failed(0.0, made.begin())
    assert made.open
    assert not made.passes(0.99)
    assert made.passes(1.0)


def test_a_server_that_hangs_is_told_apart_from_one_that_fails() -> None:
    made = circuit()
    for timed_out in (True, True, False):
        made.failed(0.0, made.begin(), timed_out=timed_out)
    assert (made.open, made.hung) == (True, False)
    for _ in range(3):
        assert not made.hung
        made.failed(made.due, made.begin(), timed_out=True)
    assert (made.open, made.hung) == (True, True)
    made.succeeded()
    assert (made.open, made.hung) == (False, False)


def test_one_probe_at_a_time_decides() -> None:
    made = opened()
    probe = made.begin()
    assert probe
    assert not made.passes(1e9)
    made.failed(2.0, probe)
    assert made.open
    assert (made.passes(3.99), made.passes(4.0)) == (False, True)
    made.succeeded()
    assert not made.open
    assert made.begin() == 0


def test_intervals_double_up_to_the_longest() -> None:
    made = opened()
    intervals = []
    for _ in range(5):
        now = made.due
        made.failed(now, made.begin())
        intervals.append(made.due - now)
    assert intervals == [2.0, 4.0, 6.0, 6.0, 6.0]


def test_a_probe_that_went_away_lets_another_pass_at_once() -> None:
    made = opened()
    made.dropped(made.begin())
    assert made.passes(1.0)
    assert made.open


def test_failures_of_calls_from_before_change_nothing() -> None:
    made = opened()
    due = made.due
    made.failed(50.0, 0)
    assert made.due == due
    probe = made.begin()
    made.failed(51.0, 0)
    assert not made.passes(1e9)
    made.succeeded()
    made.failed(52.0, probe)
    assert not made.open


class Machine(RuleBasedStateMachine):
    """Calls that begin when they may, and end in any order and way."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.circuit = Circuit(POLICY, lambda low, high: high)
        self.running: dict[int, int] = {}
        self.number = 0
        self.failures = 0
        self.was_open = False

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.circuit.passes(self.now))
    @rule(target=calls)
    def begin(self) -> int:
        self.was_open = self.circuit.open
        self.number += 1
        probe = self.circuit.begin()
        assert bool(probe) == self.was_open
        self.running[self.number] = probe
        return self.number

    @rule(call=consumes(calls))
    def succeed(self, call: int) -> None:
        del self.running[call]
        self.circuit.succeeded()
        self.failures = 0
        assert not self.circuit.open

    @rule(call=consumes(calls))
    def fail(self, call: int) -> None:
        was_open = self.circuit.open
        self.circuit.failed(self.now, self.running.pop(call))
        self.failures += 1
        assert self.circuit.open or not was_open

    @rule(call=consumes(calls))
    def drop(self, call: int) -> None:
        was_open = self.circuit.open
        self.circuit.dropped(self.running.pop(call))
        assert self.circuit.open == was_open

    @invariant()
    def opens_only_after_enough_failures(self) -> None:
        if self.circuit.open:
            assert self.failures >= POLICY.failures

    @invariant()
    def never_held_back_for_ever(self) -> None:
        """Without a probe under way the circuit lets a call pass after the longest interval."""
        if self.circuit.due == float("inf"):
            assert any(self.running.values())
        else:
            assert self.circuit.due <= self.now + POLICY.probe_at_most_s


TestMachine = Machine.TestCase
