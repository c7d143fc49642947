"""What the templates make of the values, service by service."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.charts import CHART, SETS, Manifest, Rendered, kinds, named, pods, variables

from safescale.inference.catalog import parse_catalog
from safescale.runtime.bus import topics
from safescale.runtime.bus.kafka_client import consumer_group
from safescale.runtime.files.reading import Source
from safescale.runtime.settings import Settings

Render = Callable[..., Rendered]
SERVICES = ("inference", "retrieval", "orchestration", "scoring")


def _pod(manifests: Rendered, component: str) -> Manifest:
    found = [spec for spec in pods(manifests).values() if spec["labels"]["app.kubernetes.io/component"] == component]
    assert len(found) == 1
    return found[0]


def test_the_trial_needs_nothing_else(render: Render) -> None:
    manifests = render("profile-trial")
    assert set(pods(manifests)) == {"Deployment/safescale-standalone", "Pod/safescale-test"}
    standalone, gateway = _pod(manifests, "standalone")["containers"]
    assert {"name": "data", "mountPath": "/var/lib/safescale"} in standalone["volumeMounts"]
    assert variables(gateway)["SAFESCALE_SERVER"] == "127.0.0.1:50051"
    assert named(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert (
        named(manifests, "ConfigMap", "safescale-records")["data"]
        .keys()
        .isdisjoint({"SAFESCALE_KAFKA", "SAFESCALE_ELASTICSEARCH"})
    )


def test_consumers_keep_their_names_and_orchestration_is_one(render: Render) -> None:
    manifests = render("grid")
    assert set(kinds(manifests, "StatefulSet")) == {f"safescale-{n}" for n in ("inference", "retrieval", "scoring")}
    for name, each in kinds(manifests, "StatefulSet").items():
        container = each["spec"]["template"]["spec"]["containers"][0]
        assert variables(container)["SAFESCALE_INSTANCE"] == {"fieldRef": {"fieldPath": "metadata.name"}}
        assert each["spec"]["serviceName"] == name
        assert each["spec"]["podManagementPolicy"] == "Parallel"
    one = named(manifests, "Deployment", "safescale-orchestration")["spec"]
    assert one["replicas"] == 1
    assert one["strategy"] == {"type": "Recreate"}
    assert variables(one["template"]["spec"]["containers"][0])["SAFESCALE_INSTANCE"] == "safescale-orchestration"


def test_callers_see_every_pod_of_a_service(render: Render) -> None:
    manifests = render("grid")
    peers = named(manifests, "ConfigMap", "safescale-peers")["data"]
    for name in SERVICES:
        service = named(manifests, "Service", f"safescale-{name}")["spec"]
        assert service["clusterIP"] == "None"
        assert peers[f"SAFESCALE_{name.upper()}"] == f"safescale-{name}:50051"
        assert [port["port"] for port in service["ports"]] == [50051, 9464]
    assert named(manifests, "Service", "safescale-gateway")["spec"]["type"] == "ClusterIP"


@pytest.mark.parametrize("name", SETS)
def test_settings_exist(name: str, render: Render) -> None:
    known = {f"SAFESCALE_{field.upper()}" for field in Settings.model_fields}
    manifests = render(name)
    given = {
        key for each in kinds(manifests, "ConfigMap").values() for key in each["data"] if key.startswith("SAFESCALE_")
    }
    for spec in pods(manifests).values():
        for container in spec["containers"]:
            given |= {variable for variable in variables(container) if variable.startswith("SAFESCALE_")}
    assert given <= known


def test_probes_ask_grpc_health(render: Render) -> None:
    manifests = render("grid")
    for name in SERVICES:
        container = _pod(manifests, name)["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"] == {"port": 50051}
    gateway = _pod(manifests, "gateway")["containers"][0]
    assert gateway["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http", "scheme": "HTTP"}
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_with_tls_a_command_asks(render: Render) -> None:
    manifests = render("grid-secured")
    for name in SERVICES:
        container = _pod(manifests, name)["containers"][0]
        assert container["readinessProbe"]["exec"] == {"command": ["python", "-m", "safescale.probe"]}
        given = variables(container)
        assert given["SAFESCALE_TLS_CLIENT_CA_FILE"] == "/run/safescale/tls/ca.crt"
        assert given["SAFESCALE_TLS_CERTIFICATE_FILE"] == "/run/safescale/tls/tls.crt"
    assert _pod(manifests, "gateway")["containers"][0]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    certificate = named(manifests, "Certificate")["spec"]
    assert {f"safescale-{name}" for name in (*SERVICES, "gateway")} <= set(certificate["dnsNames"])
    assert "127.0.0.1" in certificate["ipAddresses"]
    client = variables(_test_pod(manifests)["spec"]["containers"][0])
    assert "SAFESCALE_TLS_CERTIFICATE_FILE" in client
    assert "SAFESCALE_TLS_CLIENT_CA_FILE" not in client
    assert client["SAFESCALE_TOKEN_FILE"] == "/run/safescale/token/token"


def _test_pod(manifests: Rendered) -> Manifest:
    return named(manifests, "Pod", "safescale-test")


def test_there_is_time_for_the_longest_cell(render: Render) -> None:
    manifests = render("grid", "settings.cellTimeoutSeconds=900")
    for name in SERVICES:
        pod = _pod(manifests, name)
        least = 900 if name == "inference" else 30
        assert least < pod["terminationGracePeriodSeconds"] < least + 120
        assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
        drain = variables(pod["containers"][0]).get("SAFESCALE_DRAIN_TIMEOUT_S", "10")
        # After it a process closes its connections.
        assert drain == ("900" if name == "inference" else "10")
        assert float(drain) + 5 < pod["terminationGracePeriodSeconds"]


def test_secrets_are_files_and_never_values(render: Render) -> None:
    manifests = render("grid-secured")
    assert not kinds(manifests, "Secret")
    inference = variables(_pod(manifests, "inference")["containers"][0])
    assert inference["SAFESCALE_KAFKA_PASSWORD_FILE"] == "/run/safescale/kafka/password"
    assert inference["SAFESCALE_ELASTICSEARCH_API_KEY_FILE"] == "/run/safescale/elasticsearch/api-key"
    assert inference["SAFESCALE_OIDC_JWKS_FILE"] == "/run/safescale/oidc/jwks.json"
    gateway = variables(_pod(manifests, "gateway")["containers"][0])
    assert not any("KAFKA" in name or "ELASTICSEARCH" in name for name in gateway)


def test_a_ca_bundle_is_used_where_tls_is(render: Render) -> None:
    given = variables(_pod(render("grid-autoscaled"), "inference")["containers"][0])
    for name in ("SAFESCALE_KAFKA_CA_FILE", "SAFESCALE_ELASTICSEARCH_CA_FILE", "SSL_CERT_FILE"):
        assert given[name] == "/run/safescale/ca/ca.pem"
    plain = variables(_pod(render("profile-airgap"), "inference")["containers"][0])
    assert "SAFESCALE_KAFKA_CA_FILE" not in plain


@pytest.mark.parametrize("name", [name for name in SETS if name.startswith(("grid", "profile-"))])
def test_the_catalog_can_be_read(name: str, render: Render) -> None:
    found = kinds(render(name), "ConfigMap").get("safescale-catalog")
    if found is None:
        assert "models" not in str(SETS[name])
        return
    rows = parse_catalog(Source("models.yaml", found["data"]["models.yaml"].encode()))
    assert rows


def test_each_replica_of_a_server_is_a_url(render: Render) -> None:
    manifests = render("grid-models")
    text = named(manifests, "ConfigMap", "safescale-catalog")["data"]["models.yaml"]
    rows = {row["id"]: row for row in yaml.safe_load(text)["models"]}
    host = "safescale-model-small"
    assert rows["small"]["endpoint"]["urls"] == [f"http://{host}-{i}.{host}:8080" for i in range(2)]
    assert rows["small"]["endpoint"]["concurrency"] == 1
    assert named(manifests, "StatefulSet", host)["spec"]["replicas"] == 2
    assert "server" not in rows["small"]


def test_servers_of_models_may_load_for_long(render: Render) -> None:
    for each in kinds(render("grid-models"), "StatefulSet").values():
        container = each["spec"]["template"]["spec"]["containers"][0]
        if container["name"] in ("vllm", "tgi"):
            probe = container["startupProbe"]
            assert probe["httpGet"]["path"] == "/health"
            assert probe["periodSeconds"] * probe["failureThreshold"] == 120 * 60
            assert container["resources"]["limits"]["nvidia.com/gpu"] >= 1


def test_a_server_is_sharded_as_it_is_told(render: Render) -> None:
    manifests = render("profile-gpu")
    arguments = {
        c["name"]: c.get("command", []) + c.get("args", [])
        for spec in pods(manifests).values()
        for c in spec["containers"]
    }
    assert "--num-shard=4" in arguments["tgi"]
    assert "--tensor-parallel-size=1" in arguments["vllm"]


def test_keda_knows_the_names_of_topics_and_groups(render: Render) -> None:
    scaled = kinds(render("grid-autoscaled"), "ScaledObject")
    triggers = [t["metadata"] for t in scaled["safescale-inference"]["spec"]["triggers"]]
    expected = [topics.generation_requested(model) for model in ("model-a", "Model_B.2")]
    assert [t["topic"] for t in triggers] == expected
    assert [t["consumerGroup"] for t in triggers] == [consumer_group("inference", topic) for topic in expected]
    (trigger,) = scaled["safescale-retrieval"]["spec"]["triggers"]
    assert trigger["metadata"]["topic"] == topics.CONTEXT_REQUESTED
    assert trigger["metadata"]["consumerGroup"] == consumer_group("retrieval", topics.CONTEXT_REQUESTED)


def test_what_is_scaled_has_no_number_of_its_own(render: Render) -> None:
    manifests = render("grid-autoscaled")
    for name, kind in (("inference", "StatefulSet"), ("scoring", "StatefulSet"), ("gateway", "Deployment")):
        assert "replicas" not in named(manifests, kind, f"safescale-{name}")["spec"]
    for each in [*kinds(manifests, "HorizontalPodAutoscaler").values(), *kinds(manifests, "ScaledObject").values()]:
        target = each["spec"]["scaleTargetRef"]
        assert named(manifests, target["kind"], target["name"])


@pytest.mark.parametrize("change", ["services.inference", "settings.callTimeoutSeconds", "models"])
def test_a_change_of_settings_starts_pods_anew(change: str, render: Render) -> None:
    values: dict[str, Any] = {
        "services.inference": {"podAnnotations": {"a": "b"}},
        "settings.callTimeoutSeconds": 77,
        "models": [],
    }
    before, after = render("profile-grid"), render("profile-grid", f"{change}={json.dumps(values[change])}")
    old, new = (named(m, "StatefulSet", "safescale-inference")["spec"]["template"] for m in (before, after))
    assert old["metadata"]["annotations"] != new["metadata"]["annotations"]


def test_hooks_bring_what_they_need(render: Render) -> None:
    manifests = render("grid-secured")
    hooks = [m for m in manifests if "pre-install" in m["metadata"].get("annotations", {}).get("helm.sh/hook", "")]
    job = named(hooks, "Job")
    weight = int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    container = job["spec"]["template"]["spec"]["containers"][0]
    maps = [each["configMapRef"]["name"] for each in container["envFrom"]]
    maps += [v["configMap"]["name"] for v in job["spec"]["template"]["spec"]["volumes"] if "configMap" in v]
    for name in maps:
        found = named(hooks, "ConfigMap", name)
        assert int(found["metadata"]["annotations"]["helm.sh/hook-weight"]) < weight
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]
    assert "safescale topics apply --yes; safescale indices apply --yes" in container["command"]


def test_the_test_asks_the_first_model(render: Render) -> None:
    run = yaml.safe_load(named(render("profile-grid"), "ConfigMap", "safescale-test")["data"]["run.yaml"])
    assert run["models"] == ["qwen2.5-7b-instruct"]
    assert not kinds(render("profile-grid", "models=[]"), "Pod")


def test_evaluations_end_in_a_gate(render: Render) -> None:
    jobs = kinds(render("grid-evaluations"), "CronJob")
    nightly = jobs["safescale-eval-nightly"]["spec"]
    spec = nightly["jobTemplate"]["spec"]
    script = spec["template"]["spec"]["containers"][0]["command"][2]
    assert "safescale run '/inputs/run.yaml' --new --no-report --id-file /tmp/run-id --fresh" in script
    assert "safescale gate \"$(cat /tmp/run-id)\" --policy '/inputs/policy.yaml'" in script
    # The evidence of its series is shown in the log, whatever the gate says; an alarm fails it where that is wanted.
    assert 'safescale series --run "$(cat /tmp/run-id)" || [' in script
    assert script.index("safescale gate") < script.index("safescale series")
    assert nightly["concurrencyPolicy"] == "Forbid"
    assert spec["backoffLimit"] == 0
    weekly = jobs["safescale-eval-weekly"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    drawing = weekly["containers"][0]["command"][2]
    assert "safescale run '/inputs/weekly/run.yaml' --no-report" in drawing
    assert 'safescale series --run "$(cat /tmp/run-id)" --fail-on-alarm || [' in drawing
    assert {"name": "inputs", "persistentVolumeClaim": {"claimName": "inputs", "readOnly": True}} in weekly["volumes"]


@pytest.mark.parametrize(
    ("name", "run", "gate", "code"),
    [
        ("nightly", 0, 0, 0), ("nightly", 0, 1, 1), ("nightly", 0, 3, 3), ("nightly", 1, 0, 1), ("nightly", 2, 0, 2),
        ("weekly", 0, 3, 0), ("weekly", 0, 1, 1), ("weekly", 1, 3, 1), ("weekly", 130, 0, 130),
    ],
)  # fmt: skip
def test_an_evaluation_ends_with_the_code_of_what_went_wrong(
    render: Render, tmp_path: Path, name: str, run: int, gate: int, code: int
) -> None:
    job = kinds(render("grid-evaluations"), "CronJob")[f"safescale-eval-{name}"]["spec"]["jobTemplate"]["spec"]
    script = job["template"]["spec"]["containers"][0]["command"][2]
    fake = tmp_path / "safescale"
    fake.write_text(f'#!/bin/sh\ncase "$1" in run) exit {run};; gate) exit {gate};; *) exit 0;; esac\n')
    fake.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["/bin/sh", "-ec", script], env={"PATH": path}, capture_output=True, check=False)
    assert done.returncode == code, done.stderr


def test_rules_and_dashboards_are_those_of_the_files(render: Render) -> None:
    manifests = render("defaults", *(
        f'monitoring.{part}={{"enabled": true}}' for part in ("rules", "dashboards")
    ))  # fmt: skip
    groups = [each["spec"] for each in kinds(manifests, "PrometheusRule").values()]
    assert groups == [yaml.safe_load(path.read_text()) for path in sorted((CHART / "rules").glob("*.yaml"))]
    boards = {
        k: v for each in kinds(manifests, "ConfigMap").values() for k, v in each["data"].items() if k.endswith(".json")
    }
    files = {path.name: path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in boards.items()} == {n: json.loads(t) for n, t in files.items()}


def test_routes_lead_to_the_services(render: Render) -> None:
    rules = named(render("grid-secured"), "GRPCRoute")["spec"]["rules"]
    found = {rule["matches"][0]["method"]["service"]: rule["backendRefs"][0]["name"] for rule in rules}
    assert found == {f"safescale.{n}.v1.{n.title()}Service": f"safescale-{n}" for n in SERVICES}
    ingress = named(render("grid-autoscaled"), "Ingress")["spec"]
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]


def test_the_setup_job_may_have_greater_rights_of_its_own(render: Render) -> None:
    for settings, files in (
        ((), ("password", "api-key")),
        (('setup.passwordKey="admin"', 'setup.apiKeyKey="indices"', 'setup.username="setup"'), ("admin", "indices")),
    ):
        manifests = render("grid-secured", *settings)
        container = named(manifests, "Job")["spec"]["template"]["spec"]["containers"][0]
        env = {each["name"]: each.get("value") for each in container["env"]}
        assert env["SAFESCALE_KAFKA_PASSWORD_FILE"] == f"/run/safescale/kafka/{files[0]}"
        assert env["SAFESCALE_ELASTICSEARCH_API_KEY_FILE"] == f"/run/safescale/elasticsearch/{files[1]}"
        services = named(manifests, "ConfigMap", "safescale-records")["data"]["SAFESCALE_KAFKA_USERNAME"]
        job = named(manifests, "ConfigMap", "safescale-setup")["data"]["SAFESCALE_KAFKA_USERNAME"]
        assert job == ("setup" if settings else services) != ""
        inference = named(manifests, "StatefulSet", "safescale-inference")["spec"]["template"]["spec"]["containers"][0]
        assert {"name": "SAFESCALE_KAFKA_PASSWORD_FILE", "value": "/run/safescale/kafka/password"} in inference["env"]


def test_the_gateway_knows_the_names_that_it_is_exposed_by(render: Render) -> None:
    def names(*settings: str) -> list[str]:
        found = named(render("grid", "allowUnauthenticated=true", *settings), "ConfigMap", "safescale-peers")["data"]
        return found.get("SAFESCALE_ALLOWED_HOSTS", "").split(",")

    ingress = ("ingress.enabled=true", 'ingress.host="review.example"')
    inside = ["safescale-gateway", "safescale-gateway.ward", "safescale-gateway.ward.svc"]
    assert names(*ingress)[:4] == ["review.example", *inside]
    assert names(*ingress, 'settings.allowedHosts=["eu.example"]')[:2] == ["eu.example", "review.example"]
    assert names('settings.allowedHosts=["eu.example"]')[:2] == ["eu.example", inside[0]]
    route = ("gatewayApi.enabled=true", 'gatewayApi.parentRefs=[{"name": "g"}]')
    assert names(*route, 'gatewayApi.hostnames=["a.example"]')[0] == "a.example"
    # Any name, or several that no list can hold.
    assert names() == names(*route) == names(*route, 'gatewayApi.hostnames=["*.example"]') == [""]


def test_a_trial_knows_its_own_server(render: Render) -> None:
    for container in _pod(render("profile-trial"), "standalone")["containers"]:
        assert variables(container)["SAFESCALE_SERVER"] == "127.0.0.1:50051"
