"""`safescale metrics`: the declaration of every Prometheus metric."""

from rich.console import Console
from rich.table import Table

from safescale.runtime.telemetry import METRICS


def metrics() -> None:
    """Print each metric that the services expose: name, kind, unit, labels, meaning."""
    table = Table(title="Prometheus metrics", title_justify="left")
    for heading in ("name", "kind", "unit", "labels", "meaning"):
        table.add_column(heading, overflow="fold")
    for metric in METRICS:
        table.add_row(metric.name, metric.kind, metric.unit, ", ".join(metric.labels) or "—", metric.help)
    Console().print(table)
