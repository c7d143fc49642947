"""Proves the chart on the cluster of the current KUBECONFIG: python -m tests.e2e_k8s.run [--keep] [--only STEP ...]

Brings up Kafka, Elasticsearch and model servers for trials in a namespace of its own, installs the chart, and goes
through the steps of steps.py. The table at the end is what docs/verified.md holds. Images, which the cluster must have:
SAFESCALE_IMAGES (begin of the names, `safescale`), SAFESCALE_KAFKA_IMAGE, SAFESCALE_ELASTICSEARCH_IMAGE.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import yaml
from tests.e2e_k8s import stubs
from tests.e2e_k8s.cluster import ROOT, Cluster, StepError, missing_tools, run
from tests.e2e_k8s.steps import STEPS, Step
from tests.e2e_k8s.world import World
from tests.support.containers import ELASTICSEARCH_IMAGE, KAFKA_IMAGE

from safescale import __version__

PREFIX = os.environ.get("SAFESCALE_IMAGES", "safescale")
PUBLISHED = {"apache/kafka": KAFKA_IMAGE, "docker.elastic.co/elasticsearch/elasticsearch": ELASTICSEARCH_IMAGE,
             "safescale/model-server": f"{PREFIX}/model-server:{__version__}"}  # fmt: skip
SLOW_MS = 1000


def bring_up(cluster: Cluster) -> None:
    """Stores and model servers, ready."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for name in ("kafka", "elasticsearch", "model-server"):
            (here / f"{name}.yaml").write_text((ROOT / "deploy" / "k8s" / f"{name}.yaml").read_text())
        images = [_renamed(name, image) for name, image in PUBLISHED.items()]
        names = [f"{path.name}" for path in here.iterdir()]
        (here / "kustomization.yaml").write_text(yaml.safe_dump({"resources": sorted(names), "images": images}))
        cluster.kubectl("apply", "--kustomize", folder)
    image = f"{PREFIX}/inference:{__version__}"
    cluster.apply(*stubs.manifests("stub-slow", image, SLOW_MS))
    for target in (
        "statefulset/kafka",
        "statefulset/elasticsearch",
        "statefulset/model-server",
        "deployment/stub-slow",
    ):
        cluster.kubectl("rollout", "status", target, "--timeout=240s")


def _renamed(name: str, image: str) -> dict[str, str]:
    new, _, tag = image.rpartition(":")
    return {"name": name, "newName": new, "newTag": tag}


def go_through(world: World, steps: list[Step]) -> list[tuple[str, bool, float, str]]:
    """Rows of step, whether it held, seconds and figures. A failed step does not end the others."""
    rows = []
    for name, step in steps:
        begin = time.monotonic()
        try:
            held, said = True, step(world)
        except Exception as error:
            held, said = False, " ".join((str(error) or repr(error)).split())
        rows.append((name, held, time.monotonic() - begin, said))
        print(f"{'ok  ' if held else 'FAIL'} {rows[-1][2]:5.0f} s  {name}: {said}", flush=True)
    return rows


def versions() -> str:
    """What was proven on what."""
    info = "{.items[0].status.nodeInfo"
    wanted = f"jsonpath={info}.kubeletVersion}} {info}.containerRuntimeVersion}} {info}.osImage}}"
    nodes = run(["kubectl", "get", "nodes", "--output", wanted])
    helm = run(["helm", "version", "--short"]).strip()
    return f"SaFE-Scale {__version__}, Kubernetes {nodes.strip()}, Helm {helm}"


def main() -> int:
    """Read the options, prove, print the table; 1 when a step did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--namespace", default="safescale-e2e")
    parser.add_argument("--keep", action="store_true", help="leave the namespace for a look")
    parser.add_argument("--only", nargs="*", default=[], help="helm test, and steps named with one of these words")
    args = parser.parse_args()
    if missing := missing_tools():
        print(f"{' and '.join(missing)} not found; expected on PATH", file=sys.stderr)
        return 2
    # The test of the release always comes first: the steps after it need a run that is there.
    steps = [step for step in STEPS if step is STEPS[0] or not args.only or any(word in step[0] for word in args.only)]
    try:
        print(versions(), flush=True)
        with tempfile.TemporaryDirectory() as folder, Cluster(args.namespace, keep=args.keep) as cluster:
            begin = time.monotonic()
            bring_up(cluster)
            world = World(cluster, folder=Path(folder), images=[f"image.repository={PREFIX}"])
            world.upgrade()
            installed = (
                f"kafka, elasticsearch, model servers and the release ready after {time.monotonic() - begin:.0f} s"
            )
            rows = [("install with --wait", True, time.monotonic() - begin, installed), *go_through(world, steps)]
    except StepError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print("\n| step | held | seconds | measured |\n|---|---|---|---|")
    for name, held, seconds, said in rows:
        print(f"| {name} | {'yes' if held else '**no**'} | {seconds:.0f} | {said} |")
    return 0 if all(held for _, held, _, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
