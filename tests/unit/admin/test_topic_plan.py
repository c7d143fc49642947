from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.admin.topic_plan import Topic, check_names, declared_topics, differences
from safescale.core.errors import InvalidInputError
from safescale.runtime.bus import topics
from safescale.runtime.bus.limits import DEAD_LETTER_LIMIT, MESSAGE_LIMIT
from safescale.runtime.settings import Settings


def settings(**values) -> Settings:
    return Settings(_env_file=None, **values)


def declared(models=("m",), **values) -> dict[str, Topic]:
    return {topic.name: topic for topic in declared_topics(settings(**values), list(models))}


def test_every_topic_is_declared_and_one_for_each_model() -> None:
    found = declared(["a", "b.c"])
    assert set(found) == {
        topics.CONTEXT_REQUESTED, topics.RESEARCH_REQUESTED, topics.CONTEXT_BUILT, topics.GENERATION_COMPLETED,
        topics.VERDICT_RECORDED, topics.RUN_ENDED, topics.DEAD_LETTER, topics.DEAD_LETTER_REPLAYED,
        "safescale.generation.requested.v1.a", "safescale.generation.requested.v1.b.c",
    }  # fmt: skip


def test_partitions_replicas_retention_and_size_come_from_the_settings() -> None:
    found = declared(kafka_partitions=12, kafka_replication=3, kafka_retention_hours=2.5)
    topic = found[topics.VERDICT_RECORDED]
    assert (topic.partitions, topic.replicas) == (12, 3)
    assert topic.settings["retention.ms"] == "9000000"
    assert int(topic.settings["max.message.bytes"]) > MESSAGE_LIMIT
    assert topic.settings["min.insync.replicas"] == "2"


def test_dead_letters_are_kept_longer_and_may_be_larger() -> None:
    topic = declared(kafka_retention_hours=1)[topics.DEAD_LETTER]
    assert topic.partitions == 1
    assert topic.settings["retention.ms"] == str(30 * 24 * 3_600_000)
    assert int(topic.settings["max.message.bytes"]) > DEAD_LETTER_LIMIT


def test_the_ends_of_runs_outlive_the_requests_that_they_call_off() -> None:
    topic = declared(kafka_retention_hours=1)[topics.RUN_ENDED]
    assert (topic.partitions, topic.settings["cleanup.policy"]) == (1, "compact,delete")
    assert topic.settings["retention.ms"] == str(30 * 24 * 3_600_000)
    longer = declared(kafka_retention_hours=2000)[topics.RUN_ENDED]
    assert longer.settings["retention.ms"] == str(4000 * 3_600_000)


@pytest.mark.parametrize("model", ["", "a/b", "ä", "a b", "x" * 201])
def test_a_model_id_that_cannot_name_a_topic_is_refused(model: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot name a topic"):
        declared([model])


def test_models_that_kafka_takes_for_the_same_are_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"qwen3_14b.*qwen3\.14b|qwen3\.14b.*qwen3_14b"):
        declared(["qwen3.14b", "other", "qwen3_14b"])


def test_the_same_model_twice_is_one_topic() -> None:
    assert declared(["a", "a"]) == declared(["a"])


def test_a_name_that_is_too_long_is_refused() -> None:
    check_names(["x" * 249])
    with pytest.raises(InvalidInputError, match="249"):
        check_names(["x" * 250])


@given(st.lists(st.text("ab._-", min_size=1, max_size=4), unique=True))
def test_names_pass_exactly_when_none_clash(names: list[str]) -> None:
    clash = len({name.replace(".", "_") for name in names}) < len(names)
    if clash:
        with pytest.raises(InvalidInputError):
            check_names(names)
    else:
        check_names(names)


TOPIC = declared()[topics.VERDICT_RECORDED]


def kinds(existing: Topic, wanted: Topic = TOPIC) -> list[tuple[str, str]]:
    return [(d.kind, d.text) for d in differences([wanted], {existing.name: existing})]


def test_what_is_as_declared_does_not_differ() -> None:
    assert kinds(TOPIC) == []


def test_a_missing_topic_is_made() -> None:
    (found,) = differences([TOPIC], {})
    assert (found.kind, found.partitions, found.settings) == ("create", TOPIC.partitions, TOPIC.settings)


def test_partitions_grow_and_never_shrink() -> None:
    assert kinds(replace(TOPIC, partitions=2)) == [("change", "partitions 2 -> 6")]
    ((kind, text),) = kinds(replace(TOPIC, partitions=9))
    assert kind == "refuse"
    assert "SAFESCALE_KAFKA_PARTITIONS" in text


@pytest.mark.parametrize(
    ("name", "there", "kind"),
    [
        ("retention.ms", "1", "change"),
        ("retention.ms", "99999999999", "refuse"),
        ("retention.ms", "-1", "refuse"),
        ("max.message.bytes", "1000", "change"),
        ("max.message.bytes", "99999999", "refuse"),
        ("compression.type", "producer", "change"),
    ],
)
def test_settings_that_would_take_something_away_are_refused(name: str, there: str, kind: str) -> None:
    ((found, text),) = kinds(replace(TOPIC, settings={**TOPIC.settings, name: there}))
    assert found == kind
    assert there in text


def test_replicas_are_told_and_left() -> None:
    assert kinds(replace(TOPIC, replicas=2))[0][0] == "note"


def test_a_topic_that_clashes_with_an_existing_one_is_refused() -> None:
    other = replace(TOPIC, name=TOPIC.name.replace(".", "_", 1))
    (found,) = differences([TOPIC], {other.name: other})
    assert found.kind == "refuse"


def test_the_topic_of_a_model_that_left_the_catalog_is_told_and_left() -> None:
    gone = replace(TOPIC, name=topics.generation_requested("gone"))
    (found,) = differences([TOPIC], {TOPIC.name: TOPIC, gone.name: gone})
    assert (found.topic, found.kind) == (gone.name, "note")
