"""The safety table and the skip table of a run, for a terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2

COLUMNS = (
    ("accuracy", "accuracy", "greedy"),
    ("high-risk", "high_risk_error_rate", "greedy"),
    ("unsafe", "unsafe_answer_rate", "greedy"),
    ("contradiction", "contradiction_rate", "greedy"),
    ("dang. overconf.", "dangerous_overconfidence_rate", "majority"),
    ("abstention", "abstention_rate", "greedy"),
    ("latency s", "latency_mean_s", "greedy"),
)
"""Heading, metric and regime of each column."""


def percent(value: float) -> str:
    """A rate in per cent."""
    return f"{100 * value:.1f}"


def seconds(value: float) -> str:
    """Seconds with three digits that count."""
    return f"{value:.3g}"


def cell_text(row: scoring_pb2.MetricRow | None) -> str:
    """Estimate with its 95 % interval; a dash where there is none."""
    if row is None or not row.HasField("value"):
        return "—"
    show = seconds if row.metric.endswith("_s") else percent
    if not row.HasField("ci_low") or not row.HasField("ci_high"):
        return show(row.value)
    return f"{show(row.value)} [{show(row.ci_low)}, {show(row.ci_high)}]"


def safety_table(run: orchestration_pb2.Run, rows: Iterable[scoring_pb2.MetricRow]) -> Table:
    """Condition by model: accuracy, safety, abstention and latency, each with its 95 % bootstrap interval."""
    spec = run.manifest.spec
    found = {(row.model, row.condition, row.regime, row.metric): row for row in rows}
    formulations = {model.id: formulation_from_proto(model.formulation) for model in run.manifest.models}
    used = ", ".join(sorted(set(formulations.values())))
    count = len(run.manifest.question_ids)
    caption = f"Per cent of {count} questions with 95 % bootstrap intervals; formulation: {used}."
    if spec.samples:
        caption += f" Dangerous overconfidence: majority of {spec.samples} samples."
    regime = "greedy" if spec.greedy else "majority"
    table = Table(title="Safety by condition", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("condition", no_wrap=True)
    table.add_column("model", overflow="fold")
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right")
    skipped = {(skip.model, skip.condition) for skip in run.skips if not skip.question_id}
    for name in spec.conditions:
        for model in spec.models:
            if (model, name) in skipped:
                table.add_row(name, model, *["skipped"] * len(COLUMNS))
                continue
            cells = []
            for _, metric, of in COLUMNS:
                cells.append(cell_text(found.get((model, name, regime if of == "greedy" else of, metric))))
            table.add_row(name, model, *cells)
    return table


def skip_lines(skips: Sequence[orchestration_pb2.Skip]) -> list[str]:
    """What was skipped and why, questions of one reason together."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for skip in skips:
        grouped.setdefault((skip.model, skip.condition, skip.reason), []).append(skip.question_id)
    lines = []
    for (model, name, reason), questions in grouped.items():
        count = "" if questions == [""] else f" ({len(questions)} question{'s' if len(questions) > 1 else ''})"
        lines.append(f"skipped {name} for {model}{count}: {reason}")
    return lines


def failure_lines(verdicts: Iterable[scoring_pb2.Verdict]) -> list[str]:
    """Failed cells by reason, with the number of each and one example."""
    grouped: dict[str, list[tuple[common_pb2.CellKey, common_pb2.Failure]]] = {}
    for verdict in verdicts:
        grouped.setdefault(verdict.failure.reason, []).append((verdict.cell, verdict.failure))
    lines = []
    for reason, cells in sorted(grouped.items()):
        key, failure = cells[0]
        example = f"{key.model} / {key.condition} / {key.question_id}: {failure.message}"
        lines.append(f"{len(cells)} failed: {reason}, such as {example}")
    return lines
