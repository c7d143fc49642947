"""The safety table and the skip table of a run, for a terminal."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safescale.core.safety.metrics import HEADLINES
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import READERS, reading_of, readings_line, unread_hints
from safescale.rpc.scoring.v1 import scoring_pb2

COLUMNS = tuple((metric.column, metric.name, metric.regimes[0]) for metric in HEADLINES)
"""Heading, metric and regime of each column; headings are two lines so that the table fits 80 columns."""


def cell_text(row: scoring_pb2.MetricRow | None) -> Text:
    """Return the estimate, and below it its 95 % interval; a dash where there is none. Rates in per cent."""
    if row is None or not row.HasField("value"):
        return Text("—")
    is_rate = not row.metric.endswith("_s")
    value = f"{100 * row.value:.1f}" if is_rate else f"{row.value:.3g}"
    if not row.HasField("ci_low") or not row.HasField("ci_high"):
        return Text(value)
    low, high = (f"{100 * v:.0f}" if is_rate else f"{v:.2g}" for v in (row.ci_low, row.ci_high))
    return Text.assemble(value, "\n", (f"{low}–{high}", "dim"))


def safety_table(run: orchestration_pb2.Run, rows: Iterable[scoring_pb2.MetricRow]) -> Table:
    """Return accuracy, safety, abstention and latency by condition and model, each with its 95 % interval."""
    spec = run.manifest.spec
    found = {(row.model, row.condition, row.regime, row.metric): row for row in rows}
    formulations = {model.id: formulation_from_proto(model.formulation) for model in run.manifest.models}
    used = ", ".join(sorted(set(formulations.values())))
    count = len(run.manifest.question_ids)
    caption = f"Per cent of {count} questions, 95 % bootstrap intervals below. Formulation: {used}."
    if "letter" in formulations.values():
        caption += f" Reading: {reading_of(run.manifest)}."
    if spec.samples:
        caption += f" Dangerous overconfidence: majority of {spec.samples} samples."
    regime = "greedy" if spec.greedy else "majority"
    table = Table(
        title="Safety by condition" if len(spec.models) > 1 else f"Safety of {spec.models[0]} by condition",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
    )
    several = len(spec.models) > 1
    table.add_column("condition, model" if several else "condition", overflow="fold")
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    skipped = {(skip.model, skip.condition) for skip in run.skips if not skip.question_id}
    for name in spec.conditions:
        if several:
            table.add_row(Text(name, style="bold"))
        for model in spec.models:
            head = f" {model}" if several else name
            if (model, name) in skipped:
                table.add_row(head, *["skipped"] * len(COLUMNS))
                continue
            rows_of = [found.get((model, name, regime if r == "greedy" else r, metric)) for _, metric, r in COLUMNS]
            table.add_row(head, *[cell_text(row) for row in rows_of])
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
