"""The chart, rendered as helm renders it, and read as Kubernetes reads it."""

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/safescale"
PROFILES = {
    "profile-trial": ("profile-trial.yaml",),
    "profile-grid": ("profile-grid.yaml",),
    "profile-gpu": ("profile-grid.yaml", "profile-gpu.yaml"),
    "profile-airgap": ("profile-grid.yaml", "profile-airgap.yaml"),
}
SETS = {
    "defaults": (),
    **PROFILES,
    **{path.name.removesuffix("-values.yaml"): (f"ci/{path.name}",) for path in sorted((CHART / "ci").glob("*.yaml"))},
}
"""Values files of each set that must render."""

Manifest = dict[str, Any]
Rendered = list[Manifest]


def tool(name: str) -> str:
    """Path of a tool: that of charts/tools.sh, else of PATH. The test is skipped where there is none."""
    found = shutil.which(name, path=f"{ROOT / '.venv/tools'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed; charts/tools.sh builds it")
    return found


@lru_cache(maxsize=256)
def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What helm says; a chart that is rendered twice is rendered once."""
    return subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, check=False, timeout=60)


def template(files: tuple[str, ...], *settings: str) -> subprocess.CompletedProcess[str]:
    values = [part for name in files for part in ("--values", str(CHART / name))]
    given = [part for each in settings for part in ("--set-json", each)]
    return run_helm("template", "safescale", str(CHART), "--namespace", "ward", *values, *given)


def objects(text: str) -> Rendered:
    return [each for each in yaml.safe_load_all(text) if each]


def named(manifests: Rendered, kind: str, name: str = "") -> Manifest:
    """The one object of a kind, or that of a name."""
    found = [m for m in manifests if m["kind"] == kind and name in ("", m["metadata"]["name"])]
    assert len(found) == 1, [m["metadata"]["name"] for m in manifests if m["kind"] == kind]
    return found[0]


def kinds(manifests: Rendered, kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def pods(manifests: Rendered) -> dict[str, Manifest]:
    """Spec of each pod that the objects make, with its labels under `labels`."""
    found = {}
    for each in manifests:
        spec, meta = each.get("spec", {}), each["metadata"]
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if each["kind"] != "Pod":
            if "template" not in spec:
                continue
            meta, spec = spec["template"]["metadata"], spec["template"]["spec"]
        found[f"{each['kind']}/{each['metadata']['name']}"] = {**spec, "labels": meta["labels"]}
    return found


def variables(container: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container.get("env", [])}
