"""The order in which a host stops, and what it does with a store that cannot be used."""

import asyncio
from pathlib import Path

import pytest
import structlog

from safescale.app import host as hosting
from safescale.app.host import Host, HostOptions
from safescale.cli.session import session
from safescale.core.errors import StorageError
from safescale.orchestration.service import OrchestrationService
from safescale.probe import ask
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2, scoring_pb2_grpc
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.files.data_folder import announced_address
from safescale.runtime.settings import Settings
from safescale.scoring.service import ScoringService


async def test_services_reach_their_peers_until_they_have_stopped(tmp_path: Path, monkeypatch) -> None:
    host = Host(Settings(data_dir=tmp_path), HostOptions())
    answered: list[str] = []

    def asking(kind):
        stop = kind.stop

        async def stop_and_ask(service) -> None:
            stub = scoring_pb2_grpc.ScoringServiceStub(host.channel("scoring"))
            await stub.ListReviews(scoring_pb2.ListReviewsRequest(), timeout=5)
            answered.append(kind.__name__)
            await stop(service)

        return stop_and_ask

    # The first service that stops, and the last.
    for kind in (OrchestrationService, ScoringService):
        monkeypatch.setattr(kind, "stop", asking(kind))
    async with host:
        # Opened when both have started long ago.
        host.channel("scoring")
    assert answered == ["OrchestrationService", "ScoringService"]


async def test_a_store_that_cannot_be_used_is_told_and_shown_while_serving(tmp_path: Path, monkeypatch) -> None:
    async def unusable(_store) -> None:
        raise StorageError("the index safescale-run is of another version")

    monkeypatch.setattr(hosting, "PING_INTERVAL_S", 0.01)
    labels = {"dependency": "documents"}
    async with Host(Settings(data_dir=tmp_path), HostOptions()) as host:
        assert host.telemetry.registry.get_sample_value("safescale_dependency_up", labels) == 1
        with structlog.testing.capture_logs() as told:
            monkeypatch.setattr(SqliteDocuments, "ping", unusable)
            while not told:
                await asyncio.sleep(0.01)
        assert told[0]["event"] == "dependency cannot be used"
        assert told[0]["reason"] == "the index safescale-run is of another version"
        assert host.telemetry.registry.get_sample_value("safescale_dependency_up", labels) == 0


async def test_a_store_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path, monkeypatch) -> None:
    async def unusable(_store) -> None:
        raise StorageError("the index safescale-run is of another version")

    monkeypatch.setattr(SqliteDocuments, "ping", unusable)
    with pytest.raises(StorageError, match="another version"):
        async with Host(Settings(data_dir=tmp_path), HostOptions()):
            pass


@pytest.mark.parametrize("given", ["::1", "[::1]", "::"])
async def test_a_host_on_ipv6_is_found_by_its_own_words(tmp_path: Path, given: str) -> None:
    options = HostOptions(given, metrics_port=0)
    async with Host(Settings(data_dir=tmp_path), options) as host:
        shown = f"[{given.strip('[]')}]"
        assert host.description.startswith(f"gRPC on {shown}:")
        assert f"http://{shown}:" in host.metrics_address
        announced = announced_address(tmp_path)
        assert announced is not None
        assert announced.startswith("[::1]:")
        assert await asyncio.to_thread(ask, announced) == ""
        url = host.metrics_address.replace("[::]", "[::1]")
        assert await asyncio.to_thread(ask, url) == ""
        async with session(Settings(data_dir=tmp_path, server=announced)) as client:
            await client.orchestration.ListRuns(orchestration_pb2.ListRunsRequest(), timeout=5)
