"""Every profile and every file of ci/ renders, passes the linter and Kubernetes' schemas, and may run."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.chart.charts import CHART, ROOT, SETS, Manifest, Rendered, kinds, pods, run_helm, template, tool
from tests.chart.restricted import violations

from safescale import __version__

ALL = pytest.mark.parametrize("name", SETS)
IMAGES = ("inference", "retrieval", "orchestration", "scoring", "gateway", "model-server", "standalone")


@ALL
def test_the_linter_has_nothing_to_say(name: str) -> None:
    values = [part for file in SETS[name] for part in ("--values", str(CHART / file))]
    done = run_helm("lint", "--strict", str(CHART), *values)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@ALL
@pytest.mark.parametrize("version", ["1.28.0", "1.36.0"])
def test_kubernetes_takes_it(name: str, version: str, tmp_path: Path) -> None:
    schemas = ROOT / ".venv/tools/schemas"
    if not (schemas / f"v{version}-standalone-strict").is_dir():
        pytest.skip(f"there are no schemas of Kubernetes {version}; charts/tools.sh makes them")
    file = tmp_path / "rendered.yaml"
    file.write_text(template(SETS[name]).stdout)
    file_of = "{{.NormalizedKubernetesVersion}}-standalone{{.StrictSuffix}}/{{.ResourceKind}}{{.KindSuffix}}.json"
    where = f"{schemas}/{file_of}"
    # Objects of operators have no schema here; their kinds are named so that no other is passed over.
    others = (
        "ServiceMonitor,PodMonitor,PrometheusRule,HTTPRoute,GRPCRoute,Certificate,ScaledObject,TriggerAuthentication"
    )
    command = [
        tool("kubeconform"),
        "-strict",
        "-kubernetes-version",
        version,
        "-schema-location",
        where,
        "-skip",
        others,
    ]
    done = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@ALL
def test_pods_are_restricted(name: str, render: Callable[..., Rendered]) -> None:
    for pod, spec in pods(render(name)).items():
        assert violations(spec) == [], pod


@ALL
def test_pods_keep_to_what_they_need(name: str, render: Callable[..., Rendered]) -> None:
    for pod, spec in pods(render(name)).items():
        assert spec["automountServiceAccountToken"] is False, pod
        # Else Services of a release named safescale would become settings: SAFESCALE_PORT=tcp://...
        assert spec["enableServiceLinks"] is False, pod
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, pod
            assert {"requests", "limits"} <= set(container["resources"]) or "nvidia.com/gpu" in str(container), pod
            places = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in places


@ALL
def test_volumes_and_mounts_agree(name: str, render: Callable[..., Rendered]) -> None:
    manifests = render(name)
    claimed = {
        f"StatefulSet/{set_name}": {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])}
        for set_name, each in kinds(manifests, "StatefulSet").items()
    }
    for pod, spec in pods(manifests).items():
        volumes = [volume["name"] for volume in spec["volumes"]]
        assert len(volumes) == len(set(volumes)), pod
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert mounted == set(volumes) | claimed.get(pod, set()), pod
        for container in spec["containers"]:
            places = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(places) == len(set(places)), pod
            for variable in container.get("env", []):
                value = str(variable.get("value", ""))
                if variable["name"].endswith("_FILE"):
                    assert any(value.startswith(place + "/") for place in places), (pod, variable)


@ALL
def test_each_label_selects_its_own_pods(name: str, render: Callable[..., Rendered]) -> None:
    manifests = render(name)
    labels = [spec["labels"] for spec in pods(manifests).values()]
    for service, each in kinds(manifests, "Service").items():
        found = [own for own in labels if each["spec"]["selector"].items() <= own.items()]
        assert len(found) == 1, service
    for budget, each in kinds(manifests, "PodDisruptionBudget").items():
        found = [own for own in labels if each["spec"]["selector"]["matchLabels"].items() <= own.items()]
        assert len(found) == 1, budget


@ALL
def test_names_are_short_and_different(name: str, render: Callable[..., Rendered]) -> None:
    manifests = render(name)
    seen = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(seen) == len(set(seen))
    for kind, each in seen:
        # A StatefulSet's name and a hash become a label of 63 characters; a CronJob's gets a time.
        assert len(each) <= 52, (kind, each)


def test_the_longest_release_has_names_that_fit() -> None:
    models = json.dumps(
        [
            {
                "id": "A" * 200, "family": "A", "parameters_b": 1, "window_tokens": 512, "instruct": True,
                "backend": "openai", "license": "MIT", "server": {"engine": "llamacpp"},
            }
        ]
    )  # fmt: skip
    done = run_helm(
        "template", "r" * 53, str(CHART), "--values", str(CHART / "profile-grid.yaml"), "--set-json", f"models={models}"
    )
    assert done.returncode == 0, done.stderr
    for each in yaml.safe_load_all(done.stdout):
        assert len(each["metadata"]["name"]) <= 52


@ALL
def test_images_have_a_version(name: str, render: Callable[..., Rendered]) -> None:
    for pod, spec in pods(render(name)).items():
        for container in spec["containers"]:
            tag = container["image"].rpartition(":")[2]
            assert tag not in ("", "latest"), pod
            assert "/" not in tag, pod


def test_every_image_comes_from_the_registry_that_is_given(render: Callable[..., Rendered]) -> None:
    own = {"registry": "private.example/mirror"}
    settings = [f"image={json.dumps(own)}"]
    settings += [f'modelServers.images.{engine}.registry="private.example/mirror"' for engine in ("tgi", "vllm")]
    for name in ("defaults", "profile-gpu", "grid-models", "grid-secured"):
        for pod, spec in pods(render(name, *settings)).items():
            for container in spec["containers"]:
                if "offline-tgi" in pod or "model-offline" in pod:
                    continue  # It names an image of its own.
                assert container["image"].startswith("private.example/mirror/"), pod


def test_images_are_those_that_are_built(render: Callable[..., Rendered]) -> None:
    built = (ROOT / "deploy/airgap/build.sh").read_text()
    for name in ("defaults", "grid", "grid-models"):
        for spec in pods(render(name)).values():
            for container in spec["containers"]:
                found = re.fullmatch(rf"safescale/([a-z-]+):{re.escape(__version__)}", container["image"])
                if found:
                    assert found.group(1) in IMAGES
                    assert re.search(rf"for name in .*\b{found.group(1)}\b.*; do", built)


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", chart["version"])
    assert chart["maintainers"]
    assert "1.28" in chart["kubeVersion"]


def test_the_values_are_short_and_each_is_told() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    assert len(lines) < 250
    told = False
    for line in lines:
        if line.lstrip().startswith("#"):
            told = True
        elif not line.strip():
            told = False
        elif not re.match(r"\s*[a-zA-Z]+:$", line):
            # Values that are told together stand together.
            assert told, line


def test_older_clusters_are_refused() -> None:
    done = run_helm("template", "safescale", str(CHART), "--kube-version", "1.27.9")
    assert done.returncode != 0
    assert "1.28" in done.stderr


def test_the_schema_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert set(values) == set(schema["properties"]) - {"global"}

    def closed(part: Manifest, place: str) -> None:
        if "properties" in part and part.get("type") == "object":
            assert part.get("additionalProperties") is False, place
        for key, inner in part.get("properties", {}).items():
            if isinstance(inner, dict):
                closed(inner, f"{place}.{key}")

    closed(schema, "values")


def test_alerts_name_pages_that_can_be_opened(render: Callable[..., Rendered]) -> None:
    url = "https://pages.example/runbooks"
    settings = ("monitoring.rules.enabled=true", f'monitoring.rules.runbooksUrl="{url}/"')
    alerts = [
        rule
        for each in kinds(render("grid", *settings), "PrometheusRule").values()
        for group in each["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert alerts
    for rule in alerts:
        assert rule["annotations"]["runbook_url"] == f"{url}/{rule['alert']}.md"
        assert "runbook" not in rule["annotations"]
