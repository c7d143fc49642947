import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import METRICS

LABELS = {metric.name: set(metric.labels) for metric in METRICS}
HISTOGRAMS = {metric.name for metric in METRICS if metric.kind == "histogram"}
SERIES = re.compile(r"(safescale_[a-z_]+)(?:\{([^}]*)\})?")


def _targets(root: Path) -> dict[str, list[str]]:
    content = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())
    return {job["job_name"]: job["static_configs"][0]["targets"] for job in content["scrape_configs"]}


def _dashboards(root: Path) -> list[Path]:
    return sorted((root / "deploy/grafana/dashboards").glob("*.json"))


def _declared(series: str) -> str:
    """The metric whose series this is."""
    if series in LABELS and series not in HISTOGRAMS:
        return series
    for suffix in ("_bucket", "_sum", "_count"):
        if series.removesuffix(suffix) in HISTOGRAMS and series.endswith(suffix):
            return series.removesuffix(suffix)
    raise AssertionError(f"{series} is no series of a declared metric")


def test_each_service_is_scraped(root: Path, own_services: tuple[str, ...]) -> None:
    assert set(_targets(root)) == set(own_services)


def test_each_job_asks_the_port_that_its_service_opens(
    root: Path, own_services: tuple[str, ...], dockerfile: str
) -> None:
    metrics_port = Settings.model_fields["metrics_port"].default
    assert f"SAFESCALE_METRICS_PORT={metrics_port}" in dockerfile
    for name in own_services:
        port = 8080 if name in ("gateway", "model-server") else metrics_port
        assert _targets(root)[name] == [f"{name}:{port}"]


def test_there_is_a_dashboard(root: Path) -> None:
    assert _dashboards(root)


@pytest.mark.parametrize("path", _dashboards(Path(__file__).parents[3]), ids=lambda path: path.stem)
def test_dashboards_ask_for_declared_series_and_labels(path: Path) -> None:
    content = json.loads(path.read_text())
    for panel in content["panels"]:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            allowed = {"le"}
            for series, selector in SERIES.findall(target["expr"]):
                labels = LABELS[_declared(series)]
                allowed |= labels
                assert set(re.findall(r"([a-z_]+)\s*[=!]~?", selector)) <= labels, target["expr"]
            grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            assert {name.strip() for group in grouped for name in group.split(",")} <= allowed, target["expr"]
    for variable in content["templating"]["list"]:
        for series, label in re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"]):
            assert label in LABELS[series]


def test_dashboards_use_the_data_source_that_is_set_up(root: Path, compose: dict[str, Any]) -> None:
    folder = root / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    for path in _dashboards(root):
        assert set(re.findall(r'"uid": ?"([a-z]+)"', path.read_text())) == {source["uid"]}
    [provider] = yaml.safe_load((folder / "dashboards/safescale.yaml").read_text())["providers"]
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in compose["services"]["grafana"]["volumes"]}
    assert mounts[provider["options"]["path"]] == "./grafana/dashboards"


def test_latency_is_shown_for_each_condition(root: Path) -> None:
    text = (root / "deploy/grafana/dashboards/latency.json").read_text()
    for metric in METRICS:
        if metric.kind == "histogram" and "condition" in metric.labels:
            assert metric.name in text
