"""How services are built from the settings."""

import pytest

from safescale.app.bootstrap import BUILDERS, Parts
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry


@pytest.fixture
async def documents(tmp_path):
    opened = await SqliteDocuments.open(tmp_path / "r.db")
    yield opened
    await opened.close()


@pytest.mark.parametrize(("kafka", "kept_s"), [("kafka:9092", 7200.0), ("", None)])
async def test_open_cells_are_asked_again_when_kafka_has_thrown_their_messages_away(documents, tmp_path, kafka, kept_s):
    telemetry = Telemetry()
    settings = Settings(kafka=kafka, kafka_retention_hours=2, data_dir=tmp_path)
    parts = Parts(settings, MemoryBus(telemetry), documents, telemetry, lambda name: None, resume_on_start=True)
    service = BUILDERS["orchestration"](parts)
    assert service._config.messages_kept_s == kept_s
