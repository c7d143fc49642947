"""`safescale metrics`: the declaration of every Prometheus metric."""

from rich import box
from rich.table import Table
from rich.text import Text

from safescale.app.metric_labels import DOMAIN_LABELS
from safescale.cli.terminal.text import terminal
from safescale.runtime.metrics import METRICS


def metrics() -> None:
    """Print each metric that the services expose: name, kind, unit, labels, meaning; then what each label may hold."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 1, 0))
    table.add_column("metric", no_wrap=True)
    table.add_column("meaning")
    for metric in METRICS:
        labels = f" by {', '.join(metric.labels)}" if metric.labels else ""
        described = Text.assemble(metric.help, "\n", (f"{metric.kind}, {metric.unit}{labels}", "dim"))
        table.add_row(metric.name, described)
    console = terminal()
    console.print(table)
    sources = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    sources.add_column("label", no_wrap=True)
    sources.add_column("its values")
    sources.add_column("at most", justify="right")
    for name, label in DOMAIN_LABELS.items():
        sources.add_row(name, label.source, f"{label.most:,}")
    console.print(sources)
