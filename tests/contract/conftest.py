"""The adapters of the bus, one after the other."""

import pytest
import pytest_asyncio

from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Bus
from safescale.runtime.telemetry import Telemetry


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.grid)])
def kind(request) -> str:
    return request.param


@pytest.fixture
def topic(kind, request):
    if kind == "memory":
        yield "t"
        return
    from tests.support.kafka_topics import some_topics

    with some_topics(request.getfixturevalue("kafka_address"), 1) as (name,):
        yield name


@pytest_asyncio.fixture
async def bus(kind, topic, request):
    # After the topic, so that nothing reads it any more when it is deleted.
    if kind == "memory":
        adapter: Bus = MemoryBus(Telemetry(), capacity=50)
        adapter.telemetry = adapter._telemetry
    else:
        from tests.support.kafka_topics import kafka_bus

        adapter = kafka_bus(request.getfixturevalue("kafka_address"))
    yield adapter
    await adapter.close()
