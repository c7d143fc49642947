"""Kafka and Elasticsearch in containers. Images by environment; official names unless told otherwise."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

KAFKA_IMAGE = os.environ.get("SAFESCALE_KAFKA_IMAGE", "apache/kafka:4.4.0")
ELASTICSEARCH_IMAGE = os.environ.get(
    "SAFESCALE_ELASTICSEARCH_IMAGE", "docker.elastic.co/elasticsearch/elasticsearch:9.5.3"
)
READY_S = 180.0


def free_port() -> int:
    """A free port of this machine; fixed, since a restarted container must come back at its address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, ready: Callable[[], object], seconds: float = READY_S) -> None:
    """Ask again and again; the last error is told when time is over."""
    end = time.monotonic() + seconds
    while True:
        try:
            ready()
            return
        except Exception as error:
            if time.monotonic() > end:
                raise AssertionError(f"{what} is not ready after {seconds:.0f} s: {error!r}") from error
            time.sleep(0.25)


def freeze(container: Any) -> None:
    """Pause a container. On cgroup v1 the kernel refuses at times while processes start: it is asked again."""
    from docker.errors import APIError

    for left in range(20, -1, -1):
        try:
            container.pause()
            return
        except APIError:
            if not left:
                raise
            time.sleep(0.5)


def kafka_environment(port: int) -> dict[str, str]:
    """Settings of one broker that containers reach as kafka:9092 and this machine at a port."""
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"INSIDE://:9092,CONTROLLER://:9093,OUTSIDE://:{port}",
        "KAFKA_ADVERTISED_LISTENERS": f"INSIDE://kafka:9092,OUTSIDE://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "8",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }


def kafka_answers(address: str) -> None:
    """Raise unless the broker at the address answers a real request."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000)
    try:
        admin.list_topics()
    finally:
        admin.close()


@contextmanager
def kafka_container() -> Iterator[str]:
    """host:port of a broker for the length of the context."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    broker = DockerContainer(KAFKA_IMAGE)
    broker.ports[f"{port}/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]
    for name, value in kafka_environment(port).items():
        broker.with_env(name, value)
    # Nobody else is in its network.
    broker.with_env("KAFKA_ADVERTISED_LISTENERS", f"INSIDE://localhost:9092,OUTSIDE://127.0.0.1:{port}")
    with broker:
        wait_for("kafka", lambda: kafka_answers(f"127.0.0.1:{port}"))
        yield f"127.0.0.1:{port}"


@contextmanager
def elasticsearch_container() -> Iterator[str]:
    """URL of a node for the length of the context."""
    from testcontainers.community.elasticsearch import ElasticSearchContainer

    node = ElasticSearchContainer(ELASTICSEARCH_IMAGE)
    node.with_env("cluster.routing.allocation.disk.threshold_enabled", "false")
    with node as container:
        yield f"http://{container.get_container_host_ip()}:{container.get_exposed_port(9200)}"
