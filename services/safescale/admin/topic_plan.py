"""The topics of the grid as they are declared, and how a Kafka's topics differ from that. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from safescale.core.errors import InvalidInputError
from safescale.runtime.bus import topics
from safescale.runtime.bus.limits import BATCH_RESERVE, limit_of
from safescale.runtime.settings import Settings

NAME_LIMIT = 249
"""Characters of a topic's name in Kafka."""

DEAD_LETTER_HOURS = 30 * 24.0
"""Hours for which dead letters are kept at least: a person has to read them."""

MODEL_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")

RETENTION = "retention.ms"
MESSAGE_BYTES = "max.message.bytes"

Kind = Literal["create", "change", "refuse", "note"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, as declared or as it is: partitions, replicas, and the settings that we declare."""

    name: str
    partitions: int
    replicas: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be done for a topic, or cannot be done, in a sentence."""

    topic: str
    kind: Kind
    text: str
    partitions: int | None = None
    settings: Mapping[str, str] | None = None


def declared_topics(settings: Settings, models: Sequence[str]) -> list[Topic]:
    """Every topic of the grid, one for each model among them.

    Raises:
        InvalidInputError: a model's id cannot be part of a topic's name, or two of them would clash in Kafka.

    """
    for model in models:
        if not MODEL_ID.fullmatch(model):
            raise InvalidInputError(
                f"model id {model!r} cannot name a topic; expected 1 to 200 letters, digits, '.', '_' or '-'"
            )
    work = (
        topics.CONTEXT_REQUESTED, topics.RESEARCH_REQUESTED, topics.CONTEXT_BUILT, topics.GENERATION_COMPLETED,
        topics.VERDICT_RECORDED, *(topics.generation_requested(model) for model in dict.fromkeys(models)),
    )  # fmt: skip
    hours = settings.kafka_retention_hours
    found = [_topic(name, settings, settings.kafka_partitions, hours) for name in work]
    # An end has to outlive the requests that it calls off, which Kafka keeps beyond their time until it deletes a whole
    # segment. Of a run the newest end counts.
    ended = _topic(topics.RUN_ENDED, settings, 1, max(2 * hours, DEAD_LETTER_HOURS))
    found.append(replace(ended, settings={**ended.settings, "cleanup.policy": "compact,delete"}))
    # One partition: they are few, and an operator names one by its offset.
    few = (topics.DEAD_LETTER, topics.DEAD_LETTER_REPLAYED)
    found += [_topic(name, settings, 1, max(hours, DEAD_LETTER_HOURS)) for name in few]
    check_names(topic.name for topic in found)
    return found


def _topic(name: str, settings: Settings, partitions: int, hours: float) -> Topic:
    return Topic(
        name,
        partitions,
        settings.kafka_replication,
        {
            "cleanup.policy": "delete",
            RETENTION: str(int(hours * 3_600_000)),
            MESSAGE_BYTES: str(limit_of(name) + BATCH_RESERVE),
            # Whatever a foreign producer uses, consumers get what they can read.
            "compression.type": "lz4",
            "min.insync.replicas": "2" if settings.kafka_replication >= 3 else "1",
        },
    )


def check_names(names: Iterable[str]) -> None:
    """Refuse names that Kafka would refuse, with the reason.

    Raises:
        InvalidInputError: a name is too long, or two differ in nothing but '.' and '_'.

    """
    seen: dict[str, str] = {}
    for name in names:
        if len(name) > NAME_LIMIT:
            raise InvalidInputError(f"topic {name} has {len(name)} characters; Kafka allows {NAME_LIMIT}")
        other = seen.setdefault(name.replace(".", "_"), name)
        if other != name:
            raise InvalidInputError(
                f"topics {other} and {name} differ in nothing but '.' and '_', which Kafka takes for the same; "
                "rename a model in the catalog"
            )


def differences(declared: Sequence[Topic], existing: Mapping[str, Topic]) -> list[Difference]:
    """Return the steps after which a Kafka has the declared topics, and what cannot be done."""
    found: list[Difference] = []
    flat = {name.replace(".", "_"): name for name in existing}
    for topic in declared:
        there = existing.get(topic.name)
        if there is not None:
            found += _changes(topic, there)
            continue
        clash = flat.get(topic.name.replace(".", "_"))
        if clash is not None:
            text = f"Kafka has {clash}, which differs in nothing but '.' and '_'; delete it or rename the model"
            found.append(Difference(topic.name, "refuse", text))
            continue
        text = f"new: {topic.partitions} partitions, {topic.replicas} replicas, {_told(topic.settings)}"
        found.append(Difference(topic.name, "create", text, topic.partitions, topic.settings))
    wanted = {topic.name for topic in declared}
    for name in sorted(existing):
        if name.startswith(topics.GENERATION_REQUESTED_PREFIX) and name not in wanted:
            found.append(Difference(name, "note", "no model of the catalog has this topic; left as it is"))
    return found


def _changes(topic: Topic, there: Topic) -> list[Difference]:
    found: list[Difference] = []
    if topic.partitions > there.partitions:
        text = f"partitions {there.partitions} -> {topic.partitions}"
        found.append(Difference(topic.name, "change", text, partitions=topic.partitions))
    elif topic.partitions < there.partitions:
        text = (
            f"partitions {there.partitions} -> {topic.partitions} is refused: Kafka cannot take partitions away; "
            f"declare at least {there.partitions} (SAFESCALE_KAFKA_PARTITIONS) or delete the topic when it is empty"
        )
        found.append(Difference(topic.name, "refuse", text))
    if topic.replicas != there.replicas:
        text = f"replicas {there.replicas}, declared {topic.replicas}: Kafka's own reassignment changes this"
        found.append(Difference(topic.name, "note", text))
    changed = {name: value for name, value in topic.settings.items() if there.settings.get(name) != value}
    for name, why in ((RETENTION, "would delete messages"), (MESSAGE_BYTES, "could stop producers")):
        old, new = there.settings.get(name), changed.get(name)
        if old is not None and new is not None and _less(int(new), int(old)):
            del changed[name]
            text = f"{name} {old} -> {new} is refused: a smaller value {why}; change it by hand if that is meant"
            found.append(Difference(topic.name, "refuse", text))
    for name, value in changed.items():
        text = f"{name} {there.settings.get(name, 'unset')} -> {value}"
        found.append(Difference(topic.name, "change", text, settings={name: value}))
    return found


def _less(new: int, old: int) -> bool:
    # -1 is for ever.
    return new != -1 and (old == -1 or new < old)


def _told(settings: Mapping[str, str]) -> str:
    hours = int(settings[RETENTION]) / 3_600_000
    return f"kept {hours:g} h, messages up to {int(settings[MESSAGE_BYTES]):,} bytes"
