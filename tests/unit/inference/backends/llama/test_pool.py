import asyncio
import threading
import time

import pytest

from safescale.core.errors import BackendError, BackendTimeoutError, BackendUnavailableError
from safescale.inference.backends.llama.pool import InstanceLimiter, InstancePool


class Opened:
    def __init__(self, fail: bool = False) -> None:
        self.count = 0
        self.fail = fail

    def __call__(self):
        time.sleep(0.02)
        if self.fail:
            raise BackendError("damaged")
        self.count += 1
        return f"instance {self.count}"


async def test_instances_are_opened_once_and_lent_to_one_call_each() -> None:
    opened, busy, most, lock = Opened(), set(), [0], threading.Lock()

    def work(server, stop):
        with lock:
            assert server not in busy
            busy.add(server)
            most[0] = max(most[0], len(busy))
        time.sleep(0.01)
        with lock:
            busy.discard(server)
        return server

    pool = InstancePool("m", opened, 2, InstanceLimiter(2))
    used = await asyncio.gather(*(pool.run(work, 5.0) for _ in range(10)))
    assert {server for server, _ in used} == {"instance 1", "instance 2"}
    assert (opened.count, most[0]) == (2, 2)
    assert all(waited > 0 for _, waited in used)
    await pool.close()


async def test_a_gate_bounds_the_instances_of_all_models() -> None:
    limiter, running, most, lock = InstanceLimiter(2), [0], [0], threading.Lock()

    def work(server, stop):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    pools = [InstancePool(name, Opened(), 2, limiter) for name in "ab"]
    await asyncio.gather(*(pool.run(work, 5.0) for pool in pools for _ in range(6)))
    assert most[0] == 2
    await asyncio.gather(*(pool.close() for pool in pools))


async def test_a_model_is_opened_while_no_other_works() -> None:
    limiter, working, during = InstanceLimiter(2), threading.Event(), []

    def open_second():
        during.append(working.is_set())
        return "second"

    def work(server, stop):
        working.set()
        time.sleep(0.05)
        working.clear()

    first, second = InstancePool("a", Opened(), 1, limiter), InstancePool("b", open_second, 1, limiter)
    await first.any()
    running = asyncio.create_task(first.run(work, 5.0))
    while not working.is_set():
        await asyncio.sleep(0.001)
    await second.run(lambda server, stop: None, 5.0)
    await running
    assert during == [False]


async def test_a_late_call_is_a_timeout_and_its_instance_comes_back() -> None:
    def late(server, stop):
        assert stop.wait(5.0)

    pool = InstancePool("m", Opened(), 1, InstanceLimiter(1))
    with pytest.raises(BackendTimeoutError, match=r"within 0.05 s"):
        await pool.run(late, 0.05)
    result, _ = await pool.run(lambda server, stop: server, 5.0)
    assert result == "instance 1"
    await pool.close()


async def test_a_cancelled_call_gives_its_instance_back() -> None:
    pool = InstancePool("m", Opened(), 1, InstanceLimiter(1))
    tasks = [asyncio.create_task(pool.run(lambda server, stop: stop.wait(5.0), 5.0)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await pool.run(lambda server, stop: server, 5.0))[0] == "instance 1"
    await pool.close()


async def test_a_model_that_cannot_be_opened_fails_each_call_and_may_open_later() -> None:
    opened = Opened(fail=True)
    pool = InstancePool("m", opened, 2, InstanceLimiter(2))
    outcomes = await asyncio.gather(*(pool.run(lambda s, e: s, 5.0) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, BackendError) for outcome in outcomes)
    opened.fail = False
    assert (await pool.run(lambda server, stop: server, 5.0))[0] in {"instance 1", "instance 2"}
    await pool.close()


async def test_close_ends_what_runs_and_refuses_more() -> None:
    pool = InstancePool("m", Opened(), 1, InstanceLimiter(1))
    running = asyncio.create_task(pool.run(lambda server, stop: stop.wait(5.0), 10.0))
    await asyncio.sleep(0.1)
    await pool.close()
    assert (await running)[0] is True
    with pytest.raises(BackendUnavailableError, match="being closed"):
        await pool.run(lambda server, stop: None, 5.0)
