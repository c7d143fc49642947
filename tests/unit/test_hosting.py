"""The order in which a host stops, and what it does with a store that cannot be used."""

import asyncio
from pathlib import Path

import pytest
import structlog

from safescale import hosting
from safescale.core.errors import StorageError
from safescale.hosting import Host, HostOptions
from safescale.orchestration.service import OrchestrationService
from safescale.rpc.scoring.v1 import scoring_pb2, scoring_pb2_grpc
from safescale.runtime.documents.sqlite import SqliteDocuments
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
