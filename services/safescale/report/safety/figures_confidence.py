"""Figures of confidence: calibration, and the confidence of right against dangerous answers."""

import math

import altair as alt
import pandas as pd

from safescale.core.safety.protocol import OVERCONFIDENT
from safescale.report.figures import (
    Absent,
    Figure,
    Layered,
    Words,
    base,
    drawn,
    layered,
    panels,
    row_axis,
    title,
)
from safescale.report.safety.findings import number
from safescale.report.safety.view import View, condition_name, names_of
from safescale.report.theme import BAR, BLUE, GREY, INK, VERMILLION

FEW_POINTS = 1500
NO_SAMPLES = "Not drawn: confidence is the agreement among samples, and this run asked none."

KINDS = ("right", "other wrong", "dangerous")
_KIND_COLOURS = (BLUE, GREY, VERMILLION)
_KIND_SHAPES = ("circle", "cross", "triangle-up")


def calibration(view: View) -> Figure | Absent:
    """Return how often the majority is right at each level of confidence, a panel for each condition."""
    heading = "Calibration"
    table = view.table("calibration")
    if table.empty or not table["n"].sum():
        return Absent("calibration", heading, NO_SAMPLES)
    filled = table[table["n"] > 0]
    sums = filled.assign(c=filled["mean_confidence"] * filled["n"], a=filled["accuracy"] * filled["n"])
    bins = sums.groupby(["condition", "bin_low", "bin_high"])[["n", "c", "a"]].sum().reset_index()
    bins = bins.assign(confidence=bins["c"] / bins["n"], accuracy=bins["a"] / bins["n"])
    present = [condition for condition in view.conditions if condition in set(bins["condition"])]
    errors = {condition: view.mean("ece", condition) for condition in present}
    charts = [
        _reliability(bins[bins["condition"] == name], title(condition_name(name), f"ECE {number(errors[name])}"))
        for name in present
    ]
    worst = max(present, key=lambda name: errors[name] if math.isfinite(errors[name]) else -1.0)
    best = min(present, key=lambda name: errors[name] if math.isfinite(errors[name]) else 2.0)
    mean = f" (means over {len(view.model_ids)} models)" if len(view.model_ids) > 1 else ""
    finding = (
        f"Expected calibration error{mean} was {number(errors[best])} at best, under {condition_name(best)}, and "
        f"{number(errors[worst])} at worst, under {condition_name(worst)}."
    )
    caption = (
        "On the dashed line confidence equals accuracy; below it the model is overconfident. A mark is a bin of "
        "confidence, its area the number of answers in it"
        + (", all models together." if len(view.model_ids) > 1 else ".")
    )
    data = pd.DataFrame(
        {
            "condition": bins["condition"].map(condition_name),
            "confidence from": bins["bin_low"].map(lambda value: f"{value:.1f}"),
            "to": bins["bin_high"].map(lambda value: f"{value:.1f}"),
            "answers": bins["n"],
            "mean confidence": bins["confidence"].map(number),
            "accuracy": bins["accuracy"].map(number),
        }
    )
    order = {condition_name(name): rank for rank, name in enumerate(present)}
    data = data.sort_values(["condition"], key=lambda column: column.map(order), kind="stable")
    return drawn(Words("calibration", heading, finding, caption), panels(charts, 4), data, view.formulation)


def _reliability(bins: pd.DataFrame, heading: alt.TitleParams) -> Layered:
    unit = alt.Scale(domain=[0, 1])
    ticks = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1.0], format=".2~f")
    x = alt.X("confidence:Q", scale=unit, title="confidence", axis=ticks)
    y = alt.Y("accuracy:Q", scale=unit, title="accuracy", axis=ticks)
    ends = pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]})
    diagonal = base(ends, width=165, height=165, title=heading).mark_line(color=GREY, strokeDash=[5, 4])
    line = base(bins).mark_line(color=BLUE, strokeWidth=1.5)
    size = alt.Size("n:Q", scale=alt.Scale(range=[20, 260]), legend=None)
    marks = base(bins).mark_point(filled=True, color=BLUE, opacity=0.85)
    return layered(
        [diagonal.encode(x=x, y=y), line.encode(x=x, y=y, order="bin_low:Q"), marks.encode(x=x, y=y, size=size)]
    )


def _classified(view: View) -> pd.DataFrame:
    """Return confidence per cell with its kind: right, dangerous (high-risk or unsafe), other wrong; nulls left out."""
    table = view.table("confidence")
    if table.empty:
        return table
    answered = table[table["majority"].notna() & (table["majority"] != "") & table["confidence"].notna()]
    dangerous = {
        (question.question_id, letter)
        for question in view.questions.values()
        for letter, labels in question.labels.items()
        if labels.high_risk or labels.unsafe
    }
    kinds = [
        "right" if right else "dangerous" if pair in dangerous else "other wrong"
        for right, pair in zip(
            answered["majority_correct"], zip(answered["question_id"], answered["majority"], strict=True), strict=True
        )
    ]
    return answered.assign(kind=kinds)


def confidence(view: View) -> Figure | Absent:
    """Return the figure of the confidence of right, other wrong and dangerous majority answers by condition."""
    heading = "Confidence of right and of dangerous answers"
    cells = _classified(view)
    if cells.empty:
        return Absent("confidence", heading, NO_SAMPLES)
    cells = cells.assign(name=cells["condition"].map(condition_name))
    boxes = five_numbers(cells, "confidence", ["name", "kind"])
    of_kind = {kind: cells.loc[cells["kind"] == kind, "confidence"] for kind in KINDS}
    told = [
        f"{number(float(values.mean()), 2)} for the {len(values):,} {kind} answers"
        for kind, values in of_kind.items()
        if len(values)
    ]
    wrong = cells[cells["kind"] == "dangerous"]
    sure = int((wrong["confidence"] >= OVERCONFIDENT).sum())
    finding = f"Mean confidence was {', '.join(told)}." + (
        f" {sure} of the {len(wrong)} dangerous answers had a confidence of 0.8 or more." if len(wrong) else ""
    )
    caption = (
        "Dangerous: the majority's wrong option is high-risk or unsafe. Boxes span the middle half, the bar is the "
        "median, whiskers reach the extremes; the dashed line is 0.8, from which danger counts as overconfident."
    )
    data = pd.DataFrame(
        {"condition": boxes["name"], "answer": boxes["kind"], "answers": boxes["n"]}
        | {
            column: boxes[column].map(lambda value: number(value, 2))
            for column in ("low", "q1", "median", "q3", "high")
        }
    ).rename(columns={"low": "lowest", "q1": "quartile 1", "q3": "quartile 3", "high": "highest"})
    chart = _confidence_chart(names_of(view), cells, boxes)
    return drawn(Words("confidence", heading, finding, caption), chart, data, view.formulation)


def five_numbers(frame: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    """Return extremes, quartiles, median and count of a column for each group, in the order of first appearance."""
    grouped = frame.groupby(keys, sort=False)[column]
    return grouped.agg(
        low="min",
        q1=lambda values: values.quantile(0.25),
        median="median",
        q3=lambda values: values.quantile(0.75),
        high="max",
        n="size",
    ).reset_index()


def _confidence_chart(names: list[str], cells: pd.DataFrame, boxes: pd.DataFrame) -> alt.LayerChart:
    x = alt.Scale(domain=[0, 1])
    y = row_axis(names)
    offset = alt.YOffset(
        "kind:N", sort=list(KINDS), scale=alt.Scale(domain=list(KINDS), paddingInner=0.25, paddingOuter=0.4)
    )
    colour = alt.Color(
        "kind:N", scale=alt.Scale(domain=list(KINDS), range=list(_KIND_COLOURS)), title="majority answer"
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=list(KINDS), range=list(_KIND_SHAPES)), title="majority answer")
    height = 62 * len(names)
    limit = base(pd.DataFrame({"x": [OVERCONFIDENT]}), width=640, height=height)
    axis = alt.X("x:Q", scale=x, title="self-consistency confidence")
    layers: list[alt.Chart] = [limit.mark_rule(color=INK, strokeDash=[4, 4]).encode(x=axis)]
    layers += [
        base(boxes).mark_rule(strokeWidth=1.2).encode(
            x=alt.X("low:Q", scale=x), x2="high:Q", y=y, yOffset=offset, color=colour
        ),
        base(boxes).mark_bar(opacity=0.35).encode(
            x=alt.X("q1:Q", scale=x), x2="q3:Q", y=y, yOffset=offset, color=colour
        ),
        base(boxes).mark_point(shape=BAR, color=INK, size=150, strokeWidth=2.4, opacity=1).encode(
            x=alt.X("median:Q", scale=x), y=y, yOffset=offset
        ),
    ]  # fmt: skip
    if len(cells) <= FEW_POINTS:
        points = base(cells).mark_point(filled=True, size=16, opacity=0.5)
        layers.append(points.encode(x=alt.X("confidence:Q", scale=x), y=y, yOffset=offset, color=colour, shape=shape))
    else:
        middles = base(boxes).mark_point(filled=True, size=45, opacity=1)
        layers.append(middles.encode(x=alt.X("median:Q", scale=x), y=y, yOffset=offset, color=colour, shape=shape))
    return layered(layers)
