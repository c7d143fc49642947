"""What the commands for Kafka share: its connection, the declared topics, and an orderly end after Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from safescale.cli.runner import EXIT_INTERRUPTED
from safescale.core.errors import FailedPreconditionError
from safescale.runtime.log import configure_logging
from safescale.runtime.settings import Settings, load_settings

if TYPE_CHECKING:
    from safescale.admin.topic_plan import Topic
    from safescale.runtime.bus.kafka_client import KafkaConnection


@contextmanager
def kafka_command() -> "Iterator[tuple[Settings, KafkaConnection]]":
    """Yield the settings and the connection of a command that works on Kafka.

    Raises:
        FailedPreconditionError: no Kafka is set, or its client is not installed.
        InvalidInputError: settings that cannot be used.
        typer.Exit: 130 after Ctrl-C.

    """
    settings = load_settings()
    configure_logging(settings.log_level)
    if not settings.kafka:
        raise FailedPreconditionError(
            "SAFESCALE_KAFKA is empty; expected Kafka's servers, host:port,...; the bus in memory has no topics"
        )
    try:
        from safescale.runtime.bus.kafka_client import connection_of, forward_logs
    except ImportError as error:
        raise FailedPreconditionError("the client of Kafka is missing; install safescale[grid]") from error
    forward_logs()
    try:
        yield settings, connection_of(settings)
    except KeyboardInterrupt:
        typer.echo("\nStopped.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def declared(settings: Settings) -> "list[Topic]":
    """Return the declared topics, one for each model of the catalog among them.

    Raises:
        InvalidInputError: the catalog cannot be read, or a model's id cannot name a topic.

    """
    # Here and not above: only the catalog needs what the services need.
    from safescale.admin.topic_plan import declared_topics
    from safescale.app.host import catalog_ids

    return declared_topics(settings, catalog_ids(settings))
