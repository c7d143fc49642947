import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SHELL = ("build.sh", "engine.sh", "maven/fetch", "elasticsearch/plugins", "elasticsearch/entrypoint")
KAFKA = ("opt/kafka/bin/*", "etc/kafka/docker/run", "etc/confluent/docker/*")


@pytest.fixture(scope="module")
def airgap(root: Path) -> Path:
    return root / "deploy/airgap"


def _run(command: list[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _scripts(folder: Path) -> list[Path]:
    inside = [path for pattern in KAFKA for path in (folder / "kafka/root").glob(pattern)]
    return [*(folder / name for name in SHELL), *inside]


def test_scripts_can_be_read(airgap: Path) -> None:
    for script in _scripts(airgap):
        done = _run(["bash", "-n", script])
        assert done.returncode == 0, done.stderr
    for script in ("maven/verify", "debian/apt-install"):
        assert _run(["sh", "-n", airgap / script]).returncode == 0


def test_no_host_is_named(airgap: Path) -> None:
    for path in airgap.rglob("*"):
        if path.is_file():
            hosts = set(re.findall(r"https?://([^/\s\"']+)", path.read_text()))
            # Names of an XML name space and of a JSON schema, which nothing asks.
            assert hosts <= {"maven.apache.org", "cyclonedx.org"}, path


def test_versions_agree(airgap: Path, compose: dict[str, Any]) -> None:
    script = (airgap / "build.sh").read_text()
    kafka = re.search(r"^kafka_version=(.+)$", script, re.MULTILINE)
    elasticsearch = re.search(r"^elasticsearch_version=(.+)$", script, re.MULTILINE)
    assert kafka is not None
    assert elasticsearch is not None
    assert compose["services"]["kafka"]["image"].endswith(f":{kafka.group(1)}")
    assert compose["services"]["elasticsearch"]["image"].endswith(f":{elasticsearch.group(1)}")
    assert f"<version>{kafka.group(1)}</version>" in (airgap / "kafka/pom.xml").read_text()
    assert f" kafka_2.13-{kafka.group(1)}.jar\n" in (airgap / "kafka/checksums.sha256").read_text()
    assert f" elasticsearch-{elasticsearch.group(1)}.zip\n" in (airgap / "elasticsearch/checksums.sha256").read_text()


def test_the_names_of_images_are_those_that_are_built(airgap: Path) -> None:
    lines = (airgap / "images.env").read_text().splitlines()
    names = {line.split("=localhost/", 1)[1] for line in lines if not line.startswith("#")}
    script = (airgap / "build.sh").read_text()
    for variable in ("kafka_version", "elasticsearch_version"):
        found = re.search(rf"^{variable}=(.+)$", script, re.MULTILINE)
        assert found is not None
        script = script.replace(f"${variable}", found.group(1))
    assert names <= set(re.findall(r'"\$prefix/([^"]+)"', script))


def test_lists_of_checksums_are_sorted_and_whole(airgap: Path) -> None:
    for path in airgap.rglob("checksums.sha256"):
        lines = path.read_text().splitlines()
        assert all(re.fullmatch(r"[0-9a-f]{64}  \S+", line) for line in lines)
        names = [line.split()[1] for line in lines]
        assert names == sorted(names)
        assert len(names) == len(set(names))


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=64), place=st.integers(min_value=0, max_value=63))
def test_a_changed_file_is_found(airgap: Path, tmp_path: Path, content: bytes, place: int) -> None:
    folder, listed = tmp_path / "files", tmp_path / "list"
    folder.mkdir(exist_ok=True)
    (folder / "a.jar").write_bytes(content)
    listed.write_text(_run(["sh", "-c", f"cd '{folder}' && sha256sum *"]).stdout)
    assert _run([airgap / "maven/verify", folder, listed]).returncode == 0
    (folder / "a.jar").write_bytes(content[:place] + b"!" + content[place:])
    assert _run([airgap / "maven/verify", folder, listed]).returncode == 1


def test_a_file_too_many_or_too_few_is_found(airgap: Path, tmp_path: Path) -> None:
    folder, listed = tmp_path / "files", tmp_path / "list"
    folder.mkdir()
    for name in ("a.jar", "B.jar"):
        (folder / name).write_text(name)
    listed.write_text(_run(["sh", "-c", f"cd '{folder}' && LC_ALL=C sha256sum B.jar a.jar"]).stdout)
    assert _run([airgap / "maven/verify", folder, listed]).returncode == 0
    (folder / "c.jar").write_text("c")
    done = _run([airgap / "maven/verify", folder, listed])
    assert done.returncode == 1
    assert "c.jar" in done.stdout
    (folder / "c.jar").unlink()
    (folder / "a.jar").unlink()
    assert _run([airgap / "maven/verify", folder, listed]).returncode == 1


def test_build_names_what_it_does_not_know(airgap: Path, tmp_path: Path) -> None:
    done = _run([airgap / "build.sh", "kakfa"], AIRGAP_STATE=str(tmp_path))
    assert done.returncode == 2
    assert "kakfa" in done.stderr
    assert "expected base" in done.stderr


def test_build_names_a_file_that_cannot_be_read(airgap: Path, tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    done = _run([airgap / "build.sh", "base"], AIRGAP_STATE=str(tmp_path / "state"), AIRGAP_CA_FILE=str(missing))
    assert done.returncode == 2
    assert str(missing) in done.stderr
    assert not (tmp_path / "state").exists()


def test_engine_names_what_it_expects(airgap: Path, tmp_path: Path) -> None:
    done = _run([airgap / "engine.sh", "restart"], AIRGAP_STATE=str(tmp_path))
    assert done.returncode == 2
    assert "expected start, stop or status" in done.stderr


@pytest.mark.parametrize(("answers", "code"), [(True, 0), (False, 2)])
def test_a_user_without_root_can_use_an_engine_and_start_none(
    airgap: Path, tmp_path: Path, answers: bool, code: int
) -> None:
    for name, line in (("id", "echo 1000"), ("docker", "echo 29.0" if answers else "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    state = tmp_path / "state"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = _run([airgap / "engine.sh", "start"], AIRGAP_STATE=str(state), PATH=path)
    assert done.returncode == code
    assert ("Docker engine 29.0 answers" in done.stdout) == answers
    assert ("starting one needs root" in done.stderr) == (not answers)
    assert not state.exists()


def test_engine_stops_no_process_that_is_not_its_own(airgap: Path, tmp_path: Path) -> None:
    (tmp_path / "dockerd.pid").write_text(f"{os.getpid()}\n")
    done = _run([airgap / "engine.sh", "stop"], AIRGAP_STATE=str(tmp_path))
    assert done.returncode == 0
    assert "no engine of this script runs" in done.stdout


def test_settings_of_elasticsearch_come_from_the_environment(airgap: Path, tmp_path: Path) -> None:
    fake = tmp_path / "elasticsearch"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["env", "-i", f"PATH={tmp_path}:/usr/bin:/bin", "discovery.type=single-node", "ES_SETTING_CLUSTER_NAME=wards",
         "ES_SETTING_XPACK_SECURITY_HTTP__X_ENABLED=true", "HOME=/root", "bash", airgap / "elasticsearch/entrypoint"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sorted(done.stdout.split()) == [
        "-Ecluster.name=wards",
        "-Ediscovery.type=single-node",
        "-Expack.security.http_x.enabled=true",
    ]
