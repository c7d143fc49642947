"""Dashboards, rules and runbooks against the declaration of the metrics, and against each other."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.support.prometheus_queries import (
    CHART,
    HISTOGRAMS,
    alerts,
    check,
    dashboards,
    labels_of,
    panels,
    rendered,
    rules,
)

from safescale.cli.main import app
from safescale.core.safety.conditions import CONDITIONS
from safescale.runtime.metrics import METRICS, SECONDS
from safescale.runtime.settings import Settings

RUNBOOKS = CHART.parents[1] / "docs" / "runbooks"
PARTS = ("## What it means", "## Look", "## Mend", "## When to escalate")
TESTS = sorted((CHART / "rules" / "tests").glob("*.yaml"))
PROMTOOL = shutil.which("promtool")
QUERIES = [
    pytest.param(name, panel, target["expr"], id=f"{name}: {panel['title']} {target['refId']}")
    for name, dashboard in dashboards().items()
    for panel in panels(dashboard)
    for target in panel["targets"]
]


def _targets(root: Path) -> dict[str, list[str]]:
    content = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())
    return {job["job_name"]: job["static_configs"][0]["targets"] for job in content["scrape_configs"]}


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


def test_compose_loads_the_rules_and_the_dashboards(root: Path, compose: dict[str, Any]) -> None:
    mounts = {
        name: {mount.split(":")[1]: mount.split(":")[0] for mount in compose["services"][name]["volumes"]}
        for name in ("prometheus", "grafana")
    }
    [pattern] = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())["rule_files"]
    folder, _, files = pattern.rpartition("/")
    loaded = sorted((root / "deploy" / mounts["prometheus"][folder]).resolve().glob(files))
    assert loaded == sorted((CHART / "rules").glob("*.yaml"))
    [provider] = yaml.safe_load((root / "deploy/grafana/provisioning/dashboards/safescale.yaml").read_text())[
        "providers"
    ]
    shown = (root / "deploy" / mounts["grafana"][provider["options"]["path"]]).resolve()
    assert shown == (CHART / "dashboards").resolve()
    [source] = yaml.safe_load((root / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert (source["url"], source["isDefault"]) == ("http://prometheus:9090", True)
    assert "--enable-feature=exemplar-storage" in compose["services"]["prometheus"]["command"]


def test_the_dashboards() -> None:
    assert set(dashboards()) == {"latency", "safety", "throughput", "bus", "agent"}
    assert len({dashboard["uid"] for dashboard in dashboards().values()}) == 5


@pytest.mark.parametrize("dashboard", dashboards().values(), ids=dashboards())
def test_dashboards_are_whole(dashboard: dict[str, Any]) -> None:
    sources = [v["name"] for v in dashboard["templating"]["list"] if v["type"] == "datasource"]
    assert sources == ["datasource"]
    assert set(re.findall(r'"uid": ?"(\$[^"]+)"', json.dumps(dashboard))) == {"${datasource}"}
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = set(itertools.product(columns, rows))
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in panels(dashboard):
        assert panel["targets"], panel["title"]
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for variable in dashboard["templating"]["list"]:
        for series, label in re.findall(r"label_values\((\w+), (\w+)\)", variable.get("definition", "")):
            assert label in labels_of(series)


@pytest.mark.parametrize(("name", "panel", "expr"), QUERIES)
def test_dashboards_ask_for_declared_series_and_labels(name: str, panel: dict[str, Any], expr: str) -> None:
    query = rendered(expr, dashboards()[name])
    check(query)
    labels = set().union(*(labels_of(series) for series in re.findall(r"safescale[_:][a-z_:0-9]+", query)))
    for target in panel["targets"]:
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels


def test_latency_is_shown_for_each_condition() -> None:
    text = json.dumps(dashboards()["latency"])
    for metric in METRICS:
        if metric.kind == "histogram" and "condition" in metric.labels:
            assert metric.name in text


def test_every_metric_of_a_run_is_on_a_dashboard_or_in_a_rule() -> None:
    text = json.dumps(list(dashboards().values())) + json.dumps(rules())
    assert [metric.name for metric in METRICS if metric.name not in text] == ["safescale_gate_timestamp_seconds"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_use_declared_series_and_labels(rule: dict[str, Any]) -> None:
    check(rule["expr"])
    if "alert" in rule:
        labels = set().union(*(labels_of(series) for series, _ in _series(rule["expr"])))
        text = json.dumps(rule["annotations"])
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels


def _series(expr: str) -> list[tuple[str, str]]:
    from tests.support.prometheus_queries import SERIES

    return SERIES.findall(expr)


def test_objectives_are_buckets_and_name_conditions() -> None:
    text = json.dumps([rule["expr"] for rule in rules() if "record" in rule])
    bounds = {float(bound) for bound in re.findall(r'le=\\"([0-9.]+)\\"', text)}
    assert bounds
    assert bounds <= set(SECONDS)
    [long] = set(re.findall(r'condition=~\\"([^\\]+)\\"', text))
    [short] = set(re.findall(r'condition!~\\"([^\\]+)\\"', text))
    assert short == f"rpc|{long}"
    found = {row.id for row in CONDITIONS if re.fullmatch(long, row.id)}
    assert found == {"deep_research", "context_32k", "context_100k", "context_max"}


def test_the_windows_of_the_burn_rate_differ_in_nothing_else() -> None:
    bodies = {
        rule["expr"].replace(f"[{window}]", "[W]")
        for rule in rules()
        for window in ("5m", "30m", "1h", "6h")
        if rule.get("record") == f"safescale:answers_slow:ratio_rate{window}"
    }
    assert len(bodies) == 1


@pytest.mark.parametrize(("name", "rule"), alerts().items(), ids=alerts())
def test_each_alert_has_texts_a_severity_and_a_runbook(name: str, rule: dict[str, Any]) -> None:
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n\nSeverity: {rule['labels']['severity']}.")
    assert [part for part in PARTS if part not in page] == []
    assert f"`{name}`" in (RUNBOOKS.parent / "observability.md").read_text()


def test_each_runbook_has_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(alerts())


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_runbooks_name_commands_and_series_that_there_are(path: Path) -> None:
    text = path.read_text()
    command = typer.main.get_command(app)
    for line in re.findall(r"(?:^|`)safescale ([a-z][a-z -]*)", text, flags=re.MULTILINE):
        words, known = line.split(), command
        while words and hasattr(known, "get_command"):
            known = known.get_command(None, words.pop(0))
            assert known is not None, f"safescale {line}"
    for series in re.findall(r"\b(safescale_[a-z_]+)", text):
        labels_of(series if series not in HISTOGRAMS else f"{series}_count")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / link).resolve().exists(), link


def test_each_alert_is_shown_to_fire_and_to_keep_still() -> None:
    fires: dict[str, set[bool]] = {name: set() for name in alerts()}
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for one in case["alert_rule_test"]:
                fires[one["alertname"]].add(bool(one["exp_alerts"]))
    assert {name: seen for name, seen in fires.items() if seen != {True, False}} == {}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: the package prometheus)")
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should(path: Path) -> None:
    done = subprocess.run([str(PROMTOOL), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: the package prometheus)")
def test_rule_files_are_valid() -> None:
    files = [str(path) for path in sorted((CHART / "rules").glob("*.yaml"))]
    command = [str(PROMTOOL), "check", "rules", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Newer versions lint: a warning counts as a failure.
    assert "FAILED" not in done.stdout + done.stderr
