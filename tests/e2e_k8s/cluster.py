"""kubectl and helm on the cluster of the current KUBECONFIG, and ways to what runs there."""

import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.containers import free_port

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "safescale"


class StepError(Exception):
    """What was expected of the cluster and did not come."""


def run(command: Sequence[str], seconds: float = 600, given: str = "") -> str:
    """Output of a command.

    Raises:
        StepError: it failed, or took too long; the message holds the end of what it said.

    """
    try:
        done = subprocess.run(
            command, input=given or None, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StepError(f"{' '.join(command[:4])} … took over {seconds:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout)[-1500:]
        raise StepError(f"{' '.join(command[:4])} … ended with {done.returncode}: {said}")
    return done.stdout


def missing_tools() -> list[str]:
    """Those of kubectl and helm that are not here."""
    return [name for name in ("kubectl", "helm") if shutil.which(name) is None]


def until(what: str, ready: Callable[[], object], seconds: float = 300, pause_s: float = 1.0) -> None:
    """Ask until nothing is raised and the answer is not false.

    Raises:
        StepError: it did not become so in time.

    """
    end = time.monotonic() + seconds
    last = ""
    while time.monotonic() < end:
        try:
            if ready() is not False:
                return
        except Exception as error:
            last = str(error) or repr(error)
        time.sleep(pause_s)
    raise StepError(f"{what}: not within {seconds:.0f} s; {last}")


@dataclass
class Forward:
    """A port of a service on this machine's loopback, opened again whenever its pod goes away."""

    namespace: str
    service: str
    port: int
    local: int = field(default_factory=free_port)
    _closing: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Forward":
        self._thread = threading.Thread(target=self._keep_open, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(10)

    @property
    def address(self) -> str:
        """host:port on this machine."""
        return f"127.0.0.1:{self.local}"

    def _keep_open(self) -> None:
        while not self._closing.is_set():
            pods = self._ready_pods()
            if not pods:
                self._closing.wait(0.5)
                continue
            target = [f"pod/{pods[0]}", f"{self.local}:{self.port}"]
            command = ["kubectl", "port-forward", "--namespace", self.namespace, *target]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # It outlives its pod: connections are then refused one by one.
            while self._process.poll() is None and pods[0] in self._ready_pods():
                if self._closing.wait(1.0):
                    break
            self._process.terminate()
            self._process.wait()

    def _ready_pods(self) -> list[str]:
        template = "jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.targetRef.name} {end}"
        selector = f"kubernetes.io/service-name={self.service}"
        with suppress(StepError):
            command = ["kubectl", "get", "endpointslices", "--namespace", self.namespace, "--selector", selector]
            return sorted(run([*command, "--output", template], 20).split())
        return []


@dataclass
class Cluster:
    """A namespace of its own, all of it removed at the end unless it is to be kept."""

    namespace: str
    release: str = "safescale"
    keep: bool = False
    forwards: dict[str, Forward] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Cluster":
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self.keep:
            return
        with suppress(StepError):
            self.helm("uninstall", self.release, "--wait", "--timeout", "3m")
        with suppress(StepError):
            run(["kubectl", "delete", "namespace", self.namespace, "--wait=true", "--timeout=180s"])

    def kubectl(self, *arguments: str, seconds: float = 600, given: str = "") -> str:
        """kubectl in the namespace."""
        return run(["kubectl", "--namespace", self.namespace, *arguments], seconds, given)

    def helm(self, *arguments: str, seconds: float = 900) -> str:
        """Helm in the namespace."""
        return run(["helm", "--namespace", self.namespace, *arguments], seconds)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Make objects as they are described."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "--filename", "-", given=json.dumps(listed))

    def scale(self, target: str, replicas: int) -> None:
        """Scale `kind/component` of the release by hand."""
        kind, _, component = target.partition("/")
        self.kubectl("scale", f"{kind}/{self.release}-{component}", f"--replicas={replicas}")

    def forward(self, service: str, port: int) -> Forward:
        """A service's port on this machine, kept open until the end."""
        if service not in self.forwards:
            self.forwards[service] = self._stack.enter_context(Forward(self.namespace, service, port))
        return self.forwards[service]

    def pods(self, component: str = "") -> list[dict[str, Any]]:
        """Pods of the release, or of one of its components."""
        selector = f"app.kubernetes.io/instance={self.release}"
        if component:
            selector += f",app.kubernetes.io/component={component}"
        return list(json.loads(self.kubectl("get", "pods", "--selector", selector, "--output", "json"))["items"])

    def get(self, service: str, port: int, path: str, timeout: float = 10) -> bytes:
        """What a service in the cluster answers to a GET; a port-forward may just be opening."""
        found: list[bytes] = []

        def ask() -> None:
            url = f"http://{self.forward(service, port).address}{path}"
            with urllib.request.urlopen(url, timeout=timeout) as answer:
                found.append(answer.read())

        until(f"{service}{path.partition('?')[0]}", ask, seconds=60)
        return found[-1]

    def get_json(self, service: str, port: int, path: str) -> Any:
        """The JSON that a service in the cluster answers to a GET."""
        return json.loads(self.get(service, port, path))

    def documents(self, kind: str, run_id: str) -> int:
        """Records of a kind that belong to a run, as Elasticsearch counts them."""
        return self.count(kind, query={"term": {"group": run_id}})

    def count(self, kind: str, prefix: str = "safescale", query: Mapping[str, Any] | None = None) -> int:
        """Records of a kind, as Elasticsearch counts them."""
        source = urllib.parse.quote(json.dumps({"query": query or {"match_all": {}}}))
        path = f"/{prefix}-{kind}/_count?source={source}&source_content_type=application/json"
        found: list[int] = []

        def ask() -> None:
            url = f"http://{self.forward('elasticsearch', 9200).address}/{prefix}-{kind}/_refresh"
            urllib.request.urlopen(url, data=b"", timeout=10).close()
            found.append(int(self.get_json("elasticsearch", 9200, path)["count"]))

        until(f"a count of {kind}", ask, seconds=60)
        return found[-1]
