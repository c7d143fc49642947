"""The tables of the whole run: what its metrics mean, what failed, what was skipped, what a policy says."""

from safescale.core.safety.metrics import METRICS
from safescale.formats.gate_words import NOTHING, counted, decides, demand_shown, interval, number, summary
from safescale.report.safety.findings import plural
from safescale.report.safety.inputs import ReportInput
from safescale.report.safety.sections import Block
from safescale.report.safety.view import condition_name
from safescale.rpc.policies import verdict_of
from safescale.rpc.readings import READERS
from safescale.rpc.scoring.v1 import scoring_pb2

LISTED_FAILURES = 100


def definitions() -> Block:
    """Return every metric: direction, vote rule, denominator, regimes."""
    rules = {None: "", "null_ballot": "a null is a ballot", "drop_null": "nulls are dropped"}
    rows = [
        [metric.name, metric.direction, metric.denominator, ", ".join(metric.regimes), rules[metric.rule]]
        for metric in METRICS
    ]
    return Block("", "", ["metric", "better", "averaged over", "regimes", "majority vote"], rows)


def failures(report: ReportInput) -> Block:
    """Return the failed cells, the first of them one by one."""
    rows = [
        [cell.model, condition_name(cell.condition), cell.question_id, cell.reason, cell.message]
        for cell in report.failed[:LISTED_FAILURES]
    ]
    more = len(report.failed) - len(rows)
    note = f"{plural(more, 'more cell')} failed and {'is' if more == 1 else 'are'} not listed." if more else ""
    return Block(
        "Failed cells", note, ["model", "condition", "question", "reason", "message"], rows, folded=len(rows) > 12
    )


def failure_counts(report: ReportInput) -> Block:
    """Return failed cells by model, condition and reason."""
    counts: dict[tuple[str, str, str], int] = {}
    for cell in report.failed:
        key = (cell.model, condition_name(cell.condition), cell.reason)
        counts[key] = counts.get(key, 0) + 1
    rows = [[*key, str(count)] for key, count in sorted(counts.items())]
    return Block("Failures by reason", "", ["model", "condition", "reason", "cells"], rows, folded=False)


def readings(report: ReportInput) -> Block:
    """Return who read the answers, by model and condition."""
    table = report.tables.get("readings")
    rows = []
    if table is not None:
        for row in table.itertuples(index=False):
            counts = [f"{getattr(row, name):,}" for name in READERS]
            rows.append([str(row.model), condition_name(str(row.condition)), *counts])
    columns = ["model", "condition", *(name.replace("_", " ") for name in READERS)]
    return Block("Who read the answers", "", columns, rows, folded=False)


def audit(report: ReportInput) -> Block:
    """Return the shares corrected by a complete audit of the reading."""
    table = report.tables.get("audit")
    rows = []
    for row in [] if table is None else table.to_dict("records"):
        shares = [f"{100 * row[name]:.1f}" for name in ("machine_value", "corrected_value")]
        ends = f"{100 * row['corrected_low']:.1f}–{100 * row['corrected_high']:.1f}"
        place = [str(row["model"]), condition_name(str(row["condition"])), str(row["metric"])]
        rows.append([*place, *shares, ends, f"{row['audited']:,}", f"{row['disagreements']:,}"])
    columns = ["model", "condition", "metric", "as read", "corrected", "95 % interval", "audited", "disagreements"]
    note = (
        "Persons read a random sample of the greedy answers without knowing what the machine read; per cent, corrected "
        "by where they disagreed. The interval holds the errors of the answers and of the reading."
    )
    return Block("Rates corrected by an audit of the reading", note, columns, rows, folded=False)


def cached(report: ReportInput) -> str:
    """Return how many cells took their answers from the generation cache: nothing that changed since shows in them."""
    if not report.cached_count:
        return "no cell: all were asked for this run"
    # A single cell that was asked for this run is not rounded away.
    share = "100" if report.cached_count == report.verdict_count else f"{min(_share(report), 99.9):.1f}"
    return f"{report.cached_count:,} of {plural(report.verdict_count, 'cell')} ({share} %), asked by an earlier run"


def _share(report: ReportInput) -> float:
    return 100 * report.cached_count / max(1, report.verdict_count)


def warnings(report: ReportInput) -> Block:
    """Return cells whose answers count though something was odd about them, by what it was."""
    rows = [[name, str(count)] for name, count in sorted(report.warnings.items())]
    return Block("Warnings", "", ["warning", "cells"], rows, folded=False)


def skips(report: ReportInput) -> Block:
    """Return what was skipped and why, questions of one reason together."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for skip in report.run.skips:
        grouped.setdefault((skip.model, skip.condition, skip.reason), []).append(skip.question_id)
    rows = [
        [model, condition_name(condition), "all questions" if "" in ids else plural(len(ids), "question"), reason]
        for (model, condition, reason), ids in grouped.items()
    ]
    return Block("Skipped", "", ["model", "condition", "what", "why"], rows, folded=False)


def policy(report: ReportInput) -> Block | None:
    """Return each requirement of the policy, judged; None where none was evaluated."""
    return None if report.policy is None else judgement(report.policy)


def judgement(judged: scoring_pb2.EvaluatePolicyResponse) -> Block:
    """Return each requirement of a policy, judged."""
    rows = []
    for result in judged.results:
        verdict = verdict_of(result).value.upper()
        where = condition_name(result.condition) if result.condition else NOTHING
        part = f"{where}, {result.slice} {result.slice_value}" if result.slice_value else where
        rows.append([
            demand_shown(result), result.model or NOTHING, part, result.regime or NOTHING, number(result, "value"),
            interval(result), decides(result), counted(result) or NOTHING,
            f"{verdict}: {result.reason}" if result.reason else verdict,
        ])  # fmt: skip
    columns = [
        "requirement", "model", "condition", "regime", "estimate", "interval", "decided by", "measured on", "verdict",
    ]  # fmt: skip
    return Block("Policy", "", columns, rows, folded=False)


def policy_finding(report: ReportInput) -> list[str]:
    """Return what the policy says in sentences: the verdict first, then what a reader of it must know."""
    return [] if report.policy is None else judgement_finding(report.policy)


def judgement_finding(judged: scoring_pb2.EvaluatePolicyResponse) -> list[str]:
    """Return what a judgement says in sentences, the verdict first."""
    shown = f"At a confidence of {100 * judged.confidence:g} %." if judged.confidence else ""
    return [summary(judged), *([shown] if shown else []), *judged.notes]
