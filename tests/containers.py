"""Kafka and Elasticsearch in containers. Images by environment; official names unless told otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

KAFKA_IMAGE = os.environ.get("SAFESCALE_KAFKA_IMAGE", "apache/kafka:4.4.0")
ELASTICSEARCH_IMAGE = os.environ.get(
    "SAFESCALE_ELASTICSEARCH_IMAGE", "docker.elastic.co/elasticsearch/elasticsearch:9.5.3"
)


@contextmanager
def kafka_container() -> Iterator[str]:
    """host:port of a broker for the length of the context."""
    from testcontainers.community.kafka import KafkaContainer

    class AnyKafka(KafkaContainer):  # type: ignore[misc]
        def _verify_min_kraft_version(self) -> None:
            """The class compares tags with Confluent's numbering; these are Kafka's own."""

    with AnyKafka(KAFKA_IMAGE).with_kraft() as container:
        yield container.get_bootstrap_server()


@contextmanager
def elasticsearch_container() -> Iterator[str]:
    """URL of a node for the length of the context."""
    from testcontainers.community.elasticsearch import ElasticSearchContainer

    with ElasticSearchContainer(ELASTICSEARCH_IMAGE) as container:
        yield f"http://{container.get_container_host_ip()}:{container.get_exposed_port(9200)}"
