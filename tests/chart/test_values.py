"""Values that do not go together are refused, by a message that names them."""

import json
from collections.abc import Callable

import pytest
from tests.chart.restricted import violations

MODEL = {
    "id": "m", "family": "M", "parameters_b": 7, "window_tokens": 8192, "instruct": True, "backend": "openai",
    "license": "MIT", "server": {"engine": "vllm"},
}  # fmt: skip


def _model(**changes: object) -> str:
    return f"models={json.dumps([{**MODEL, **changes}])}"


SCHEMA = [
    ("defaults", 'mod="grid"', "mod"),
    ("defaults", 'mode="cluster"', "mode"),
    ("defaults", 'mode="grid"', "bootstrapServers"),
    ("defaults", 'kafka.bootstrapServers="kafka:9092"', "bootstrapServers"),
    ("grid", 'elasticsearch.urls=""', "urls"),
    ("grid", 'elasticsearch.urls="elasticsearch:9200"', "urls"),
    ("grid", 'kafka.bootstrapServers="kafka"', "bootstrapServers"),
    ("grid", 'kafka.security="SASL_SSL"', "sasl"),
    ("grid", 'kafka.sasl="PLAIN"', "sasl"),
    ("grid", 'kafka.caKey="ca.crt"', "existingSecret"),
    ("grid", 'kafka.password="secret"', "password"),
    ("grid", 'elasticsearch.apiKeyKey="api-key"', "existingSecret"),
    ("grid", "services.orchestration.replicas=2", "replicas"),
    ("grid", "services.orchestration.autoscaling.enabled=true", "enabled"),
    ("grid", "services.gateway.keda.enabled=true", "enabled"),
    ("grid", "services.planner={}", "planner"),
    ("grid", "services.inference.replica=3", "replica"),
    ("grid", 'image.tag="latest"', "tag"),
    ("grid", "settings.cellTimeoutSeconds=0", "cellTimeoutSeconds"),
    ("grid", 'settings.extra={"SAFESCALE_ELASTICSEARCH_API_KEY": "x"}', "SAFESCALE_ELASTICSEARCH_API_KEY"),
    ("grid", "tls.enabled=true", "tls"),
    ("grid", "tls.mutual=true", "mutual"),
    ("grid", "tls.certManager.enabled=true", "issuer"),
    ("grid", "ingress.enabled=true", "host"),
    ("grid", "gatewayApi.enabled=true", "parentRefs"),
    ("grid", 'auth.oidc.issuer="https://login.example"', "audience"),
    ("grid", "tracing.ratio=2", "ratio"),
    ("grid", _model(engine="vllm"), "engine"),
    ("grid", _model(server={"engine": "ollama"}), "engine"),
    ("grid", _model(server={"engine": "llamacpp", "shards": 2}), "shards"),
    ("grid", _model(server={"engine": "vllm", "slots": 2}), "slots"),
    ("grid", _model(window_tokens=10), "window_tokens"),
    ("grid", 'evaluations=[{"name": "n", "schedule": "0 2 * * *", "source": {}}]', "source"),
    (
        "grid",
        'evaluations=[{"name": "n", "schedule": "0 2 * * *", "source": {"claim": "a", "configMap": "b"}}]',
        "source",
    ),
]


@pytest.mark.parametrize(("name", "setting", "told"), SCHEMA)
def test_the_schema_refuses(name: str, setting: str, told: str, refused: Callable[..., str]) -> None:
    message = refused(name, setting)
    assert "schema" in message
    assert told in message


SHARDED = {"engine": "vllm", "shards": 4, "resources": {"limits": {"nvidia.com/gpu": 2}}}
TWICE = [{**MODEL, "id": "a.b"}, {**MODEL, "id": "a_b"}]
TOGETHER = [
    (("services.scoring.autoscaling.enabled=true", "services.scoring.keda.enabled=true"), "services.scoring"),
    (("defaults.autoscaling.minReplicas=9",), "minReplicas 9 is over maxReplicas 6"),
    (("services.scoring.replicas=20",), "services.scoring has up to 20 replicas"),
    (("services.inference.keda.enabled=true", "models=[]"), "needs models"),
    (("ingress.enabled=true", 'ingress.host="a.example"'), "nothing authenticates callers"),
    (('auth.existingSecret="tokens"',), "auth.service.existingSecret"),
    (
        (
            "gatewayApi.enabled=true",
            "gatewayApi.grpc=true",
            "allowUnauthenticated=true",
            'gatewayApi.parentRefs=[{"name": "outer"}]',
        ),
        "networkPolicy.grpcFrom is empty",
    ),
    ((f"models={json.dumps(TWICE)}",), "there twice"),
    ((_model(endpoint={"urls": ["http://a:1"]}),), "has a server and endpoint.urls"),
    ((_model(backend="tgi"),), "expected openai"),
    ((_model(server={"engine": "vllm", "offline": True}),), "existingClaim"),
    ((_model(server=SHARDED),), "4 shards on 2 GPUs"),
    ((_model(server={"engine": "vllm", "cache": {"size": "1Gi", "existingClaim": "a"}}),), "size and existingClaim"),
]


@pytest.mark.parametrize(("settings", "told"), TOGETHER)
def test_what_does_not_go_together(settings: tuple[str, ...], told: str, refused: Callable[..., str]) -> None:
    message = refused("grid", *settings)
    assert "the values do not go together" in message
    assert told in message


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("grid", ("ingress.enabled=true", 'ingress.host="a.example"', "allowUnauthenticated=true")),
        ("grid", ("defaults.autoscaling.enabled=true",)),
        ("grid", ("defaults.replicas=3",)),
        ("defaults", ("services.standalone.preStopSeconds=0",)),
        ("grid", ('global={"anything": 1}',)),
    ],
)
def test_what_does(name: str, settings: tuple[str, ...], render: Callable[..., list[object]]) -> None:
    assert render(name, *settings)


GOOD = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
    "volumes": [{"name": "v", "emptyDir": {}}],
    "containers": [
        {"name": "c", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "volume v"),
        ({"securityContext": {"runAsNonRoot": True}}, "seccomp"),
        ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, "root"),
        ({"containers": [{"name": "c"}]}, "capabilities"),
        ({"containers": [{"name": "c", "ports": [{"hostPort": 1}]}]}, "host"),
    ],
)
def test_the_check_of_pods_finds_what_is_forbidden(change: dict[str, object], told: str) -> None:
    found = violations({**GOOD, **change})
    assert any(told in each for each in found) if told else found == []
