"""What is proven on a cluster, step by step; each returns what it measured."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.e2e.background import run_id_in
from tests.e2e_k8s.cluster import ROOT, StepError, until
from tests.e2e_k8s.measure import ANSWERS
from tests.e2e_k8s.upkeep import backup_and_restore, commands_in_pods, secured, trial
from tests.e2e_k8s.world import World, helm_test
from tests.integration.conftest import EXAMPLES

CHAOS_S = 180
IN_FLIGHT = 6
"""Cells that an inference pod works on at once: half as many again as calls at the stub."""


def demo(world: World) -> str:
    """The demo through the port-forward: one verdict for each cell."""
    done = world.bench.cli("run", str(EXAMPLES / "runs" / "demo.yaml"), "--no-report")
    if done.returncode:
        raise StepError((done.stdout + done.stderr)[-1500:])
    run_id = run_id_in(done.stdout)
    found = {kind: world.cluster.documents(kind, run_id) for kind in ("generation-cell", "verdict")}
    if set(found.values()) != {128}:
        raise StepError(f"128 cells, but {found}")
    return "128 cells, 128 generations, 128 verdicts"


def rolling_upgrade(world: World) -> str:
    """An upgrade in the middle of a run, then a rollback in the middle of the same run."""
    before = world.bench.asked("stub-slow")
    run = world.bench.start("upgrade", "stub-slow", 400)
    world.bench.verdicts(run, 20)
    world.upgrade("settings.logLevel=DEBUG")
    world.bench.verdicts(run, 60)
    at_upgrade = world.cluster.documents("verdict", run.run_id)
    world.cluster.helm("rollback", world.cluster.release, "--wait", "--timeout", "8m")
    said = world.bench.ended(run, 400)
    return f"{said}; upgraded and rolled back at {at_upgrade}; {_repeated(world, before, 400)}"


def chaos(world: World) -> str:
    """A pod deleted every 10 s for 3 minutes, in the middle of a run."""
    before = world.bench.asked("stub-slow")
    run = world.bench.start("chaos", "stub-slow", 900)
    world.bench.verdicts(run, 20)
    script = [str(ROOT / "deploy" / "k8s" / "chaos.sh"), "--namespace", world.cluster.namespace]
    options = ["--release", world.cluster.release, "--every", "10", "--for", str(CHAOS_S), "--seed", "42"]
    done = subprocess.run([*script, *options], capture_output=True, text=True, timeout=CHAOS_S + 120, check=False)
    if done.returncode:
        raise StepError(done.stdout[-800:] + done.stderr[-400:])
    at_end = world.cluster.documents("verdict", run.run_id)
    said = world.bench.ended(run, 900)
    deletions = done.stdout.strip().splitlines()[-1].removeprefix("chaos: ")
    return f"{said}; {deletions}, {at_end} verdicts by then; {_repeated(world, before, 900)}"


def drain(world: World) -> str:
    """The node's pods of the release evicted in the middle of a run, as before the node's maintenance."""
    node = world.cluster.kubectl("get", "nodes", "--output", "name").split()[0].removeprefix("node/")
    before = world.bench.asked("stub-slow")
    run = world.bench.start("drain", "stub-slow", 200)
    world.bench.verdicts(run, 20)
    selector = f"app.kubernetes.io/instance={world.cluster.release}"
    with drained(node, selector):
        pass
    said = world.bench.ended(run, 200)
    return f"{said}; {_repeated(world, before, 200)}"


@contextmanager
def drained(node: str, selector: str) -> Iterator[None]:
    """Evict by selector; a cluster of one node takes pods again as soon as the evictions have begun."""
    command = ["kubectl", "drain", node, "--pod-selector", selector, "--delete-emptydir-data", "--ignore-daemonsets"]
    draining = subprocess.Popen(
        [*command, "--timeout=240s"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        time.sleep(5)
        subprocess.run(["kubectl", "uncordon", node], check=True, capture_output=True)
        yield
        said, _ = draining.communicate(timeout=300)
        if draining.returncode:
            raise StepError(f"the drain ended with {draining.returncode}: {said[-800:]}")
    finally:
        draining.kill()
        subprocess.run(["kubectl", "uncordon", node], check=False, capture_output=True)


def scale_out(world: World) -> str:
    """Three pods of inference instead of one, against a model server that takes a second."""
    rates = []
    for replicas in (1, 3):
        world.cluster.scale("statefulset/inference", replicas)
        until("the pods", lambda want=replicas: len(_ready(world, "inference")) == want, 180)
        time.sleep(10)
        run = world.bench.start(f"scale-{replicas}", "stub-slow", 120 * replicas)
        world.bench.verdicts(run, 10)
        begin, first = time.monotonic(), world.cluster.documents("verdict", run.run_id)
        world.bench.ended(run, 120 * replicas)
        rates.append((120 * replicas - first) / (time.monotonic() - begin))
    world.cluster.scale("statefulset/inference", 1)
    if rates[1] < 1.5 * rates[0]:
        raise StepError(f"{rates[0]:.1f} cells a second with one pod, {rates[1]:.1f} with three")
    return f"{rates[0]:.1f} cells a second with one pod, {rates[1]:.1f} with three: {rates[1] / rates[0]:.1f} times"


def limits(world: World) -> str:
    """No container was ended for its memory; what each uses against its limit."""
    used = []
    for pod in world.cluster.pods():
        for status in pod["status"].get("containerStatuses", []):
            ended = (status.get("lastState") or {}).get("terminated") or {}
            if ended.get("reason") == "OOMKilled":
                raise StepError(f"{pod['metadata']['name']} was ended for its memory")
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component", "")
        if component in ("inference", "retrieval", "orchestration", "scoring", "gateway"):
            used.append(f"{component} {_memory_mib(world, pod['metadata']['name'])} MiB")
    return ", ".join(sorted(used))


def _memory_mib(world: World, pod: str) -> int:
    script = "cat /sys/fs/cgroup/memory.peak 2>/dev/null || cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes"
    return int(world.cluster.kubectl("exec", pod, "--", "sh", "-c", script)) // 2**20


def _ready(world: World, component: str) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in world.cluster.pods(component)
        if not pod["metadata"].get("deletionTimestamp")
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
    ]


def _repeated(world: World, before: int, cells: int) -> str:
    """How many texts were asked for twice, or more often, as a sentence."""
    extra = world.bench.asked("stub-slow") - before - cells * ANSWERS
    if extra < 0:
        raise StepError(f"{-extra} texts were never asked for")
    return f"{extra} of {cells * ANSWERS:,} texts asked again"


Step = tuple[str, Callable[[World], str]]

STEPS: tuple[Step, ...] = (
    ("helm test", helm_test),
    ("demo through a port-forward", demo),
    ("rolling upgrade and rollback in the middle of a run", rolling_upgrade),
    ("a pod deleted every 10 s for 3 minutes", chaos),
    ("drain", drain),
    ("scale-out from 1 to 3 pods of inference", scale_out),
    ("limits hold", limits),
    ("the command line in a pod", commands_in_pods),
    ("backup, and restore under another prefix", backup_and_restore),
    ("mutual TLS and tokens", secured),
    ("a trial in one pod, backed up and restored", trial),
)
