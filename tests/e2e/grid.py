"""The grid in containers: Kafka, Elasticsearch, a model server, the services. Built for killing its parts."""

import json
import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import docker
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from tests.support.containers import (
    ELASTICSEARCH_IMAGE,
    KAFKA_IMAGE,
    free_port,
    freeze,
    kafka_answers,
    kafka_environment,
    wait_for,
)

from safescale import __version__

PREFIX = os.environ.get("SAFESCALE_IMAGES", "safescale")
PROMETHEUS_IMAGE = os.environ.get("SAFESCALE_PROMETHEUS_IMAGE", "prom/prometheus:v3.5.0")
SERVICES = ("inference", "retrieval", "orchestration", "scoring")
LABEL = "safescale.e2e"
HERE = Path(__file__).parent
RULES = HERE.parents[1] / "charts" / "safescale" / "rules"
READY_S = 180.0
MODEL = "smollm2-135m-instruct"
MODEL_SERVERS = ("model-server", "model-server-2")

Ready = Callable[[], object]
"""Asks for a real answer; raises while there is none."""


def http(url: str, timeout: float = 5.0) -> bytes:
    """Body of an answer with a good status."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return bytes(answer.read())


@dataclass(frozen=True)
class Launch:
    """What a container is started with; ports of the container and of this machine."""

    name: str
    image: str
    ports: Mapping[int, int]
    environment: Mapping[str, str]
    command: list[str] | None = None


@dataclass
class Part:
    """One container: its address on this machine and the question that tells that it is ready."""

    name: str
    container: DockerContainer
    port: int
    ready: Ready

    @property
    def address(self) -> str:
        """host:port on this machine."""
        return f"127.0.0.1:{self.port}"


@dataclass
class Grid:
    """All parts, by name. Use as a context manager: nothing stays behind."""

    folder: Path
    parts: dict[str, Part] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Grid":
        sweep()
        # Written by a container's user.
        self.folder.chmod(0o777)
        try:
            self._network = self._stack.enter_context(Network(docker_network_kw={"labels": _labels()}))
            self._start_stores()
            self._start_services()
            self._start_prometheus()
        except BaseException:
            self.tell_logs()
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_stores(self) -> None:
        kafka, elastic = free_port(), free_port()
        self._launch(Launch("kafka", KAFKA_IMAGE, {kafka: kafka}, kafka_environment(kafka)))
        self._launch(Launch("elasticsearch", ELASTICSEARCH_IMAGE, {9200: elastic}, {
            "discovery.type": "single-node", "xpack.security.enabled": "false", "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
            # A disk that others fill is no matter here; Elasticsearch would give no index a place.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
        }))  # fmt: skip
        self.parts["kafka"].ready = partial(kafka_answers, f"127.0.0.1:{kafka}")
        self.parts["elasticsearch"].ready = partial(http, f"http://127.0.0.1:{elastic}/_cluster/health")
        for name in MODEL_SERVERS:
            command = ["--request-log", f"/requests/{name}.jsonl"]
            self._launch(Launch(name, f"{PREFIX}/model-server:{__version__}", {8080: free_port()}, {}, command))
            self.parts[name].ready = partial(http, f"http://{self.address(name)}/health")
        for name in ("kafka", "elasticsearch", *MODEL_SERVERS):
            self.wait(name)

    def _start_services(self) -> None:
        self.run_once("orchestration", ["topics", "apply", "--yes"])
        self.run_once("orchestration", ["indices", "apply", "--yes"])
        for name in SERVICES:
            ports = {50051: free_port(), 9464: free_port()}
            self._launch(Launch(name, f"{PREFIX}/{name}:{__version__}", ports, service_environment()))
            self.parts[name].ready = partial(serving, self.address(name))
        peers = {name: value for name, value in service_environment().items() if name.endswith(PEERS)}
        self._launch(Launch("gateway", f"{PREFIX}/gateway:{__version__}", {8080: free_port()}, peers))
        self.parts["gateway"].ready = partial(http, f"http://{self.address('gateway')}/readyz")
        for name in (*SERVICES, "gateway"):
            self.wait(name)

    def _start_prometheus(self) -> None:
        self._launch(Launch("prometheus", PROMETHEUS_IMAGE, {9090: free_port()}, {}, [
            "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus",
            "--enable-feature=exemplar-storage",
        ]))  # fmt: skip
        self.parts["prometheus"].ready = partial(http, f"http://{self.address('prometheus')}/-/ready")
        self.wait("prometheus")

    def run_once(self, service: str, command: list[str]) -> str:
        """Run a command in a container of a service's image, as a job does; its output."""
        output = docker.from_env().containers.run(
            f"{PREFIX}/{service}:{__version__}", command, entrypoint=["safescale"], environment=service_environment(),
            network=self._network.name, labels=_labels(), remove=True, stderr=True, volumes=CATALOG, tmpfs=TMPFS,
            **CONTAINED,
        )  # fmt: skip
        return str(output.decode())

    def _launch(self, launch: "Launch") -> None:
        ours = launch.image.startswith(f"{PREFIX}/")
        options = {"labels": _labels(), **(CONTAINED if ours else {})}
        container = DockerContainer(launch.image).with_network(self._network).with_network_aliases(launch.name)
        container.with_kwargs(**options)
        container.tmpfs = dict(TMPFS) if ours else {}
        for inner, outer in launch.ports.items():
            container.ports[f"{inner}/tcp"] = ("127.0.0.1", outer)  # type: ignore[assignment]
        for key, value in launch.environment.items():
            container.with_env(key, value)
        if launch.command:
            container.with_command(launch.command)
        container.with_volume_mapping(str(HERE / "models.yaml"), "/etc/safescale/models.yaml", "ro")
        container.with_volume_mapping(str(HERE / "prometheus.yml"), "/etc/prometheus/prometheus.yml", "ro")
        container.with_volume_mapping(str(RULES), "/etc/prometheus/rules", "ro")
        container.with_volume_mapping(str(self.folder), "/requests", "rw")
        started = self._stack.enter_context(container)
        self.parts[launch.name] = Part(launch.name, started, next(iter(launch.ports.values())), lambda: None)

    def requests(self) -> list[dict[str, object]]:
        """What the model servers were asked, as they logged it when it arrived."""
        lines = [line for name in MODEL_SERVERS for line in (self.folder / f"{name}.jsonl").read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def documents(self, kind: str, run_id: str) -> int:
        """Records of a kind that belong to a run, as Elasticsearch itself counts them."""
        base = f"http://{self.address('elasticsearch')}/safescale-{kind}"
        http(f"{base}/_refresh")
        query = urllib.parse.quote(json.dumps({"query": {"term": {"group": run_id}}}))
        counted = json.loads(http(f"{base}/_count?source={query}&source_content_type=application/json"))
        return int(counted["count"])

    def address(self, name: str) -> str:
        """host:port of a part on this machine."""
        return self.parts[name].address

    def wait(self, name: str) -> None:
        """Return when a part answers a real request."""
        wait_for(name, self.parts[name].ready)

    def kill(self, name: str) -> None:
        """SIGKILL a part."""
        self.parts[name].container.get_wrapped_container().kill("SIGKILL")

    def start(self, name: str) -> None:
        """Start a killed part again and wait until it answers."""
        self.parts[name].container.get_wrapped_container().start()
        self.wait(name)

    def pause(self, name: str) -> None:
        """Freeze a part."""
        freeze(self.parts[name].container.get_wrapped_container())

    def unpause(self, name: str) -> None:
        """Let a frozen part go on."""
        self.parts[name].container.get_wrapped_container().unpause()

    def logs(self, name: str) -> str:
        """What a part wrote, both streams."""
        return str(self.parts[name].container.get_wrapped_container().logs().decode(errors="replace"))

    def tell_logs(self, lines: int = 30) -> None:
        """Print the end of every part's log, for a failed test's report."""
        for name in self.parts:
            try:
                tail = self.logs(name).splitlines()[-lines:]
            except Exception as error:
                tail = [repr(error)]
            print(f"--- {name}", *tail, sep="\n")

    def client_environment(self) -> dict[str, str]:
        """Settings of a command line that speaks to the grid."""
        return {f"SAFESCALE_{name.upper()}": self.address(name) for name in SERVICES}


TMPFS = {"/tmp": "size=256m,mode=1777", "/var/lib/safescale": "size=256m,mode=1777"}

CONTAINED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
"""As services are run in production: nothing of their images can be written."""

CATALOG = {str(HERE / "models.yaml"): {"bind": "/etc/safescale/models.yaml", "mode": "ro"}}
PEERS = ("_INFERENCE", "_RETRIEVAL", "_ORCHESTRATION", "_SCORING")


def service_environment() -> dict[str, str]:
    """Settings of every service."""
    peers = {f"SAFESCALE_{name.upper()}": f"{name}:50051" for name in SERVICES}
    return {
        **peers,
        "SAFESCALE_HOST": "0.0.0.0",
        "SAFESCALE_KAFKA": "kafka:9092",
        "SAFESCALE_KAFKA_PARTITIONS": "3",
        "SAFESCALE_ELASTICSEARCH": "http://elasticsearch:9200",
        "SAFESCALE_MODELS_FILE": "/etc/safescale/models.yaml",
        "SAFESCALE_LOG_LEVEL": "INFO",
    }


def serving(address: str) -> None:
    """Raise unless the gRPC server at the address says that it serves."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise AssertionError(f"{address} is not serving")


def _labels() -> dict[str, str]:
    return {LABEL: str(os.getpid())}


def sweep() -> None:
    """Remove what a killed run of these tests left behind."""
    client = docker.from_env()
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        if not Path(f"/proc/{container.labels[LABEL]}").exists():
            container.remove(force=True, v=True)
    for network in client.networks.list(filters={"label": LABEL}):
        if not Path(f"/proc/{network.attrs['Labels'][LABEL]}").exists():
            network.remove()
