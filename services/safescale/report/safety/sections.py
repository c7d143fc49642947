"""The tables of the report, each as headings and rows of text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from safescale.core.safety.metrics import COMPARED, HEADLINES, METRICS, SAFETY_METRICS, MetricDefinition
from safescale.core.safety.protocol import ENSEMBLE_RATES
from safescale.report.figures import Absent, records
from safescale.report.safety.figures_questions import outcomes
from safescale.report.safety.findings import (
    NBSP,
    first_regime,
    left_out,
    number,
    p_text,
    percent,
    percent_interval,
    plural,
    points,
    seconds,
    sentence_case,
    share_text,
    signed,
)  # fmt: skip
from safescale.report.safety.view import View, condition_name, with_interval

WORST_QUESTIONS = 12
SLICES_SHOWN = 200
SYNCHRONIZED = "synchronized_failure_rate"


@dataclass(frozen=True)
class Block:
    """A table of text: `note` says how to read it; `folded` ones open on a click."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = True


def block_of(frame: pd.DataFrame, heading: str = "", note: str = "") -> Block:
    """Return a folded table of a frame whose cells are text or counts."""
    return Block(heading, note, [str(column) for column in frame.columns], frame.astype(str).to_numpy().tolist())


def view_blocks(view: View) -> list[Block | Absent]:
    """Return the tables of one formulation."""
    return [
        safety(view),
        slices(view),
        majority(view),
        consistency(view),
        tests(view),
        worst_questions(view),
        concentration(view),
        synchronized(view),
        ensembles(view),
        scaling(view),
        decomposition(view),
    ]


def _cells(view: View) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    table = view.table("metrics")
    if table.empty:
        return {}
    keys = zip(table["model"], table["condition"], table["regime"], table["metric"], strict=True)
    numbers = with_interval(table)[["value", "low", "high", "worst_high", "n", "n_unread"]]
    return dict(zip(keys, records(numbers), strict=True))


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    regime: str
    metric: str
    show: Callable[[Mapping[str, Any]], str]


def _number_interval(row: Mapping[str, Any]) -> str:
    text, (low, high) = number(row["value"]), (row["low"], row["high"])
    return text if pd.isna(low) or pd.isna(row["value"]) else f"{text} [{number(low)},{NBSP}{number(high)}]"


def _plain_seconds(row: Mapping[str, Any]) -> str:
    text, (low, high) = seconds(row["value"]), (row["low"], row["high"])
    return text if pd.isna(low) or pd.isna(row["value"]) else f"{text} [{low:.3g},{NBSP}{high:.3g}]"


def _wide(view: View, heading: str, note: str, columns: Sequence[_Column], *, folded: bool) -> Block | Absent:
    cells = _cells(view)
    rows = []
    for condition in view.conditions:
        for model in view.model_ids:
            found = [cells.get((model, condition, column.regime, column.metric)) for column in columns]
            counts = [int(cell["n"]) for cell in found if cell is not None]
            if counts:
                shown = [
                    "–" if cell is None else column.show(cell) for cell, column in zip(found, columns, strict=True)
                ]
                rows.append([condition_name(condition), model, *shown, str(max(counts))])
    if not rows:
        return Absent("", heading, f"{heading}: not measured in this run.")
    return Block(heading, note, ["condition", "model", *(column.heading for column in columns), "n"], rows, folded)


def _headline(metric: MetricDefinition, regime: str) -> _Column:
    """Return a metric in a regime, or in the first of its own where it has no such."""
    show = _plain_seconds if metric.unit == "s" else share_text
    return _Column(metric.noun, regime if regime in metric.regimes else metric.regimes[0], metric.name, show)


def safety(view: View) -> Block | Absent:
    """Return the safety table: greedy rates with intervals, dangerous overconfidence, latency."""
    columns = [_headline(metric, view.regime) for metric in HEADLINES if view.shows(metric)]
    note = (
        f"Per cent of questions with exact 95 % intervals{view.clustered}; of seconds a bootstrap. "
        f"{sentence_case(view.regime)} answers; n: questions attempted."
    )
    return _wide(view, "Safety by condition and model", note, columns, folded=False)


def slices(view: View) -> Block | Absent:
    """Return accuracy and harm by subspecialty, question type and group, those with most high-risk errors first."""
    heading, table = "Slices", view.table("slices")
    if table.empty:
        return Absent("", heading, f"{heading}: the questions have no subspecialty, type or group.")
    columns = [_headline(metric, view.regime) for metric in METRICS if metric.name in COMPARED]
    keys = ["slice", "slice_value", "condition", "model"]
    found: dict[tuple[str, ...], dict[tuple[str, str], dict[str, Any]]] = {}
    for row in records(with_interval(table)):
        found.setdefault(tuple(row[key] for key in keys), {})[row["regime"], row["metric"]] = row
    worst = (view.regime, SAFETY_METRICS[0])
    order = sorted(found, key=lambda key: -found[key].get(worst, {"value": 0.0})["value"])
    rows = []
    for key in order[:SLICES_SHOWN]:
        cells = [found[key].get((column.regime, column.metric)) for column in columns]
        shown = ["–" if cell is None else column.show(cell) for cell, column in zip(cells, columns, strict=True)]
        risk = found[key].get(worst)
        adjusted = "–" if risk is None else p_text(risk["p_holm"])
        count = str(max(int(cell["n"]) for cell in cells if cell is not None))
        rows.append([key[0], key[1], condition_name(key[2]), key[3], *shown, adjusted, count])
    cut = f" The first {len(rows)} of {len(order):,}; the table slices has all." if len(order) > len(rows) else ""
    note = (
        f"Most high-risk errors first, with exact 95 % intervals{view.clustered}. Holm: Fisher's test of high-risk "
        "errors against the other questions, adjusted over the values and conditions of a slice; few questions show "
        f"little.{cut}"
    )
    headings = ["slice", "value", "condition", "model", *(column.heading for column in columns), "Holm", "n"]
    return Block(heading, note, headings, rows)


def majority(view: View) -> Block | Absent:
    """Return rates of the majority of the samples."""
    columns = [
        *(_headline(metric, "majority") for metric in HEADLINES if {"greedy", "majority"} <= set(metric.regimes)),
        _Column("null majority", "majority", "null_majority_rate", share_text),
        _Column("unanimous error", "samples", "synchronized_failure_rate", share_text),
        _Column("robust correctness", "samples", "robustness_correctness", share_text),
    ]
    note = (
        f"The majority of {view.samples} samples (self-consistency); compare with the greedy answers above. Exact 95 % "
        f"intervals{view.clustered}; of robust correctness, a mean, a bootstrap."
    )
    return _wide(view, "Majority of the samples", note, columns, folded=True)


def consistency(view: View) -> Block | Absent:
    """Return confidence and calibration."""
    columns = [
        _Column("mean confidence", "samples", "mean_confidence", _number_interval),
        _Column("where right", "majority", "mean_confidence_correct", _number_interval),
        _Column("where not right", "majority", "mean_confidence_incorrect", _number_interval),
        _Column("where high-risk", "majority", "mean_confidence_high_risk_error", _number_interval),
        _Column("where unsafe", "majority", "mean_confidence_unsafe_error", _number_interval),
        _Column("agreement", "samples", "mean_agreement", _number_interval),
        _Column("ECE", "majority", "ece", _number_interval),
        _Column("MCE", "majority", "mce", _number_interval),
    ]
    note = (
        "Confidence of [0, 1] from the entropy of the samples; expected and maximum calibration error over 10 bins. "
        "95 % bootstrap intervals."
    )
    return _wide(view, "Confidence and calibration", note, columns, folded=True)


def tests(view: View) -> Block | Absent:
    """Return exact McNemar tests of accuracy."""
    heading = "Paired tests of accuracy"
    table = view.table("pvalues")
    if table.empty:
        return Absent("", heading, f"{heading}: no two conditions of the tested pairs were both asked.")
    rows = [
        [
            row["model"], row["regime"], condition_name(row["left"]), condition_name(row["right"]),
            percent(row["accuracy_left"]), percent(row["accuracy_right"]), points(row["delta"]),
            str(row["n_left_only"]), str(row["n_right_only"]), p_text(row["p_value"]), p_text(row["p_holm"]),
        ]
        for row in records(table)
    ]  # fmt: skip
    columns = [
        "model", "regime", "left", "right", "accuracy left", "accuracy right", "difference", "only left right",
        "only right right", "McNemar p", "Holm",
    ]  # fmt: skip
    note = "Only left right: questions that only the left condition got right, and so for the right one."
    return Block(heading, note, columns, rows)


def worst_questions(view: View) -> Block | Absent:
    """Return the questions with most high-risk errors: text, truth, what was chosen most and its labels."""
    heading = "Worst questions"
    if view.answers.empty:
        return Absent("", heading, f"{heading}: there are no answers yet.")
    cells = outcomes(view.answers)
    wrong = cells[~cells["correct"].astype(bool) & cells["greedy_letter"].notna() & (cells["greedy_letter"] != "")]
    if wrong.empty:
        return Absent("", heading, f"{heading}: every answer that was given is correct.")
    counts = wrong.groupby("question_id").agg(high=("high_risk_error", "sum"), wrong=("correct", "size"))
    counts = counts.sort_index().sort_values(["high", "wrong"], ascending=False, kind="stable")
    asked = cells.groupby("question_id").size()
    rows = []
    for question_id, high, missed in counts.head(WORST_QUESTIONS).reset_index().to_numpy().tolist():
        letters = wrong.loc[wrong["question_id"] == question_id, "greedy_letter"].value_counts()
        letter = str(min(letters[letters == letters.max()].index))
        rows.append(_worst(view, str(question_id), letter, [int(high), int(missed), int(asked[question_id])]))
    columns = [
        "question",
        "text",
        "correct option",
        "most chosen wrong option",
        "its labels",
        "high-risk",
        "wrong",
        "asked",
    ]
    note = (
        f"The {plural(len(rows), 'question')} with most high-risk errors, then most wrong answers, over all models and "
        f"conditions ({view.regime} answers)."
    )
    return Block(heading, note, columns, rows, folded=False)


def _worst(view: View, question_id: str, letter: str, counts: Sequence[int]) -> list[str]:
    question = view.questions.get(question_id)
    if question is None:
        return [question_id, "", "", letter, "", *map(str, counts)]
    labels = question.labels.get(letter)
    flags = {"high-risk": "high_risk", "unsafe": "unsafe", "contradicts the evidence": "contradicts"}
    told = [name for name, flag in flags.items() if labels is not None and getattr(labels, flag)]
    about = f"{question_id} ({question.subspecialty})" if question.subspecialty else question_id
    right = f"{question.correct_answer}. {question.options.get(question.correct_answer, '')}"
    chosen = f"{letter}. {question.options.get(letter, '')}"
    named = ", ".join(told) or ("none" if labels is not None else "not labelled")
    return [about, question.text, right, chosen, named, *map(str, counts)]


def concentration(view: View) -> Block | Absent:
    """Return how few questions carry half of the errors of each kind."""
    heading = "Concentration of errors"
    table = view.table("concentration")
    if table.empty:
        return Absent("", heading, f"{heading}: not computed for this run.")
    rows = [
        [
            condition_name(row["condition"]), row["error"].replace("_", " "), str(row["n_questions"]),
            str(row["n_errors"]), str(row["n_questions_with_error"]), str(row["n_questions_half"]), number(row["gini"]),
            row["worst_question"],
        ]
        for row in records(table)
    ]  # fmt: skip
    columns = [
        "condition",
        "error",
        "questions",
        "errors",
        "questions with any",
        "questions with half",
        "Gini",
        "worst",
    ]
    return Block(heading, "Questions with half: the fewest that carry half of all errors of the kind.", columns, rows)


def synchronized(view: View) -> Block | Absent:
    """Return how often the models fail in unison."""
    heading = "Failures in unison"
    table = view.table("synchronized")
    if table.empty:
        return Absent("", heading, f"{heading}: it needs at least two models.")
    rows = [
        [
            condition_name(row["condition"]), row["event"].replace("_", " "), str(row["n_models"]),
            str(row["n_questions"]), str(row["n_events"]), percent_interval(row["rate"], *_ends(row, "")),
            str(row.get("n_unread", "–")),
        ]
        for row in records(table)
    ]  # fmt: skip
    columns = ["condition", "event", "models", "questions", "events", "rate", "unread"]
    note = (
        f"Greedy answers of all models to the same question, with exact 95 % intervals{view.clustered}. Unread: "
        "questions of which nobody could read an answer; what it says is not known."
    )
    return Block(heading, note, columns, rows)


def _ends(row: Mapping[str, Any], prefix: str) -> tuple[float, float]:
    """Return the exact interval of a row; that of the bootstrap where an older scoring service sent no other."""
    kind = "exact" if f"{prefix}exact_low" in row else "ci"
    return row[f"{prefix}{kind}_low"], row[f"{prefix}{kind}_high"]


def ensembles(view: View) -> Block | Absent:
    """Return votes of different models."""
    heading = "Ensembles"
    table = view.table("ensembles")
    if table.empty:
        return Absent("", heading, f"{heading}: none was voted (all its members must be models of the run).")
    nouns = {metric.name: metric.noun for metric in HEADLINES} | {SYNCHRONIZED: "all the same wrong letter"}
    titles = [nouns[rate] for rate in ENSEMBLE_RATES]
    rows = []
    for row in records(table):
        shown = [percent_interval(row[rate], *_ends(row, f"{rate}_")) for rate in ENSEMBLE_RATES]
        counts = [str(row["n"]), str(row.get("n_unread", "–"))]
        rows.append([row["ensemble"], row["members"], condition_name(row["condition"]), *shown, *counts])
    note = (
        "Majority of the members' greedy answers, an answer that is missing being a ballot too, with exact 95 % "
        f"intervals{view.clustered}. Unread: questions on which nobody could read a member."
    )
    return Block(heading, note, ["ensemble", "members", "condition", *titles, "n", "unread"], rows)


def scaling(view: View) -> Block | Absent:
    """Return slopes per tenfold of parameters."""
    heading = "Scaling slopes"
    table = view.table("scaling")
    if not table.empty:
        table = table[table["metric"].isin(["accuracy", *SAFETY_METRICS])]
    if table.empty:
        reason = f"{heading}: they need at least two models of different size.{left_out(view)}"
        return Absent("", heading, reason)
    parts = [first_regime(table[table["metric"] == metric]) for metric in table["metric"].unique()]
    rows = [
        [
            row["family"], condition_name(row["condition"]), row["metric"], str(row["n_models"]),
            _slope(row["slope_per_decade"], row["ci_low"], row["ci_high"]), p_text(row["p_value"]),
            _slope(row["gap_to_accuracy"], row["gap_ci_low"], row["gap_ci_high"]), p_text(row["gap_p_value"]),
        ]
        for part in parts
        for row in records(part)
    ]  # fmt: skip
    columns = ["family", "condition", "metric", "models", "per tenfold", "p", "safety minus accuracy", "p of that"]
    note = (
        "Percentage points per tenfold of parameters with the 95 % t interval (none from two models). Safety minus "
        f"accuracy: above 0, safety improves faster with size than accuracy does.{left_out(view)}"
    )
    return Block(heading, note, columns, rows)


def _slope(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return "–"
    bounds = "" if pd.isna(low) else f" [{100 * low:.1f},{NBSP}{100 * high:.1f}]"
    return signed(f"{points(value)}{bounds}")


def decomposition(view: View) -> Block | Absent:
    """Return what explains the variance of each metric."""
    heading = "What explains the variance"
    table = view.table("decomposition")
    if not table.empty:
        table = table[table["metric"].isin(["accuracy", *SAFETY_METRICS]) & (table["n_families"] > 1)]
    if table.empty:
        return Absent("", heading, f"{heading}: it needs models of at least two families.")
    shares = ("share_condition", "share_family", "share_interaction", "share_residual")
    rows = [
        [row["metric"], row["regime"], *(percent(row[share]) for share in shares), str(row["n_cells"])]
        for row in records(table)
    ]
    columns = ["metric", "regime", "condition", "family", "interaction", "residual", "cells"]
    note = (
        "Two-way shares of the sum of squares over model and condition; residual: models of a family under a condition."
    )
    return Block(heading, note, columns, rows)
