import hypothesis.strategies as st
import pytest
from hypothesis import given

from safescale.inference.upstream.circuit_breaker import Circuit, CircuitPolicy
from safescale.inference.upstream.replica import CallOutcome, ReplicaState, choose


def replica(url: str = "a", concurrency: int = 4, outstanding: int = 0) -> ReplicaState:
    made = ReplicaState(url, concurrency, Circuit(CircuitPolicy(failures=1), lambda low, high: high))
    for _ in range(outstanding):
        made.begin(0)
    return made


def test_the_fewest_calls_then_the_longest_idle() -> None:
    a, b, c = replica("a", outstanding=2), replica("b", outstanding=1), replica("c", outstanding=1)
    b.begin(7)
    b.end(CallOutcome.ANSWERED, 0.0, 0.0, 0)
    assert choose([a, b, c], 0.0, "", "").url == "c"
    c.begin(8)
    assert choose([a, b, c], 0.0, "", "").url == "b"


def test_preferred_while_it_has_a_place_and_avoided_while_another_has() -> None:
    a, b = replica("a", concurrency=2, outstanding=1), replica("b", concurrency=2)
    assert choose([a, b], 0.0, "a", "").url == "a"
    assert choose([a, b], 0.0, "", "b").url == "a"
    a.begin(1)
    assert choose([a, b], 0.0, "a", "").url == "b"
    assert choose([a, b], 0.0, "", "b").url == "b"
    b.begin(2)
    b.begin(3)
    assert choose([a, b], 0.0, "a", "b") is None


def test_open_circuits_and_pauses_are_passed_over_until_their_time() -> None:
    a, b = replica("a"), replica("b", outstanding=1)
    a.end(CallOutcome.FAILED, 10.0, 9.0, a.begin(1))
    assert a.shut(10.0)
    assert choose([a, b], 10.0, "a", "").url == "b"
    assert choose([a, b], a.opens_at(10.0), "", "").url == "a"
    b.pause(20.0)
    b.pause(15.0)
    assert (b.accepts(19.9), b.accepts(20.0)) == (False, True)
    assert b.shut(19.9)
    assert b.opens_at(12.0) == 20.0


def test_overload_halves_the_limit_once_for_all_calls_of_that_time_and_answers_raise_it() -> None:
    made = replica(concurrency=8, outstanding=8)
    for _ in range(4):
        made.end(CallOutcome.OVERLOADED, 5.0, 1.0, 0)
    assert (made.limit, made.overloads) == (4, 1)
    assert not made.circuit.open
    made.end(CallOutcome.OVERLOADED, 7.0, 6.0, 0)
    assert (made.limit, made.overloads) == (2, 2)
    for number in range(60):
        made.begin(number)
        made.end(CallOutcome.ANSWERED, 8.0, 8.0, 0)
    assert (made.limit, made.overloads) == (8, 0)


def test_a_busy_replica_never_goes_below_one_call() -> None:
    made = replica(concurrency=1)
    for now in range(5):
        made.begin(now)
        made.end(CallOutcome.OVERLOADED, now + 0.5, now, 0)
    assert made.limit == 1
    assert made.accepts(9.0)


@pytest.mark.parametrize("outcome", list(CallOutcome))
def test_every_outcome_gives_the_place_back(outcome) -> None:
    made = replica(concurrency=1)
    probe = made.begin(1)
    assert not made.accepts(0.0)
    made.end(outcome, 0.0, 0.0, probe)
    assert made.accepts(1e9)


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 2), st.sampled_from(["begin", *CallOutcome]), st.integers(0, 50), st.sampled_from(["", "0", "1"])
    ),
    max_size=80,
)


@given(EVENTS, st.integers(1, 5))
def test_no_limit_is_ever_exceeded_and_the_least_loaded_is_taken(events, concurrency) -> None:
    replicas = [
        ReplicaState(str(i), concurrency, Circuit(CircuitPolicy(failures=2), lambda low, high: high)) for i in range(3)
    ]
    now, turn = 0.0, 0
    running: list[tuple[ReplicaState, float, int]] = []
    for seconds, event, index, name in events:
        now += seconds
        if event == "begin":
            accepting = [one for one in replicas if one.accepts(now)]
            chosen = choose(replicas, now, "", name)
            assert (chosen is None) == (not accepting)
            if chosen is not None:
                others = [one for one in accepting if one.url != name] or accepting
                assert chosen.outstanding == min(one.outstanding for one in others)
                turn += 1
                running.append((chosen, now, chosen.begin(turn)))
        elif running:
            ended, began, probe = running.pop(index % len(running))
            ended.end(event, now, began, probe)
        for one in replicas:
            assert one.outstanding == sum(ended is one for ended, _, _ in running)
            assert one.outstanding <= concurrency
            assert 1 <= one.limit <= concurrency
