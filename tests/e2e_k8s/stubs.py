"""Model servers for measuring the grid itself: the benchmarks' stub, as a pod that answers after a while."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

STUB = Path(__file__).parents[2] / "bench" / "stub_openai_server.py"
PORT = 8100
LABELS = {"app.kubernetes.io/part-of": "safescale-trial"}

Manifest = Mapping[str, Any]


def manifests(name: str, image: str, delay_ms: int) -> list[Manifest]:
    """Script, Deployment and Service of a stub; the image is one with Python and the package."""
    labels = {"app.kubernetes.io/name": name, **LABELS}
    container = {
        "name": "stub", "image": image, "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/stub/stub.py", "--host", "0.0.0.0", "--port", str(PORT), "--delay-ms", str(delay_ms)],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/v1/models", "port": "http"}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "stub", "mountPath": "/stub"}],
    }  # fmt: skip
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "stub", "configMap": {"name": "stub"}}],
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stub"}, "data": {"stub.py": STUB.read_text()}},
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT}]},
        },
    ]  # fmt: skip
