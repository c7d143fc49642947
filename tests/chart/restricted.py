"""What the Pod Security Standard `restricted` forbids, as the admission of Kubernetes checks it."""

from typing import Any

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
PROFILES = ("RuntimeDefault", "Localhost")


def violations(spec: dict[str, Any]) -> list[str]:
    """Each rule that a pod's spec breaks, a sentence each."""
    pod = spec.get("securityContext", {})
    found = [f"{name} is true" for name in ("hostNetwork", "hostPID", "hostIPC", "hostUsers") if spec.get(name)]
    found.extend(
        f"volume {volume['name']} is of a forbidden type"
        for volume in spec.get("volumes", [])
        if not set(volume) - {"name"} <= VOLUMES
    )
    if pod.get("sysctls"):
        found.append("sysctls are set")
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind, []):
            found.extend(f"{container['name']}: {text}" for text in _container(container, pod))
    return found


def _container(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    own = container.get("securityContext", {})
    both = {**pod, **own}
    capabilities = own.get("capabilities", {})
    rules = {
        "may gain privileges": own.get("allowPrivilegeEscalation") is False,
        "is privileged": not own.get("privileged"),
        "keeps capabilities": "ALL" in capabilities.get("drop", []),
        "adds capabilities": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
        "may run as root": both.get("runAsNonRoot") is True,
        "runs as root": both.get("runAsUser") != 0,
        "has no seccomp profile": both.get("seccompProfile", {}).get("type") in PROFILES,
        "has a proc mount of its own": own.get("procMount", "Default") == "Default",
        "has a port of the host": all("hostPort" not in port for port in container.get("ports", [])),
    }
    return [text for text, kept in rules.items() if not kept]
