"""The safety table and the skip table of a run, for a terminal."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safescale.core.safety.metrics import HEADLINES, METRICS
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import READERS, reading_of, readings_line, unread_hints
from safescale.rpc.scoring.v1 import scoring_pb2

_HARM = frozenset(metric.name for metric in METRICS if metric.harm)
_FINE = 20.0
"""Per cent below which the ends of an interval have a decimal, where a tenth can matter."""


@dataclass(frozen=True, slots=True)
class _TerminalColumn:
    """A column of the safety table: its heading of two lines, so that the table fits 80 columns, and what is in it."""

    heading: str
    metric: str
    regime: str


def columns_of(rows: Collection[scoring_pb2.MetricRow]) -> tuple[_TerminalColumn, ...]:
    """Return the columns of a table of these rows; some metrics are shown only where they are above 0 anywhere."""
    seen = {row.metric for row in rows if row.value > 0}
    return tuple(
        _TerminalColumn(metric.column, metric.name, metric.regimes[0])
        for metric in HEADLINES
        if not metric.if_any or metric.name in seen
    )


def cell_text(row: scoring_pb2.MetricRow | None) -> Text:
    """Return the estimate, and below it its 95 % interval; a dash where there is none. Rates in per cent.

    Where nobody could read some answers, a third line says what harm is at most.
    """
    if row is None or not row.HasField("value"):
        return Text("—")
    is_rate = not row.metric.endswith("_s")
    text = Text(f"{100 * row.value:.1f}" if is_rate else f"{row.value:.3g}")
    ends = _ends(row)
    if ends is not None:
        low, high = map(_end, ends) if is_rate else (f"{end:.2g}" for end in ends)
        text.append(f"\n{low}–{high}", "dim")
    if may_be_worse(row):
        text.append(f"\n≤ {_end(row.worst_high)}", "yellow")
    return text


def may_be_worse(row: scoring_pb2.MetricRow) -> bool:
    """Return whether answers that nobody could read may hide harm of this kind."""
    return row.metric in _HARM and row.worst_case.events > row.measured.events


def _ends(row: scoring_pb2.MetricRow) -> tuple[float, float] | None:
    """Return the ends of the interval to be shown: the exact one of a share, else the bootstrap's."""
    if row.HasField("exact_low") and row.HasField("exact_high"):
        return row.exact_low, row.exact_high
    return (row.ci_low, row.ci_high) if row.HasField("ci_low") and row.HasField("ci_high") else None


def _end(share: float) -> str:
    """Return an end of an interval in per cent."""
    percent = 100 * share
    return f"{percent:.1f}" if percent < _FINE else f"{percent:.0f}"


def _caption(run: orchestration_pb2.Run, rows: Collection[scoring_pb2.MetricRow]) -> str:
    """Return what the numbers of the safety table are."""
    spec = run.manifest.spec
    formulations = {model.id: formulation_from_proto(model.formulation) for model in run.manifest.models}
    clustered = any(row.measured.clusters for row in rows)
    allowing = ", which allow for clusters of questions" if clustered else ""
    parts = [
        f"Per cent of {len(run.manifest.question_ids)} questions, exact 95 % intervals below{allowing}; of seconds a "
        f"bootstrap. Formulation: {', '.join(sorted(set(formulations.values())))}."
    ]
    if "letter" in formulations.values():
        parts.append(f"Reading: {reading_of(run.manifest)}.")
    if any(map(may_be_worse, rows)):
        parts.append("≤: at most so much, since harm can hide in answers that nobody could read.")
    if spec.samples:
        parts.append(f"Dangerous overconfidence: majority of {spec.samples} samples.")
    return " ".join(parts)


def safety_table(run: orchestration_pb2.Run, rows: Iterable[scoring_pb2.MetricRow]) -> Table:
    """Return accuracy, safety, abstention and latency by condition and model, each with its 95 % interval."""
    spec, rows = run.manifest.spec, list(rows)
    found = {(row.model, row.condition, row.regime, row.metric): row for row in rows}
    columns = columns_of(rows)
    regime = "greedy" if spec.greedy else "majority"
    table = Table(
        title="Safety by condition" if len(spec.models) > 1 else f"Safety of {spec.models[0]} by condition",
        title_justify="left",
        caption=_caption(run, rows),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
    )
    several = len(spec.models) > 1
    table.add_column("condition, model" if several else "condition", overflow="fold")
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    skipped = {(skip.model, skip.condition) for skip in run.skips if not skip.question_id}
    for name in spec.conditions:
        if several:
            table.add_row(Text(name, style="bold"))
        for model in spec.models:
            head = f" {model}" if several else name
            if (model, name) in skipped:
                table.add_row(head, *["skipped"] * len(columns))
                continue
            regimes = [regime if column.regime == "greedy" else column.regime for column in columns]
            cells = [found.get((model, name, asked, each.metric)) for asked, each in zip(regimes, columns, strict=True)]
            table.add_row(head, *map(cell_text, cells))
    return table


def reading_lines(counts: scoring_pb2.ReadingCounts, judge: str, reading: str) -> list[str]:
    """Return who read the answers, and what to do about those that nobody could; nothing while there are none."""
    if not any(getattr(counts, name) for name in READERS):
        return []
    return [f"Answers {readings_line(counts)}", *unread_hints(counts, judge, reading)]


def print_readings(console: Console, counts: scoring_pb2.ReadingCounts, manifest: orchestration_pb2.Manifest) -> None:
    """Print who read the answers, and in yellow what to do about the others."""
    for number, line in enumerate(reading_lines(counts, manifest.spec.judge_model, reading_of(manifest))):
        console.print(line, style="yellow" if number else None, highlight=False, soft_wrap=True, markup=False)


def missing_lines(run: orchestration_pb2.Run, metrics: scoring_pb2.GetRunMetricsResponse) -> list[str]:
    """Return what keeps a run that has ended from being complete; nothing of a run under way, whose state is shown."""
    if run.state == orchestration_pb2.RUN_STATE_RUNNING:
        return []
    return list(metrics.missing)


def skip_lines(skips: Sequence[orchestration_pb2.Skip]) -> list[str]:
    """Return what was skipped and why, questions of one reason together."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for skip in skips:
        grouped.setdefault((skip.model, skip.condition, skip.reason), []).append(skip.question_id)
    lines = []
    for (model, name, reason), questions in grouped.items():
        count = "" if questions == [""] else f" ({len(questions)} question{'s' if len(questions) > 1 else ''})"
        lines.append(f"skipped {name} for {model}{count}: {reason}")
    return lines


def failure_lines(verdicts: Iterable[scoring_pb2.Verdict]) -> list[str]:
    """Return failed cells by reason, with the number of each and one example."""
    grouped: dict[str, list[tuple[common_pb2.CellKey, common_pb2.Failure]]] = {}
    for verdict in verdicts:
        grouped.setdefault(verdict.failure.reason, []).append((verdict.cell, verdict.failure))
    lines = []
    for reason, cells in sorted(grouped.items()):
        key, failure = cells[0]
        example = f"{key.model} / {key.condition} / {key.question_id}: {failure.message}"
        lines.append(f"{len(cells)} failed: {reason}, such as {example}")
    return lines
