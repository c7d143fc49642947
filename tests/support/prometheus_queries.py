"""What queries of dashboards and rules ask for, and queries as a Grafana would send them."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from safescale.runtime.metrics import METRICS

CHART = Path(__file__).parents[2] / "charts" / "safescale"
LABELS = {metric.name: set(metric.labels) for metric in METRICS}
HISTOGRAMS = {metric.name for metric in METRICS if metric.kind == "histogram"}
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds to every series."""

SERIES = re.compile(r"(?<![:\w])(safescale_[a-z_]+|safescale:[a-z_:0-9]+|up)(?![\w:(])(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")
VARIABLES = {"$__rate_interval": "1m", "$__range": "5m"}


def rules() -> list[dict[str, Any]]:
    """All rules, recorded series and alerts."""
    found = []
    for path in sorted((CHART / "rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            found.extend(group["rules"])
    return found


def alerts() -> dict[str, dict[str, Any]]:
    """Alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> dict[str, set[str]]:
    """Labels of each recorded series: those of the outermost grouping."""
    found = {}
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = {label.strip() for label in GROUPED.findall(rule["expr"])[0].split(",")}
    return found


def labels_of(series: str) -> set[str]:
    """Labels of a declared, recorded or scraped series."""
    if series == "up":
        return SCRAPED
    if series.startswith("safescale:"):
        return recorded()[series]
    if series in LABELS and series not in HISTOGRAMS:
        return LABELS[series] | SCRAPED
    for suffix in ("_bucket", "_sum", "_count"):
        name = series.removesuffix(suffix)
        if series.endswith(suffix) and name in HISTOGRAMS:
            return LABELS[name] | SCRAPED | ({"le"} if suffix == "_bucket" else set())
    raise AssertionError(f"{series} is no series of a declared metric, nor a recorded one")


def check(expr: str) -> None:
    """Raise unless a query uses declared series with their labels."""
    allowed: set[str] = set()
    found = SERIES.findall(expr)
    assert found, f"no series in {expr}"
    for series, selector in found:
        labels = labels_of(series)
        allowed |= labels
        assert set(re.findall(r"([a-z_]+)\s*[=!]~?\s*\"", selector)) <= labels, f"{series}{{{selector}}}"
    grouped = {label.strip() for group in GROUPED.findall(expr) for label in group.split(",") if label.strip()}
    assert grouped <= allowed, f"{sorted(grouped - allowed)} in {expr}"


def dashboards() -> dict[str, dict[str, Any]]:
    """Dashboards by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((CHART / "dashboards").glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Panels that ask for something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def rendered(expr: str, dashboard: dict[str, Any]) -> str:
    """A query with every variable filled in, all values chosen."""
    for variable in dashboard["templating"]["list"]:
        expr = expr.replace(f"${variable['name']}", variable.get("allValue", ".*"))
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, f"a variable is not declared: {expr}"
    return expr
