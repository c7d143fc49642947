"""Reads and changes the topics of a Kafka. Blocking: for the command line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec  # type: ignore[import-untyped]

from safescale.admin.topic_plan import Difference, Topic
from safescale.core.errors import FailedPreconditionError
from safescale.runtime.bus.kafka_client import KafkaConnection, open_admin, unavailable

PREFIX = "safescale."


@dataclass(frozen=True, slots=True)
class Listed:
    """A topic as it is, and how many messages it holds."""

    topic: Topic
    messages: int


class TopicAdmin:
    """Topics of a Kafka."""

    def __init__(self, admin: Any, connection: KafkaConnection) -> None:
        self._admin = admin
        self._connection = connection

    def existing(self, declared: Sequence[Topic]) -> dict[str, Topic]:
        """Topics of this system by name; of their settings those that are declared.

        Raises:
            BusUnavailableError: Kafka does not answer, or refuses.

        """
        wanted = {topic.name: set(topic.settings) for topic in declared}
        with self._errors():
            names = [name for name in self._admin.list_topics() if name.startswith(PREFIX)]
            if not names:
                return {}
            described = {topic["name"]: topic for topic in self._admin.describe_topics(names)}
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in described]
            configs = self._admin.describe_configs(resources, config_filter="all")["topic"]
        shown = set().union(*wanted.values())
        return {
            name: Topic(
                name,
                len(topic["partitions"]),
                len(topic["partitions"][0]["replica_nodes"]) if topic["partitions"] else 0,
                {key: str(found["value"]) for key, found in configs[name].items() if key in wanted.get(name, shown)},
            )
            for name, topic in described.items()
        }

    def listed(self, declared: Sequence[Topic]) -> list[Listed]:
        """Topics of this system with the messages that they hold.

        Raises:
            BusUnavailableError: Kafka does not answer, or refuses.

        """
        existing = self.existing(declared)
        places = [TopicPartition(t.name, index) for t in existing.values() for index in range(t.partitions)]
        with self._errors():
            begins = self._admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST)) if places else {}
            ends = self._admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST)) if places else {}
        counts: dict[str, int] = dict.fromkeys(existing, 0)
        for place in places:
            counts[place.topic] += max(0, ends[place].offset - begins[place].offset)
        return [Listed(existing[name], counts[name]) for name in sorted(existing)]

    def apply(self, found: Sequence[Difference], replicas: int) -> None:
        """Make and change topics. Nothing is done when a difference is refused.

        Raises:
            FailedPreconditionError: a difference that is refused, or that Kafka refuses.
            BusUnavailableError: Kafka does not answer.

        """
        refused = [f"{difference.topic}: {difference.text}" for difference in found if difference.kind == "refuse"]
        if refused:
            raise FailedPreconditionError("nothing was changed:\n  " + "\n  ".join(refused))
        for difference in found:
            if difference.kind == "create":
                self._create(difference, replicas)
            elif difference.kind == "change":
                self._change(difference)

    def _create(self, new: Difference, replicas: int) -> None:
        request = {
            "num_partitions": new.partitions,
            "replication_factor": replicas,
            "configs": dict(new.settings or {}),
        }
        with self._errors(new.topic):
            try:
                self._admin.create_topics({new.topic: request}, wait_for_metadata=True)
            except kafka_errors.TopicAlreadyExistsError:
                return

    def _change(self, change: Difference) -> None:
        with self._errors(change.topic):
            if change.partitions is not None:
                self._admin.create_partitions({change.topic: change.partitions})
            if change.settings:
                resource = ConfigResource(ConfigResourceType.TOPIC, change.topic, configs=dict(change.settings))
                answer = self._admin.alter_configs([resource])["topic"][change.topic]
                if answer != "OK":
                    raise FailedPreconditionError(f"Kafka refused to change {change.topic}: {answer}")

    @contextmanager
    def _errors(self, topic: str = "") -> Iterator[None]:
        try:
            yield
        except (
            kafka_errors.InvalidReplicationFactorError,
            kafka_errors.InvalidPartitionsError,
            kafka_errors.InvalidConfigurationError,
            kafka_errors.InvalidTopicError,
            kafka_errors.PolicyViolationError,
        ) as error:
            hint = ""
            if isinstance(error, kafka_errors.InvalidReplicationFactorError):
                hint = "; expected at most as many replicas (SAFESCALE_KAFKA_REPLICATION) as there are brokers"
            raise FailedPreconditionError(f"Kafka refused {topic}: {type(error).__name__}{hint}") from error
        except kafka_errors.KafkaError as error:
            raise unavailable(self._connection, error) from error


@contextmanager
def topic_admin(connection: KafkaConnection) -> Iterator[TopicAdmin]:
    """Topics of a Kafka, for the length of the context.

    Raises:
        BusUnavailableError: Kafka does not answer, or refuses us.

    """
    admin = open_admin(connection)
    try:
        yield TopicAdmin(admin, connection)
    finally:
        admin.close()
