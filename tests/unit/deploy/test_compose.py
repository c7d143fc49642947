import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from safescale import __version__
from safescale.gateway.config import gateway_config
from safescale.inference.catalog import load_catalog
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

from .conftest import VARIABLE

SETTINGS = {f"SAFESCALE_{name.upper()}" for name in Settings.model_fields}
OTHERS = ("kafka", "elasticsearch", "prometheus", "grafana", "tgi")


def _example(root: Path, name: str) -> dict[str, str]:
    lines = (root / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_it_holds_the_grid_and_nothing_unknown(compose: dict[str, Any], own_services: tuple[str, ...]) -> None:
    assert set(compose["services"]) == {*own_services, *OTHERS, "setup"}


def test_images_of_services_have_the_version_of_the_package(
    compose: dict[str, Any], own_services: tuple[str, ...]
) -> None:
    for name in own_services:
        assert compose["services"][name]["image"] == f"safescale/{name}:{__version__}"
        assert compose["services"][name]["build"]["target"] == name


def test_other_images_are_pinned(compose: dict[str, Any]) -> None:
    for name in OTHERS:
        tag = compose["services"][name]["image"].rpartition(":")[2]
        assert any(letter.isdigit() for letter in tag), f"{name} has the tag {tag}"


def test_every_setting_of_a_service_exists(compose: dict[str, Any], own_services: tuple[str, ...]) -> None:
    for name in (*own_services, "setup"):
        given = set(compose["services"][name]["environment"])
        assert given <= SETTINGS, f"{name}: {given - SETTINGS}"


def test_settings_are_read_as_they_are_given(
    compose: dict[str, Any], own_services: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in own_services:
        with monkeypatch.context() as patch:
            for variable in [each for each in os.environ if each.startswith("SAFESCALE_")]:
                patch.delenv(variable)
            for variable, value in compose["services"][name]["environment"].items():
                patch.setenv(variable, str(value))
            settings = Settings()
        if name in ("inference", "retrieval", "orchestration", "scoring"):
            assert settings.kafka == "kafka:9092"
            assert settings.elasticsearch == "http://elasticsearch:9200"
            assert settings.instance == f"{name}-1"
        if name != "model-server":
            peers = [settings.address_of(peer) for peer in ("inference", "retrieval", "orchestration", "scoring")]
            assert [peer.partition(":")[0] for peer in peers] == ["inference", "retrieval", "orchestration", "scoring"]


def test_the_gateway_on_this_machines_port_answers_to_its_own_names_alone(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in compose["services"]["gateway"]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    assert gateway_config(Settings(), Telemetry()).allowed_hosts == ("gateway",)


def test_each_variable_stands_in_the_example_with_its_default(compose_text: str, root: Path) -> None:
    assert dict(VARIABLE.findall(compose_text)) == _example(root, "deploy/env.example")


def test_a_variable_has_one_default(compose_text: str) -> None:
    found = set(VARIABLE.findall(compose_text))
    assert len(found) == len({name for name, _ in found})


def test_the_names_of_air_gapped_images_are_variables(compose_text: str, root: Path) -> None:
    names = {name for name, _ in VARIABLE.findall(compose_text)}
    assert set(_example(root, "deploy/airgap/images.env")) <= names


def test_ports_are_published_on_loopback_alone(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"
    published = [port.split(":")[1] for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


def test_records_are_in_a_network_without_a_way_out(compose: dict[str, Any]) -> None:
    assert compose["networks"]["data"]["internal"] is True
    for name in ("kafka", "elasticsearch"):
        assert compose["services"][name]["networks"] == ["data"]
        assert "ports" not in compose["services"][name]
    for name in ("gateway", "prometheus", "grafana", "model-server"):
        assert "data" not in compose["services"][name]["networks"]


def test_containers_are_confined(compose: dict[str, Any], own_services: tuple[str, ...]) -> None:
    for name in (*own_services, "setup", "kafka", "elasticsearch", "prometheus", "grafana"):
        service = compose["services"][name]
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is (name != "elasticsearch"), name
        assert service["mem_limit"], name
        assert service["restart"], name


def test_services_have_a_folder_to_write_to_that_is_theirs(
    compose: dict[str, Any], own_services: tuple[str, ...], dockerfile: str
) -> None:
    assert "SAFESCALE_DATA_DIR=/var/lib/safescale" in dockerfile
    assert "USER 10001:10001" in dockerfile
    for name in own_services:
        assert any(
            mount.startswith("/var/lib/safescale:uid=10001,gid=10001") for mount in compose["services"][name]["tmpfs"]
        )


def test_services_start_after_the_setup(compose: dict[str, Any]) -> None:
    for name in ("inference", "retrieval", "orchestration", "scoring"):
        assert compose["services"][name]["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}
    assert compose["services"]["setup"]["depends_on"] == {
        "kafka": {"condition": "service_healthy"},
        "elasticsearch": {"condition": "service_healthy"},
    }


def test_foreign_containers_tell_their_health(compose: dict[str, Any]) -> None:
    for name in OTHERS:
        assert compose["services"][name]["healthcheck"]["test"][0] == "CMD", name


def test_volumes_are_declared_and_mounted_files_are_there(compose: dict[str, Any], root: Path) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (root / "deploy" / source).exists(), f"{name} mounts {source}"
            else:
                assert source in compose["volumes"], f"{name} mounts {source}"


def test_the_catalog_puts_the_model_of_the_demo_behind_the_model_server(compose: dict[str, Any], root: Path) -> None:
    catalog = load_catalog(root / "deploy/models.yaml")
    spec = yaml.safe_load((root / "examples/runs/demo.yaml").read_text())
    for model in spec["models"]:
        row = catalog.row(model)
        assert row.backend == "openai"
        assert row.endpoint is not None
        assert [url.partition("//")[2].partition(":")[0] for url in row.endpoint.urls] == ["model-server"]
        # One call at a time is what one slot takes: more would wait inside the server and count as latency.
        assert row.endpoint.concurrency == 1


def test_every_server_of_the_catalog_is_a_container(compose: dict[str, Any], root: Path) -> None:
    for row in yaml.safe_load((root / "deploy/models.yaml").read_text())["models"]:
        for url in row["endpoint"]["urls"]:
            assert url.partition("//")[2].partition(":")[0] in compose["services"]


def test_kafka_is_reached_by_the_name_that_it_tells(root: Path) -> None:
    lines = (root / "deploy/kafka/server.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert properties["advertised.listeners"] == "PLAINTEXT://kafka:9092"
    assert properties["log.dirs"] == "/var/lib/kafka/data"
    assert properties["auto.create.topics.enable"] == "false"


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs docker compose")
def test_docker_compose_takes_it(root: Path) -> None:
    known = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if known.returncode:
        pytest.skip("docker compose is not installed")
    command = ["docker", "compose", "-f", "deploy/compose.yaml", "--profile", "tgi", "--profile", "dashboards"]
    done = subprocess.run([*command, "config", "--quiet"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
