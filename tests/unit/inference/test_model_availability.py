"""When models are asked: as they come, go and come back behind a worker."""

import asyncio

from tests.unit.inference.conftest import ScriptedBackend
from tests.unit.inference.generation_rig import Contexts, Rig, request

from safescale.core.errors import (
    BusUnavailableError,
)
from safescale.inference.attempts import CallPolicy
from safescale.inference.cache.store import GenerationCache
from safescale.inference.catalog import Catalog
from safescale.inference.engine import Engine
from safescale.inference.run_ends import RunEnds
from safescale.inference.servicer import InferenceServicer
from safescale.inference.worker import GenerationWorker, InferencePorts
from safescale.rpc.inference.v1 import inference_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.telemetry import Telemetry


async def test_models_that_cannot_be_asked_are_not_consumed(bench_of) -> None:
    rig = Rig(bench_of())
    rig.bench.backend.reason = "not installed"
    await rig.start()
    await rig.send(request().SerializeToString())
    await asyncio.sleep(0.05)
    assert rig.published == rig.dead == []
    assert rig.available == 0
    await rig.worker.stop()


async def test_a_model_that_comes_after_the_start_is_asked(bench_of, monkeypatch) -> None:
    monkeypatch.setattr("safescale.inference.worker.LOOK_S", 0.01)
    rig = Rig(bench_of())
    rig.bench.backend.reason = "not installed"
    await rig.start()
    rig.bench.backend.reason = ""
    async with asyncio.timeout(5):
        while not rig.available:
            await asyncio.sleep(0.005)
    (done,) = await rig.ask(request())
    assert done.greedy.text == "B"
    await rig.worker.stop()


async def test_cells_that_were_there_before_their_model_wait_for_it(bench_of) -> None:
    rig = Rig(bench_of())
    rig.bench.backend.reason = "not installed"
    await rig.start()
    await rig.send(request().SerializeToString())
    rig.bench.backend.reason = ""
    await rig.worker.look()
    async with asyncio.timeout(5):
        while not rig.published:
            await asyncio.sleep(0.005)
    assert rig.published[0].greedy.text == "B"
    await rig.worker.stop()


async def test_a_model_is_asked_from_when_it_is_told_as_available(bench_of) -> None:
    rig = Rig(bench_of())
    rig.bench.backend.reason = "not installed"
    await rig.start()
    servicer = InferenceServicer(rig.bench.engine, rig.worker.look)
    rig.bench.backend.reason = ""
    assert (await servicer.ListModels(inference_pb2.ListModelsRequest(), None)).models[0].available
    (done,) = await rig.ask(request())
    assert done.greedy.text == "B"
    await rig.worker.stop()


async def test_cells_of_a_model_that_went_wait_until_it_is_back(rig) -> None:
    await rig.ask(request())
    for _ in range(3):
        rig.bench.backend.reason = "the weights are gone"
        await rig.worker.look()
        assert rig.available == 0
        await rig.send(request(question="q2").SerializeToString())
        await asyncio.sleep(0.02)
        assert (len(rig.published), rig.dead) == (1, [])
        rig.bench.backend.reason = ""
        async with asyncio.timeout(5):
            while not rig.published[1:]:
                await rig.worker.look()
                await asyncio.sleep(0.005)
        assert rig.available == 1
        del rig.published[1:]
    # Test's own two, and one of the worker, however often it came and went.
    assert len(rig.bus._subscriptions) == 3


async def test_a_bus_that_is_away_does_not_end_the_looking(rig, monkeypatch) -> None:
    monkeypatch.setattr("safescale.inference.worker.LOOK_S", 0.01)
    rig.bench.backend.reason = "gone"
    await rig.worker.look()
    await rig.worker.stop()
    subscribe, failures = rig.bus.subscribe, [BusUnavailableError("away")]

    async def flaky(*given):
        if failures:
            raise failures.pop()
        return await subscribe(*given)

    await rig.worker.start()
    monkeypatch.setattr(rig.bus, "subscribe", flaky)
    rig.bench.backend.reason = ""
    (done,) = await rig.ask(request())
    assert (done.greedy.text, failures) == ("B", [])


async def test_a_model_without_a_topic_holds_up_no_other(documents, row_of, monkeypatch) -> None:
    monkeypatch.setattr("safescale.inference.worker.LOOK_S", 0.01)
    telemetry, bus = Telemetry(), MemoryBus(Telemetry())
    backends = {name: ScriptedBackend() for name in ("a", "m")}
    catalog = Catalog({name: row_of(id=name) for name in backends})
    engine = Engine(catalog, backends, GenerationCache(documents), telemetry, CallPolicy())
    for backend in backends.values():
        backend.reason = "not there yet"
    worker = GenerationWorker(InferencePorts(bus, documents, telemetry, engine, Contexts(), RunEnds(bus)))
    await worker.start()
    subscribe = bus.subscribe

    async def without_a(topic, *given):
        if topic == topics.generation_requested("a"):
            raise BusUnavailableError(f"no topic {topic}")
        return await subscribe(topic, *given)

    monkeypatch.setattr(bus, "subscribe", without_a)
    for backend in backends.values():
        backend.reason = ""
    async with asyncio.timeout(5):
        while "m" not in worker._subscriptions:
            await asyncio.sleep(0.005)
    assert "a" not in worker._subscriptions
    await worker.stop()
    await bus.close()
