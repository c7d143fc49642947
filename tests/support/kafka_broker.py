"""A Kafka of a test's own: it may be killed, paused and started again, and have other listeners. In a container."""

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.containers import KAFKA_IMAGE, freeze

from safescale.core.errors import BusUnavailableError
from safescale.runtime.bus.kafka_client import KafkaConnection, open_admin

NODE = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "OPEN",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_LOG_DIRS": "/tmp/kafka-logs",
}

START = (
    "[ -e /tmp/kafka-logs/meta.properties ] && exec /opt/kafka/bin/kafka-server-start.sh"
    " /opt/kafka/config/server.properties; exec /etc/kafka/docker/run"
)
"""Starts the broker. Not every image can start a second time on storage that it has formatted; this can."""


def free_port() -> int:
    """A port that is free now. Fixed for the container's life, so that it is the same after a restart."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Broker:
    """A running container; `addresses` by the names of its listeners."""

    container: Any
    addresses: dict[str, str]

    @property
    def address(self) -> str:
        """The listener without security."""
        return self.addresses["OPEN"]

    def kill(self) -> None:
        """Kill the broker at once."""
        self.container.get_wrapped_container().kill()

    def start(self) -> None:
        """Start the killed broker again, with its data."""
        self.container.get_wrapped_container().start()

    def pause(self) -> None:
        """Freeze the broker: connections stay open and nothing answers."""
        freeze(self.container.get_wrapped_container())

    def unpause(self) -> None:
        """Let a frozen broker go on."""
        self.container.get_wrapped_container().unpause()


@contextmanager
def broker(
    listeners: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None, files: Path | None = None
) -> Iterator[Broker]:
    """A broker with the listener OPEN and others, each with its security protocol. `files` is seen as /files."""
    from testcontainers.core.container import DockerContainer

    protocols = {"OPEN": "PLAINTEXT", **(listeners or {})}
    ports = {name: free_port() for name in protocols}
    shown = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    container = DockerContainer(KAFKA_IMAGE)
    settings = {
        **NODE,
        "KAFKA_LISTENERS": ",".join(["CONTROLLER://:9093", *(f"{name}://:{port}" for name, port in ports.items())]),
        "KAFKA_ADVERTISED_LISTENERS": ",".join(f"{name}://{address}" for name, address in shown.items()),
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": ",".join(
            ["CONTROLLER:PLAINTEXT", *(f"{name}:{protocol}" for name, protocol in protocols.items())]
        ),
        **(env or {}),
    }
    container = container.with_command(["bash", "-c", START])
    for name, value in settings.items():
        container = container.with_env(name, value)
    for port in ports.values():
        container.ports[f"{port}/tcp"] = ("127.0.0.1", port)
    if files is not None:
        container = container.with_volume_mapping(str(files), "/files", "ro")
    with container:
        started = Broker(container, shown)
        wait_for(started.address)
        yield started


def wait_for(address: str, seconds: float = 90) -> None:
    """Return when a broker answers a real request."""
    end = time.monotonic() + seconds
    while True:
        try:
            admin = open_admin(KafkaConnection((address,)))
        except BusUnavailableError:
            if time.monotonic() >= end:
                raise
            continue
        admin.list_topics()
        admin.close()
        return


def make_certificates(folder: Path) -> None:
    """A CA, a server's and a client's certificate in PEM: ca.pem, server.pem (with key), client.pem, client.key."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=test-ca")  # fmt: skip
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}")  # fmt: skip
        extensions = folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", extensions.name, "-out", f"{name}.crt")  # fmt: skip
    (folder / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
    (folder / "client.pem").write_text((folder / "client.crt").read_text())
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
