"""The grid for benchmarks: Kafka and Elasticsearch in containers, each service of this checkout in its own process.

Images by SAFESCALE_KAFKA_IMAGE and SAFESCALE_ELASTICSEARCH_IMAGE, official names by default. Everything is removed at
the end. Processor time and memory are those that the kernel reports for each process.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

KAFKA_IMAGE = os.environ.get("SAFESCALE_KAFKA_IMAGE", "apache/kafka:4.4.0")
ELASTICSEARCH_IMAGE = os.environ.get(
    "SAFESCALE_ELASTICSEARCH_IMAGE", "docker.elastic.co/elasticsearch/elasticsearch:9.5.3"
)
SERVICES = ("scoring", "inference", "retrieval", "orchestration")
READY_S = 180.0
LIMIT = 64 * 1024 * 1024
TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, ready: Callable[[], object], seconds: float = READY_S, pause_s: float = 0.1) -> None:
    """Ask again and again until nothing is raised."""
    end = time.monotonic() + seconds
    while True:
        try:
            ready()
            return
        except Exception as error:
            if time.monotonic() > end:
                raise RuntimeError(f"{what} is not ready after {seconds:.0f} s: {error!r}") from error
            time.sleep(pause_s)


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far, its ended children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mb(pid: int, field_name: str = "VmRSS") -> float:
    """Resident memory in MB: now, or its highest (`VmHWM`)."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field_name))
    return int(line.split()[1]) / 1024


def serving(address: str) -> None:
    """Raise unless the gRPC server at the address says that it serves."""
    with channel(address) as to:
        answer = health_pb2_grpc.HealthStub(to).Check(health_pb2.HealthCheckRequest(), timeout=3)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise RuntimeError(f"{address} is not serving")


def channel(address: str) -> grpc.Channel:
    """Return a channel for large messages."""
    options = [
        ("grpc.max_receive_message_length", LIMIT),
        ("grpc.max_send_message_length", LIMIT),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_reconnect_backoff_ms", 200),
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]
    return grpc.insecure_channel(address, options=options)


@dataclass(frozen=True)
class Stores:
    """Addresses of Kafka and Elasticsearch, and the ids of their processes where this benchmark started them."""

    kafka: str
    elasticsearch: str
    pids: Mapping[str, int] = field(default_factory=dict)


ENGINE = "start one (deploy/airgap/engine.sh start does), or name it in DOCKER_HOST"
IMAGE = "name others in SAFESCALE_KAFKA_IMAGE and SAFESCALE_ELASTICSEARCH_IMAGE, or build them: make images AIRGAP=1"
PULL_S = 600


def have_images() -> None:
    """Get the images of the stores; what is missing ends the process with a sentence."""
    import docker
    from docker.errors import DockerException, ImageNotFound

    try:
        client = docker.from_env(timeout=PULL_S)
        client.ping()
    except (DockerException, OSError):
        sys.exit(
            f"no container engine answers, and this benchmark runs Kafka and Elasticsearch in containers; {ENGINE}"
        )
    for image in (KAFKA_IMAGE, ELASTICSEARCH_IMAGE):
        try:
            client.images.get(image)
            continue
        except ImageNotFound:
            print(f"pulling {image}", file=sys.stderr)
        except (DockerException, OSError) as error:
            sys.exit(f"the container engine cannot tell of the image {image}: {error}")
        try:
            client.images.pull(image)
        except (DockerException, OSError):
            sys.exit(f"the image {image} is not here and cannot be pulled; {IMAGE}")


@contextmanager
def stores() -> Iterator[Stores]:
    """Run a Kafka and an Elasticsearch of its own for the length of the context."""
    # What ends this process must not leave containers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    have_images()
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

    kafka_port, elastic_port = free_port(), free_port()
    kafka = DockerContainer(KAFKA_IMAGE)
    kafka.ports[f"{kafka_port}/tcp"] = ("127.0.0.1", kafka_port)  # type: ignore[assignment]
    elastic = DockerContainer(ELASTICSEARCH_IMAGE)
    elastic.ports["9200/tcp"] = ("127.0.0.1", elastic_port)  # type: ignore[assignment]
    settings = {
        "discovery.type": "single-node", "xpack.security.enabled": "false", "ES_JAVA_OPTS": "-Xms1g -Xmx1g",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }  # fmt: skip
    for container, environment in ((kafka, _kafka_environment(kafka_port)), (elastic, settings)):
        for key, value in environment.items():
            container.with_env(key, value)
    with Network() as network, kafka.with_network(network), elastic.with_network(network):
        url = f"http://127.0.0.1:{elastic_port}"
        wait_for("Elasticsearch", lambda: urllib.request.urlopen(f"{url}/_cluster/health", timeout=5).read())
        wait_for("Kafka", lambda: _kafka_answers(f"127.0.0.1:{kafka_port}"))
        pids = {
            name: _busiest(container.get_wrapped_container().top()["Processes"])
            for name, container in (("kafka", kafka), ("elasticsearch", elastic))
        }
        yield Stores(f"127.0.0.1:{kafka_port}", url, pids)


def _busiest(processes: Sequence[Sequence[str]]) -> int:
    """Id of the process that does a container's work; others start and watch it."""
    return max((int(fields[1]) for fields in processes), key=cpu_s)


def _kafka_environment(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"OUTSIDE://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"OUTSIDE://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,OUTSIDE:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "OUTSIDE",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }


def _kafka_answers(address: str) -> None:
    from kafka import KafkaAdminClient  # type: ignore[import-untyped]

    admin = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000)
    try:
        admin.list_topics()
    finally:
        admin.close()


def safescale() -> list[str]:
    """Return the command of this checkout."""
    return [str(Path(sys.executable).parent / "safescale")]


class Grid:
    """The services as processes. Use as a context manager."""

    def __init__(
        self, found: Stores, models_file: Path | None = None, services: Sequence[str] = SERVICES, log: str = "ERROR"
    ) -> None:
        self._names = services
        self._folder = tempfile.TemporaryDirectory(prefix="safescale-bench-")
        self.prefix = f"bench{free_port()}"
        self.ports = {name: free_port() for name in SERVICES}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, list[str]] = {name: [*safescale(), "serve", name] for name in SERVICES}
        self._environment = {
            **os.environ,
            **{f"SAFESCALE_{name.upper()}": self.address(name) for name in SERVICES},
            "SAFESCALE_KAFKA": found.kafka,
            "SAFESCALE_KAFKA_PARTITIONS": "3",
            "SAFESCALE_ELASTICSEARCH": found.elasticsearch,
            "SAFESCALE_ELASTICSEARCH_PREFIX": self.prefix,
            "SAFESCALE_DATA_DIR": self._folder.name,
            "SAFESCALE_LOG_LEVEL": log,
            "SAFESCALE_METRICS_PORT": "0",
        }
        if models_file is not None:
            self._environment["SAFESCALE_MODELS_FILE"] = str(models_file)

    def address(self, name: str) -> str:
        """host:port of a service."""
        return f"127.0.0.1:{self.ports[name]}"

    def __enter__(self) -> "Grid":
        for command in (["topics", "apply", "--yes"], ["indices", "apply", "--yes"]):
            done = subprocess.run(
                [*safescale(), *command], env=self._environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"safescale {' '.join(command)} failed: {done.stdout}{done.stderr}")
        try:
            for name in self._names:
                self.launch(name)
            for name in self._names:
                self.wait(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def launch(self, name: str) -> None:
        """Start a service; `wait` returns when it serves."""
        environment = {
            **self._environment, "SAFESCALE_PORT": str(self.ports[name]), "SAFESCALE_INSTANCE": f"bench-{name}",
        }  # fmt: skip
        self.processes[name] = subprocess.Popen(self.commands[name], env=environment, stdout=subprocess.DEVNULL)

    def wait(self, name: str, pause_s: float = 0.05) -> None:
        """Return when a service serves.

        Raises:
            RuntimeError: it does not, or it ended.

        """
        wait_for(name, lambda: serving(self.address(name)), pause_s=pause_s)

    def stop(self, name: str) -> None:
        """SIGTERM a service and wait for its end."""
        self.processes[name].terminate()
        self.processes[name].wait(60)

    def kill(self, name: str) -> None:
        """SIGKILL a service."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def cpu(self) -> dict[str, float]:
        """Processor seconds of each service so far."""
        return {name: cpu_s(process.pid) for name, process in self.processes.items()}

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
                # A benchmark may have stopped it.
                process.send_signal(signal.SIGCONT)
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()


@contextmanager
def stubs(kinds: Mapping[str, Sequence[str]]) -> Iterator[dict[str, tuple[str, int]]]:
    """Stub model servers by name, each with its options, in processes; URL and process id of each."""
    with ExitStack() as stack:
        found = {}
        for name, options in kinds.items():
            command = [sys.executable, str(Path(__file__).parent / "stub_openai_server.py"), *options]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            assert process.stdout is not None
            found[name] = (process.stdout.readline().strip(), process.pid)
        yield found
