"""What an operator does with a release: back it up, restore it, secure it; and the trial in one pod."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import yaml
from tests.e2e_k8s.cluster import CHART, ROOT, StepError, until
from tests.e2e_k8s.measure import SERVICES
from tests.e2e_k8s.world import World, helm_test
from tests.integration.conftest import CommandLine
from tests.support.certificates import Authority

from safescale.runtime.auth.tokens import entry, new_token

OPERATION = ROOT / "docs" / "deploy" / "operations-kubernetes.md"
SCALED = {"statefulset/inference": 1, "statefulset/retrieval": 1, "statefulset/scoring": 2, "deployment/gateway": 1}
"""Replicas of values.yaml."""
CLAIM_TRIES_S = 120


def commands_in_pods(world: World) -> str:
    """Commands by exec, each as docs/deploy/operations-kubernetes.md has it, and a report through the gateway."""
    page = OPERATION.read_text().partition("## The command line on a cluster")[2].partition("\n## ")[0]
    lines = re.findall(r"^K (exec (?!.*standalone)(?!.*<).*?)\s*(?:#.*)?$", page, re.MULTILINE)
    if len(lines) < 3:
        raise StepError(f"only {lines} on the page")
    for line in lines:
        if not world.cluster.kubectl(*shlex.split(line)).strip():
            raise StepError(f"{line} said nothing")
    report = world.cluster.get(f"{world.cluster.release}-gateway", 8080, "/api/v1/runs/latest/report", timeout=120)
    if b"<html" not in report[:400].lower():
        raise StepError(f"no page: {report[:200]!r}")
    return f"{len(lines)} commands by exec, a report of {len(report) // 1024} KiB through the gateway"


def backup_and_restore(world: World) -> str:
    """Back the grid up by exec, restore it under another prefix, as docs/deploy/operations-kubernetes.md has it."""
    cluster, release = world.cluster, world.cluster.release
    file = world.folder / "grid.jsonl.gz"
    orchestration = f"deploy/{release}-orchestration"
    _backup(world, [orchestration], file)
    world.upgrade("elasticsearch.prefix=restored")
    for target in SCALED:
        cluster.scale(target, 0)
    said = _restore(world, orchestration, file, "/var/lib/safescale/backup.jsonl.gz")
    cluster.kubectl("rollout", "restart", f"deployment/{release}-orchestration")
    cluster.kubectl("rollout", "status", f"deployment/{release}-orchestration", "--timeout=240s")
    found, written = _totals(said)
    if found != written or not found:
        raise StepError(f"{written} of {found} records were written: {said}")
    kinds = ("run", "verdict", "generation-cell")
    before, after = ([cluster.count(kind, prefix) for kind in kinds] for prefix in ("safescale", "restored"))
    if before != after:
        raise StepError(f"{kinds}: {before} before, {after} restored")
    for target, replicas in SCALED.items():
        cluster.scale(target, replicas)
    for target in SCALED:
        cluster.kubectl("rollout", "status", target.replace("/", f"/{release}-"), "--timeout=240s")
    tested = helm_test(world)
    world.upgrade()
    size = f"{file.stat().st_size / 2**20:.1f} MiB"
    return f"{found:,} records of {before[0]} runs in {size}; helm test of what came back {tested}"


def secured(world: World) -> str:
    """Mutual TLS and tokens, by Secrets: the release's own test passes, and who shows too little is refused."""
    shown = {**world.bench.addresses, **_secrets(world)}
    world.upgrade(
        "tls.enabled=true", "tls.mutual=true", "tls.existingSecret=grid-tls",
        "auth.existingSecret=grid-tokens", "auth.service.existingSecret=grid-service",
    )  # fmt: skip
    try:
        tested = helm_test(world)
        viewer = _command_line(world, shown)
        # Port-forwards open anew for new pods.
        until("a viewer's list of runs", lambda: viewer("runs", "list").returncode == 0, seconds=120)
        started = viewer("run", viewer.spec(questions={"limit": 1}), "--no-report")
        nameless = _command_line(world, _without(shown, "SAFESCALE_TOKEN_FILE"))("runs", "list")
        kept = _without(shown, "SAFESCALE_TLS_CERTIFICATE_FILE", "SAFESCALE_TLS_KEY_FILE")
        faceless = _command_line(world, kept)("runs", "list")
        for what, done, word in (
            ("a run of a viewer", started, "runner"),
            ("a call without a token", nameless, "token"),
            ("a call without a certificate", faceless, "no safescale server answers"),
        ):
            if done.returncode == 0 or word not in done.stdout + done.stderr:
                raise StepError(f"{what}: {done.returncode}, {(done.stdout + done.stderr)[-400:]}")
    finally:
        world.upgrade()
    return f"helm test {tested}; refused: a run of a viewer, a call without a token, one without a certificate"


def trial(world: World) -> str:
    """The trial beside it: installed, tested, its records brought back into an empty claim, and gone at the end."""
    cluster = world.cluster
    install = (
        "upgrade", "--install", "trial", str(CHART), "--values", str(CHART / "profile-trial.yaml"),
        "--set", "fullnameOverride=trial", *(part for image in world.images for part in ("--set", image)),
        "--wait", "--timeout", "5m",
    )  # fmt: skip
    file = world.folder / "trial.jsonl.gz"
    try:
        cluster.helm(*install)
        cluster.helm("test", "trial", "--timeout", "8m")
        _backup(world, ["deploy/trial-standalone", "--container", "standalone"], file)
        cluster.helm("uninstall", "trial", "--wait", "--timeout", "3m")
        left = cluster.kubectl("get", "pvc", "--selector", "app.kubernetes.io/instance=trial", "--output", "name")
        if left:
            raise StepError(f"{left.strip()} stayed, though profile-trial.yaml has keep: false")
        cluster.helm(*install)
        said = _restore_trial(world, file)
    finally:
        cluster.helm("uninstall", "trial", "--ignore-not-found", "--wait", "--timeout", "3m")
    found, written = _totals(said)
    if not found or found != written:
        raise StepError(f"{written} of {found} records were written: {said}")
    return f"installed twice, helm test green, {found} records backed up and restored"


def _backup(world: World, target: list[str], file: Path) -> None:
    command = ["kubectl", "--namespace", world.cluster.namespace, "exec", *target, "--", "safescale", "backup", "-"]
    with file.open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, timeout=300, check=False)
    if done.returncode:
        raise StepError(done.stderr.decode()[-800:])


def _restore(world: World, target: str, file: Path, path: str) -> str:
    """What `safescale restore` in a pod says of a file that is brought there first."""
    copy = ["exec", "-i", target, "--", "sh", "-c", f"umask 077; cat > {path}"]
    command = ["kubectl", "--namespace", world.cluster.namespace, *copy]
    with file.open("rb") as given:
        done = subprocess.run(command, stdin=given, capture_output=True, timeout=300, check=False)
    if done.returncode:
        raise StepError(done.stderr.decode()[-800:])
    return world.cluster.kubectl("exec", target, "--", "safescale", "restore", path)


def _totals(said: str) -> tuple[int, int]:
    """Records in the file, and those that were written, of the last line of a restore."""
    row = re.search(r"\ball\b\D+([\d,]+)\D+([\d,]+)", said)
    if row is None:
        raise StepError(f"no totals in: {said}")
    return int(row[1].replace(",", "")), int(row[2].replace(",", ""))


def _restore_trial(world: World, file: Path) -> str:
    """By the pod that the page describes, while the trial's own is away."""
    cluster = world.cluster
    cluster.kubectl("scale", "deployment/trial-standalone", "--replicas=0")
    gone = ("--selector", "app.kubernetes.io/instance=trial,app.kubernetes.io/component=standalone")
    cluster.kubectl("wait", "--for=delete", "pod", *gone, "--timeout=180s")
    pod = yaml.safe_load(OPERATION.read_text().partition("<<END\n")[2].partition("\nEND\n")[0])
    image = world.images[0].partition("=")[2]
    pod["spec"]["containers"][0]["image"] = pod["spec"]["containers"][0]["image"].replace("safescale/", f"{image}/")
    pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = "trial-data"
    cluster.apply(pod)
    name = pod["metadata"]["name"]
    try:
        cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={CLAIM_TRIES_S}s")
        return _restore(world, name, file, "/tmp/backup.jsonl.gz")
    finally:
        cluster.kubectl("delete", "pod", name, "--grace-period=1")


def _secrets(world: World) -> dict[str, str]:
    """Secrets for the release; settings of a viewer's command line on this machine."""
    folder = world.folder / "secrets"
    folder.mkdir(exist_ok=True)
    hosts = [f"{world.cluster.release}-{name}" for name in (*SERVICES, "gateway")]
    names = [name for host in hosts for name in (host, f"{host}.{world.cluster.namespace}.svc", f"*.{host}")]
    authority = Authority(folder)
    server = authority.issue("server", ("localhost", "127.0.0.1", *names))
    entries = {role: _token(folder, role) for role in ("viewer", "runner")}
    files = {
        "grid-tls": {"ca.crt": authority.file, "tls.crt": server.certificate, "tls.key": server.key},
        "grid-service": {"token": folder / "runner.token"},
    }
    secrets: dict[str, dict[str, str]] = {
        name: {key: path.read_text() for key, path in content.items()} for name, content in files.items()
    }
    secrets["grid-tokens"] = {"tokens.yaml": yaml.safe_dump({"tokens": list(entries.values())})}
    world.cluster.apply(
        *(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}
            for name, content in secrets.items()
        )
    )
    person = authority.issue("person")
    return {
        "SAFESCALE_TLS_CA_FILE": str(authority.file),
        "SAFESCALE_TLS_CERTIFICATE_FILE": str(person.certificate),
        "SAFESCALE_TLS_KEY_FILE": str(person.key),
        "SAFESCALE_TOKEN_FILE": str(folder / "viewer.token"),
    }


def _token(folder: Path, role: str) -> Any:
    """The entry of a new token, which is in a file of its role's name."""
    token = new_token()
    (folder / f"{role}.token").write_text(token)
    return yaml.safe_load(entry(role, token, role))[0]


def _command_line(world: World, settings: dict[str, str]) -> CommandLine:
    return CommandLine(world.folder, settings, timeout_s=180)


def _without(settings: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name not in names}
