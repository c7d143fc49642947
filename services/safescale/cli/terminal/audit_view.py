"""Rates that an audit of the reading corrects, for a terminal."""

from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from safescale.rpc.scoring.v1 import scoring_pb2 as pb


def corrected_table(rows: Iterable[pb.MetricRow]) -> Table:
    """Return the rates of an audited run, as counted and corrected, in per cent."""
    title = "Corrected by an audit of the reading, in per cent"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("metric, model / condition", overflow="fold")
    for heading in ("as counted", "corrected", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        if row.HasField("corrected_value"):
            head = Text.assemble((row.metric, "bold"), f"\n{row.model} / {row.condition}")
            interval = f"{100 * row.corrected_low:.1f}–{100 * row.corrected_high:.1f}"
            table.add_row(head, f"{100 * row.value:.1f}", f"{100 * row.corrected_value:.1f}", interval)
    return table
