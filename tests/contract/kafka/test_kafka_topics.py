"""Topics as declared, against a real Kafka; the command line included."""

import uuid
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from safescale.admin.topic_plan import Topic, declared_topics, differences
from safescale.admin.topics import topic_admin
from safescale.core.errors import FailedPreconditionError
from safescale.runtime.bus.kafka_client import KafkaConnection, open_admin
from safescale.runtime.settings import Settings

pytestmark = pytest.mark.grid


@pytest.fixture
def declared(kafka_address):
    """Two declared topics with random names; deleted in the end."""
    pattern = declared_topics(Settings(_env_file=None, kafka_partitions=2), [])[0]
    topics = [replace(pattern, name=f"safescale.test.{uuid.uuid4().hex}") for _ in range(2)]
    yield topics
    admin = open_admin(KafkaConnection((kafka_address,)))
    there = set(admin.list_topics())
    if left := [topic.name for topic in topics if topic.name in there]:
        admin.delete_topics(left)
    admin.close()


def compared(admin, declared: list[Topic]):
    wanted = {topic.name for topic in declared}
    return [found for found in differences(declared, admin.existing(declared)) if found.topic in wanted]


def test_applying_makes_what_is_declared_and_then_nothing(kafka_address: str, declared: list[Topic]) -> None:
    with topic_admin(KafkaConnection((kafka_address,))) as admin:
        found = compared(admin, declared)
        assert [difference.kind for difference in found] == ["create", "create"]
        admin.apply(found, replicas=1)
        assert compared(admin, declared) == []
        existing = admin.existing(declared)
        assert {name: existing[name] for name in (t.name for t in declared)} == {t.name: t for t in declared}
        admin.apply(found, replicas=1)
        listed = {item.topic.name: item.messages for item in admin.listed(declared)}
        assert listed[declared[0].name] == 0


def test_more_partitions_and_longer_retention_are_applied(kafka_address: str, declared: list[Topic]) -> None:
    with topic_admin(KafkaConnection((kafka_address,))) as admin:
        admin.apply(compared(admin, declared), replicas=1)
        settings = {**declared[0].settings, "retention.ms": str(400 * 3_600_000)}
        grown = [replace(declared[0], partitions=5, settings=settings), declared[1]]
        admin.apply(compared(admin, grown), replicas=1)
        assert compared(admin, grown) == []
        assert admin.existing(grown)[grown[0].name].partitions == 5


def test_less_is_refused_and_nothing_is_changed(kafka_address: str, declared: list[Topic]) -> None:
    with topic_admin(KafkaConnection((kafka_address,))) as admin:
        admin.apply(compared(admin, declared), replicas=1)
        settings = {**declared[1].settings, "retention.ms": "1000"}
        other = [replace(declared[0], partitions=7), replace(declared[1], partitions=1, settings=settings)]
        with pytest.raises(FailedPreconditionError, match="partitions 2 -> 1 is refused") as raised:
            admin.apply(compared(admin, other), replicas=1)
        assert "would delete messages" in raised.value.message
        assert compared(admin, declared) == []


def test_more_replicas_than_brokers_are_explained(kafka_address: str, declared: list[Topic]) -> None:
    with (
        topic_admin(KafkaConnection((kafka_address,))) as admin,
        pytest.raises(FailedPreconditionError, match="SAFESCALE_KAFKA_REPLICATION"),
    ):
        admin.apply(compared(admin, declared), replicas=9)


def test_the_command_line_applies_once(kafka_address: str, monkeypatch) -> None:
    from safescale.cli.main import app

    monkeypatch.setenv("SAFESCALE_KAFKA", kafka_address)
    run = CliRunner().invoke
    before = run(app, ["topics", "apply"])
    if before.exit_code:
        assert "--yes" in before.exception.message
    first = run(app, ["topics", "apply", "--yes"])
    assert first.exit_code == 0, first.output
    again = run(app, ["topics", "apply"])
    assert again.exit_code == 0
    assert "The topics are as declared." in again.output
    assert run(app, ["topics", "diff"]).exit_code == 0
    listed = run(app, ["topics", "list"], env={"COLUMNS": "200"})
    assert "safescale.generation.requested.v1.smollm2-135m-instruct" in listed.output
    monkeypatch.setenv("SAFESCALE_KAFKA_PARTITIONS", "1000")
    more = run(app, ["topics", "diff"])
    assert more.exit_code == 1
    assert "-> 1000" in more.output
