"""The listening gateway: its address, readiness, and how it stops."""

import asyncio
import socket
from dataclasses import replace

import httpx
import pytest
from grpc_health.v1 import health_pb2

from safescale.core.errors import AddressInUseError, InvalidInputError
from safescale.gateway.config import GatewayConfig, gateway_config
from safescale.gateway.server import serve
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry


async def test_ready_is_what_all_four_say(world) -> None:
    found = await world.client.get("/readyz")
    assert (found.status_code, set(found.json()["services"].values())) == (200, {"serving"})
    name = "safescale.scoring.v1.ScoringService"
    await world.health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    found = await world.client.get("/readyz")
    assert (found.status_code, found.json()["ready"], found.json()["services"][name]) == (503, False, "not_serving")
    assert (await world.client.get("/healthz")).json()["status"] == "ok"


async def test_a_gateway_that_drains_is_not_ready(world) -> None:
    world.gateway.draining.set()
    found = await world.client.get("/readyz")
    assert (found.status_code, found.json()["ready"]) == (503, False)


async def started(config: GatewayConfig) -> tuple[asyncio.Task[None], asyncio.Event, str]:
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(config, stop, ready.set_result))
    return task, stop, f"http://{await asyncio.wait_for(ready, 10)}"


async def test_a_stop_ends_event_streams_and_lets_answers_finish(world) -> None:
    run = pb.Run(run_id="demo-1", state=pb.RUN_STATE_RUNNING)
    world.fakes.on("GetRun", pb.GetRunResponse(run=run))
    world.fakes.on("WatchRun", lambda _: [pb.WatchRunResponse(state=pb.RUN_STATE_RUNNING), 60.0])
    task, stop, url = await started(world.gateway.config)
    async with httpx.AsyncClient(base_url=url) as client:
        async with client.stream("GET", "/api/v1/runs/demo-1/events") as response:
            async for line in response.aiter_lines():
                if line == "event: progress":
                    stop.set()
        # The stream ended whole: a cut one would have raised.
        await asyncio.wait_for(task, 10)
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")


async def test_a_taken_address_is_named(world) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = GatewayConfig(world.gateway.config.addresses, Telemetry(), port=port)
        with pytest.raises(AddressInUseError, match=f"cannot listen on 127.0.0.1:{port}"):
            await serve(config, asyncio.Event())


async def test_a_host_that_is_none_is_named(world) -> None:
    config = GatewayConfig(world.gateway.config.addresses, Telemetry(), host="no host")
    with pytest.raises(AddressInUseError, match="cannot listen on no host"):
        await serve(config, asyncio.Event())


def test_addresses_come_from_the_settings() -> None:
    settings = Settings(server="grid:1", scoring="scores:2", host="0.0.0.0", port=8080)
    config = gateway_config(settings, Telemetry())
    assert (config.addresses.inference, config.addresses.scoring) == ("grid:1", "scores:2")
    assert (config.host, config.port) == ("0.0.0.0", 8080)
    with pytest.raises(InvalidInputError, match="SAFESCALE_INFERENCE, SAFESCALE_RETRIEVAL, SAFESCALE_ORCHESTRATION"):
        gateway_config(Settings(server="", scoring="scores:2"), Telemetry())


def test_origins_come_from_the_settings() -> None:
    config = gateway_config(
        Settings(server="grid:1", cors_origins="https://a.example, http://b.example:8443,"), Telemetry()
    )
    assert config.cors_origins == ("https://a.example", "http://b.example:8443")


@pytest.mark.parametrize("origin", ["*", "a.example", "https://a.example/page", "https://*.example"])
def test_what_is_no_origin_is_named(origin: str) -> None:
    with pytest.raises(InvalidInputError, match="SAFESCALE_CORS_ORIGINS holds"):
        gateway_config(Settings(server="grid:1", cors_origins=f"https://a.example,{origin}"), Telemetry())


def test_names_come_from_the_settings() -> None:
    settings = Settings(server="grid:1", allowed_hosts="Review.Example, safescale-gateway:8080, 10.0.0.7,[fd00::7]")
    assert gateway_config(settings, Telemetry()).allowed_hosts == (
        "review.example", "safescale-gateway", "10.0.0.7", "fd00::7",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["*", "*.example", "https://a.example", "a b", "-"])
def test_what_is_no_name_is_told(name: str) -> None:
    with pytest.raises(InvalidInputError, match="SAFESCALE_ALLOWED_HOSTS is"):
        gateway_config(Settings(server="grid:1", allowed_hosts=f"a.example,{name}"), Telemetry())


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "localhost"])
async def test_it_listens_on_ipv6_and_tells_a_url(world, host: str) -> None:
    task, stop, url = await started(replace(world.gateway.config, host=host))
    try:
        assert host == "localhost" or url.startswith("http://[::")
        async with httpx.AsyncClient(base_url=url.replace("[::]", "[::1]")) as client:
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
    finally:
        stop.set()
        await task


async def test_a_host_that_is_none_is_told(world) -> None:
    for host in ("not a host", "256.1.1.1", "\udcff"):
        with pytest.raises(AddressInUseError, match="cannot listen on"):
            await serve(replace(world.gateway.config, host=host), asyncio.Event())
