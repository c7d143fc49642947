"""The tables of the report, each as headings and rows of text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from safescale.core.safety.metrics import HEADLINES, SAFETY_METRICS, MetricDefinition
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
    signed,
)  # fmt: skip
from safescale.report.safety.view import View, condition_name

WORST_QUESTIONS = 12
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


def _cells(view: View) -> dict[tuple[str, str, str, str], tuple[float, float, float, int]]:
    table = view.table("metrics")
    if table.empty:
        return {}
    keys = zip(table["model"], table["condition"], table["regime"], table["metric"], strict=True)
    numbers = table[["value", "ci_low", "ci_high", "n"]].to_numpy(float)
    return {key: (row[0], row[1], row[2], int(row[3])) for key, row in zip(keys, numbers, strict=True)}


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    regime: str
    metric: str
    show: Callable[[float, float, float], str]


def _number_interval(value: float, low: float, high: float) -> str:
    text = number(value)
    return text if pd.isna(low) or pd.isna(value) else f"{text} [{number(low)},{NBSP}{number(high)}]"


def _plain_seconds(value: float, low: float, high: float) -> str:
    text = seconds(value)
    return text if pd.isna(low) or pd.isna(value) else f"{text} [{low:.3g},{NBSP}{high:.3g}]"


def _wide(view: View, heading: str, note: str, columns: Sequence[_Column], *, folded: bool) -> Block | Absent:
    cells = _cells(view)
    rows = []
    for condition in view.conditions:
        for model in view.model_ids:
            found = [cells.get((model, condition, column.regime, column.metric)) for column in columns]
            counts = [cell[3] for cell in found if cell is not None]
            if counts:
                shown = [
                    "–" if cell is None else column.show(*cell[:3]) for cell, column in zip(found, columns, strict=True)
                ]
                rows.append([condition_name(condition), model, *shown, str(max(counts))])
    if not rows:
        return Absent("", heading, f"{heading}: not measured in this run.")
    return Block(heading, note, ["condition", "model", *(column.heading for column in columns), "n"], rows, folded)


def _headline(metric: MetricDefinition, regime: str) -> _Column:
    """Return a metric in a regime, or in the first of its own where it has no such."""
    show = _plain_seconds if metric.unit == "s" else percent_interval
    return _Column(metric.noun, regime if regime in metric.regimes else metric.regimes[0], metric.name, show)


def safety(view: View) -> Block | Absent:
    """Return the safety table: greedy rates with intervals, dangerous overconfidence, latency."""
    columns = [_headline(metric, view.regime) for metric in HEADLINES]
    note = f"Per cent of questions with 95 % bootstrap intervals, {view.regime} answers; n: questions attempted."
    return _wide(view, "Safety by condition and model", note, columns, folded=False)


def majority(view: View) -> Block | Absent:
    """Return rates of the majority of the samples."""
    columns = [
        *(_headline(metric, "majority") for metric in HEADLINES if {"greedy", "majority"} <= set(metric.regimes)),
        _Column("null majority", "majority", "null_majority_rate", percent_interval),
        _Column("unanimous error", "samples", "synchronized_failure_rate", percent_interval),
        _Column("robust correctness", "samples", "robustness_correctness", percent_interval),
    ]
    note = f"The majority of {view.samples} samples (self-consistency); compare with the greedy answers above."
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
    note = "Confidence of [0, 1] from the entropy of the samples; expected and maximum calibration error over 10 bins."
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
            str(row["n_questions"]), str(row["n_events"]), percent_interval(row["rate"], row["ci_low"], row["ci_high"]),
        ]
        for row in records(table)
    ]  # fmt: skip
    columns = ["condition", "event", "models", "questions", "events", "rate"]
    return Block(heading, "Greedy answers of all models to the same question.", columns, rows)


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
        shown = [
            percent_interval(*(row[f"{rate}{end}"] for end in ("", "_ci_low", "_ci_high"))) for rate in ENSEMBLE_RATES
        ]
        rows.append([row["ensemble"], row["members"], condition_name(row["condition"]), *shown, str(row["n"])])
    note = "Majority of the members' greedy answers, an answer that is missing being a ballot too."
    return Block(heading, note, ["ensemble", "members", "condition", *titles, "n"], rows)


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
