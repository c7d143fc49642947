import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    GarbageAnswerError,
)
from safescale.inference.upstream.circuit_breaker import CircuitPolicy
from safescale.inference.upstream.replica_set import NOT_SENT, REPEAT_ONCE, Replica, ReplicaSet, ReplicaSetOptions
from safescale.runtime.telemetry import Telemetry

A, B = Replica("http://a:1"), Replica("http://b:1")
FAST = ReplicaSetOptions(
    (A,),
    concurrency=2,
    attempts=3,
    retry_for_s=20.0,
    back_off_s=0.002,
    longest_back_off_s=0.004,
    circuit=CircuitPolicy(failures=3, probe_after_s=0.01, probe_at_most_s=0.02),
)


class Rig:
    """Endpoints over servers that answer by script: an error to raise for each exchange, then "ok"."""

    def __init__(self, **changes) -> None:
        self.telemetry = Telemetry()
        self.options = replace(FAST, **changes)
        self.replica_set = ReplicaSet("m", self.options, self.telemetry)
        self.failures: dict[str, list[BaseException]] = {}
        self.asked: list[str] = []
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.gate: asyncio.Event | None = None

    async def exchange(self, replica: Replica) -> str:
        self.asked.append(replica.url)
        self.running[replica.url] = self.running.get(replica.url, 0) + 1
        self.most[replica.url] = max(self.most.get(replica.url, 0), self.running[replica.url])
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
            if self.failures.get(replica.url):
                raise self.failures[replica.url].pop(0)
        finally:
            self.running[replica.url] -= 1
        return "ok"

    def call(self, seconds: float = 30.0, prefer: Replica | None = None):
        return self.replica_set.call(self.exchange, time.monotonic() + seconds, prefer)

    def metric(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(name, {"model": "m", **labels}) or 0.0

    async def until_asked(self, number: int) -> None:
        await self.until(lambda: len(self.asked) >= number)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.001)


async def test_calls_go_to_the_replica_with_the_fewest_and_never_over_the_limit() -> None:
    rig = Rig(replicas=(A, B), concurrency=3)
    rig.gate = asyncio.Event()
    calls = [asyncio.create_task(rig.call()) for _ in range(40)]
    await rig.until_asked(6)
    assert rig.running == {A.url: 3, B.url: 3}
    await rig.until(lambda: rig.metric("safescale_backend_in_flight", replica=A.url) == 3)
    rig.gate.set()
    served = await asyncio.gather(*calls)
    assert {one.value for one in served} == {"ok"}
    assert rig.most == {A.url: 3, B.url: 3}
    await rig.until(lambda: rig.metric("safescale_backend_in_flight", replica=A.url) == 0)
    assert rig.metric("safescale_backend_wait_seconds_count") == 40
    assert rig.metric("safescale_backend_attempt_seconds_count", outcome="ok") == 40


async def test_the_preferred_replica_is_asked_while_it_has_a_place() -> None:
    rig = Rig(replicas=(A, B), concurrency=4)
    for _ in range(3):
        assert (await rig.call(prefer=B)).replica == B
    assert rig.asked == [B.url] * 3


async def test_those_that_wait_come_in_their_order() -> None:
    rig = Rig(concurrency=1)
    rig.gate = asyncio.Event()
    order: list[int] = []

    async def one(number: int) -> None:
        await rig.call()
        order.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(6)]
    await rig.until_asked(1)
    rig.gate.set()
    await asyncio.gather(*tasks)
    assert order == list(range(6))


@pytest.mark.parametrize("error", [BackendUnavailableError("gone"), BackendOverloadedError("busy")])
async def test_transport_failures_are_repeated_at_another_replica_and_waits_are_told(error) -> None:
    rig = Rig(replicas=(A, B))
    rig.failures = {A.url: [error], B.url: [error]}
    served = await rig.call()
    assert (served.value, served.attempts) == ("ok", 3)
    assert rig.asked[0] != rig.asked[1]
    assert served.waited_s > 0
    assert rig.metric("safescale_generation_retries_total", reason=error.reason) == 2
    assert rig.metric("safescale_backend_attempt_seconds_count", outcome=error.reason) == 2


async def test_a_call_is_given_up_after_its_attempts() -> None:
    rig = Rig(circuit=CircuitPolicy(failures=99))
    rig.failures = {A.url: [BackendUnavailableError(str(number)) for number in range(9)]}
    with pytest.raises(BackendUnavailableError, match="2"):
        await rig.call()
    assert len(rig.asked) == 3


async def test_without_a_budget_the_first_failure_is_the_last() -> None:
    rig = Rig(retry_for_s=0.0)
    rig.failures = {A.url: [BackendUnavailableError("gone")]}
    with pytest.raises(BackendUnavailableError, match="gone"):
        await rig.call()
    assert (await rig.call()).value == "ok"


async def test_a_server_that_is_down_for_long_costs_no_call() -> None:
    rig = Rig()
    rig.failures = {A.url: [BackendUnavailableError("refused", details=NOT_SENT) for _ in range(12)]}
    served = await asyncio.gather(*(rig.call() for _ in range(8)))
    assert {one.value for one in served} == {"ok"}
    assert not any(rig.failures.values())


@pytest.mark.parametrize("error", [BackendTimeoutError("late"), BackendRefusedError("no"), GarbageAnswerError("?")])
async def test_other_failures_are_raised_as_they_are(error) -> None:
    rig = Rig(replicas=(A, B))
    rig.failures = {A.url: [error], B.url: [error]}
    with pytest.raises(type(error)) as caught:
        await rig.call()
    assert caught.value is error
    assert len(rig.asked) == 1


async def test_a_failure_while_generating_is_repeated_once() -> None:
    rig = Rig()
    rig.failures = {A.url: [BackendError("first", details=REPEAT_ONCE)]}
    assert (await rig.call()).attempts == 2
    rig.failures = {A.url: [BackendError("first", details=REPEAT_ONCE), BackendError("second", details=REPEAT_ONCE)]}
    with pytest.raises(BackendError, match="second"):
        await rig.call()
    assert rig.metric("safescale_backend_circuit_open", replica=A.url) == 0


async def test_retry_after_keeps_calls_from_that_replica() -> None:
    rig = Rig(replicas=(A, B))
    rig.failures = {A.url: [BackendOverloadedError("busy", details={"retry_after_s": "3600"})]}
    assert (await rig.call()).replica == B
    served = await asyncio.gather(*(rig.call() for _ in range(20)))
    assert {one.replica for one in served} == {B}
    assert rig.asked.count(A.url) == 1


async def test_retry_after_beyond_the_budget_is_not_waited_for() -> None:
    rig = Rig(retry_for_s=0.05)
    rig.failures = {A.url: [BackendOverloadedError("busy", details={"retry_after_s": "3600"})]}
    with pytest.raises(BackendOverloadedError, match=r"too much to do for 0.05 s: busy"):
        await rig.call()
    assert len(rig.asked) == 1


@pytest.mark.parametrize("said", ["soon", "nan", "inf", "-5"])
async def test_an_odd_retry_after_is_none(said) -> None:
    rig = Rig()
    rig.failures = {A.url: [BackendUnavailableError("gone", details={"retry_after_s": said})]}
    assert (await rig.call()).attempts == 2


async def test_overload_opens_no_circuit_and_reduces_the_calls() -> None:
    rig = Rig(concurrency=8)
    rig.failures = {A.url: [BackendOverloadedError("busy") for _ in range(8)]}
    served = await asyncio.gather(*(rig.call() for _ in range(30)))
    assert {one.value for one in served} == {"ok"}
    assert rig.metric("safescale_backend_circuit_open", replica=A.url) == 0


async def test_an_overload_that_does_not_end_is_told_as_such() -> None:
    rig = Rig(retry_for_s=0.05)
    rig.failures = {A.url: [BackendOverloadedError("busy") for _ in range(1000)]}
    with pytest.raises(BackendOverloadedError):
        await rig.call()
    assert len(rig.asked) > 1


async def test_all_open_a_call_waits_for_the_probe_and_the_server_is_used_again() -> None:
    rig = Rig(attempts=99, concurrency=5)
    rig.failures = {A.url: [BackendUnavailableError("gone") for _ in range(7)]}
    first = asyncio.create_task(rig.call())
    await rig.until(lambda: rig.metric("safescale_backend_circuit_open", replica=A.url) == 1)
    others = [asyncio.create_task(rig.call()) for _ in range(10)]
    served = await asyncio.gather(first, *others)
    assert {one.value for one in served} == {"ok"}
    # Each probe that failed was one exchange; the calls that waited meanwhile were asked once.
    assert len(rig.asked) == 7 + 11
    assert rig.metric("safescale_backend_circuit_open", replica=A.url) == 0


async def test_while_a_probe_runs_no_other_call_is_made() -> None:
    rig = Rig(concurrency=5)
    rig.failures = {A.url: [BackendUnavailableError("gone", details=NOT_SENT) for _ in range(3)]}
    first = asyncio.create_task(rig.call())
    await rig.until_asked(3)
    rig.gate = asyncio.Event()
    others = [asyncio.create_task(rig.call()) for _ in range(5)]
    await rig.until_asked(4)
    await asyncio.sleep(0.1)
    assert len(rig.asked) == 4
    rig.gate.set()
    await asyncio.gather(first, *others)


async def test_without_a_server_a_call_fails_with_the_last_error_after_its_budget() -> None:
    rig = Rig(retry_for_s=0.1, replicas=(A, B))
    rig.failures = {url: [BackendUnavailableError("refused", details=NOT_SENT)] * 1000 for url in (A.url, B.url)}
    results = await asyncio.gather(*(rig.call() for _ in range(4)), return_exceptions=True)
    assert all(isinstance(result, BackendUnavailableError) for result in results)
    assert all("refused" in result.message for result in results)
    asked = len(rig.asked)
    assert asked < 100


async def test_a_call_that_never_got_a_place_names_the_last_failure() -> None:
    rig = Rig(retry_for_s=0.03, circuit=CircuitPolicy(failures=1, probe_after_s=60.0, probe_at_most_s=60.0))
    rig.failures = {A.url: [BackendUnavailableError("refused")]}
    for _ in range(2):
        with pytest.raises(BackendUnavailableError, match=r"asked for 0.03 s; the last failure: refused"):
            await rig.call()
    assert len(rig.asked) == 1


async def test_the_deadline_ends_the_wait_the_back_off_and_the_exchange() -> None:
    rig = Rig(concurrency=1)
    rig.gate = asyncio.Event()
    running = asyncio.create_task(rig.call(seconds=0.05))
    await rig.until_asked(1)
    with pytest.raises(BackendTimeoutError, match="before a server could be asked"):
        await rig.call(seconds=0.01)
    with pytest.raises(BackendTimeoutError, match="no answer before the deadline"):
        await running
    with pytest.raises(BackendTimeoutError):
        await rig.call(seconds=-1)
    assert len(rig.asked) == 1
    slow = Rig(back_off_s=60.0, longest_back_off_s=60.0)
    slow.failures = {A.url: [BackendUnavailableError("gone")]}
    with pytest.raises(BackendUnavailableError, match="gone"):
        await slow.call(seconds=1.0)


async def test_no_deadline_is_one_that_never_comes() -> None:
    rig = Rig(concurrency=1)
    served = await asyncio.gather(*(rig.replica_set.call(rig.exchange, math.inf) for _ in range(5)))
    assert {one.value for one in served} == {"ok"}


async def test_a_caller_that_goes_away_leaves_its_place_to_the_next() -> None:
    rig = Rig(concurrency=1)
    rig.gate = asyncio.Event()
    tasks = [asyncio.create_task(rig.call()) for _ in range(4)]
    await rig.until_asked(1)
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    tasks[2].cancel()
    rig.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False, True, False]
    assert rig.most == {A.url: 1}
    assert rig.metric("safescale_backend_attempt_seconds_count", outcome="CANCELLED") == 1
    assert (await rig.call()).value == "ok"


async def test_a_place_for_a_stream_tells_the_circuit_what_came_of_it() -> None:
    rig = Rig(circuit=CircuitPolicy(failures=1, probe_after_s=0.01, probe_at_most_s=0.01))

    async def cut() -> None:
        async with rig.replica_set.lease(time.monotonic() + 5) as lease:
            assert lease.replica == A
            raise BackendUnavailableError("cut")

    with pytest.raises(BackendUnavailableError):
        await cut()
    assert rig.metric("safescale_backend_circuit_open", replica=A.url) == 1
    async with rig.replica_set.lease(time.monotonic() + 5) as lease:
        assert lease.waited_s > 0
    assert rig.metric("safescale_backend_circuit_open", replica=A.url) == 0
    assert rig.metric("safescale_backend_in_flight", replica=A.url) == 0


async def test_closing_ends_the_wait() -> None:
    rig = Rig(concurrency=1)
    rig.gate = asyncio.Event()
    running, waiting = asyncio.create_task(rig.call()), asyncio.create_task(rig.call())
    await rig.until_asked(1)
    await asyncio.sleep(0.01)
    await rig.replica_set.close()
    with pytest.raises(BackendUnavailableError, match="stops"):
        await waiting
    with pytest.raises(BackendUnavailableError, match="stops"):
        await rig.call()
    rig.gate.set()
    assert (await running).value == "ok"


FAULTS = st.sampled_from(
    [
        lambda: BackendUnavailableError("gone"),
        lambda: BackendUnavailableError("refused", details=NOT_SENT),
        lambda: BackendOverloadedError("busy"),
        lambda: BackendOverloadedError("busy", details={"retry_after_s": "0.005"}),
        lambda: BackendTimeoutError("late"),
        lambda: BackendError("generation", details=REPEAT_ONCE),
        lambda: GarbageAnswerError("?"),
    ]
)


@settings(max_examples=30, deadline=None)
@given(st.lists(FAULTS, max_size=30), st.lists(FAULTS, max_size=30), st.integers(1, 4), st.integers(1, 25))
def test_whatever_fails_every_call_ends_and_no_limit_is_exceeded(first, second, concurrency, calls) -> None:
    async def scenario() -> None:
        rig = Rig(replicas=(A, B), concurrency=concurrency)
        rig.failures = {A.url: [fault() for fault in first], B.url: [fault() for fault in second]}
        async with asyncio.timeout(20):
            results = await asyncio.gather(*(rig.call() for _ in range(calls)), return_exceptions=True)
        assert all(isinstance(result, BackendError) or result.value == "ok" for result in results)
        assert max(rig.most.values()) <= concurrency
        assert set(rig.running.values()) == {0}
        # Nothing is left behind: once the faults are used up, a call succeeds.
        rig.failures = {}
        assert (await rig.call()).value == "ok"

    asyncio.run(scenario())
