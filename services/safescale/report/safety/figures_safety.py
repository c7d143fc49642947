"""Figures of safety against accuracy: the safe deployment region and the metrics by condition."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt
import pandas as pd

from safescale.core.safety.metrics import HEADLINES
from safescale.core.safety.protocol import MAX_ERROR, MIN_ACCURACY
from safescale.report.figures import (
    FEW_MODELS,
    Absent,
    Figure,
    Layered,
    Words,
    base,
    drawn,
    layered,
    panels,
    records,
    row_axis,
    spread_out,
    title,
)
from safescale.report.safety.findings import (
    NBSP,
    in_region,
    percent,
    percent_interval,
    plural,
    sentence_case,
    share_text,
)
from safescale.report.safety.view import View, condition_name, names_of, with_names
from safescale.report.theme import GREEN, INK, mark_of

_WIDTH, _HEIGHT = 620, 430


@dataclass(frozen=True, slots=True)
class Panel:
    """A metric of the small multiples: its name, title and which way is good."""

    metric: str
    title: str
    good: str


_GOOD = {"higher": "higher is better", "lower": "lower is better", "none": ""}

PANELS: tuple[Panel, ...] = tuple(
    Panel(
        metric.name, sentence_case(metric.noun),
        "no answer given" if metric.name == "abstention_rate" else _GOOD[metric.direction],
    )
    for metric in HEADLINES
    if metric.unit == "1" and not metric.if_any
)  # fmt: skip


def panel_rows(view: View, panel: Panel) -> pd.DataFrame:
    """Return the metric's rows; abstention is counted from the nulls of accuracy where the tables do not have it."""
    rows = view.metric(panel.metric)
    if panel.metric != "abstention_rate" or not rows.empty:
        return rows
    rows = view.metric("accuracy")
    if rows.empty or "n_null" not in rows:
        return rows.iloc[:0]
    return rows.assign(value=rows["n_null"] / rows["n"], low=math.nan, high=math.nan, worst_high=math.nan)


def in_percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with value and interval in per cent."""
    return rows.assign(**{name: 100 * rows[name] for name in ("value", "low", "high", "worst_high")})


def region(view: View) -> Figure | Absent:
    """Return the figure of accuracy against high-risk error, the safe deployment region shaded."""
    heading = "Safe deployment region"
    table = in_region(view)
    if table.empty:
        return Absent("region", heading, "Not drawn: it needs accuracy and, from labelled options, high-risk errors.")
    frame = with_names(view, table)
    for column in ("value", "low", "high", "value_error", "low_error", "high_error", "worst_high_error"):
        frame[column] = 100 * frame[column]
    inside = frame[frame["inside"]]
    best = frame.sort_values(["value_error", "value"], ascending=[True, False]).iloc[0]
    finding = (
        f"{len(inside)} of {plural(len(frame), 'point')} lie in the region by their estimates, "
        f"{int(frame['surely'].sum())} with their whole intervals. The lowest high-risk error is "
        f"{percent(best['value_error'] / 100)} at {percent(best['value'] / 100)} accuracy "
        f"({best['model']}, {best['name']})."
    )
    many = len(view.model_ids) > 1
    caption = "Shaded: accuracy at least 90 % and high-risk error at most 5 %. " + (
        "Small marks are models, large outlined marks their means."
        if many
        else "Lines through a mark are exact 95 % intervals."
    )
    if (frame["worst_high_error"] > frame["high_error"]).any():
        caption += " Thin lines reach to where the error may lie if the answers that nobody could read hide it."
    caption += view.uneven
    data = pd.DataFrame(
        {
            "condition": frame["name"],
            "model": frame["model"],
            "accuracy": [percent_interval(*row) for row in table[["value", "low", "high"]].to_numpy()],
            "high-risk error": [share_text(row) for row in records(_of_error(table))],
            "in the region": [
                "whole interval" if surely else "estimate" if inside else "no"
                for surely, inside in zip(frame["surely"], frame["inside"], strict=True)
            ],
        }
    )
    return drawn(Words("region", heading, finding, caption), _region_chart(view, frame, many), data, view.formulation)


def _of_error(table: pd.DataFrame) -> pd.DataFrame:
    names = ("value", "low", "high", "worst_high", "n_unread")
    return pd.DataFrame({name: table[f"{name}_error"] for name in names})


def _region_chart(view: View, frame: pd.DataFrame, many: bool) -> alt.LayerChart:
    names = names_of(view)
    marks = [mark_of(condition) for condition in view.conditions]
    # Without many models the horizontal intervals must fit; with them only the marks are drawn.
    reach = float(frame["value_error" if many else "worst_high_error"].fillna(0).max())
    low = float(frame["value" if many else "low"].fillna(100).min())
    xs = alt.Scale(domain=[0, max(12.0, 5.0 * math.ceil((reach + 1) / 5))], nice=False)
    ys = alt.Scale(domain=[min(80.0, max(0.0, 10.0 * math.floor((low - 1) / 10))), 100], nice=False)
    x = alt.X("value_error:Q", scale=xs, title="high-risk error (% of questions)", axis=alt.Axis(tickCount=8))
    y = alt.Y("value:Q", scale=ys, title="accuracy (% of questions)")
    colour = alt.Color(
        "name:N", scale=alt.Scale(domain=names, range=[mark.colour for mark in marks]), title="condition",
        legend=alt.Legend(symbolSize=110),
    )  # fmt: skip
    shape = alt.Shape("name:N", scale=alt.Scale(domain=names, range=[mark.shape for mark in marks]), title="condition")
    zone = pd.DataFrame({"x": [0.0], "x2": [100 * MAX_ERROR], "y": [100 * MIN_ACCURACY], "y2": [100.0]})
    shade = base(zone, width=_WIDTH, height=_HEIGHT).mark_rect(
        color=GREEN, fillOpacity=0.14, stroke=GREEN, strokeDash=[5, 3], clip=True
    ).encode(x=alt.X("x:Q", scale=xs), x2="x2:Q", y=alt.Y("y:Q", scale=ys), y2="y2:Q")  # fmt: skip
    layers: list[alt.Chart] = [shade]
    if many:
        small = base(frame).mark_point(filled=True, size=46, opacity=0.5).encode(x=x, y=y, color=colour, shape=shape)
        means = frame.groupby("name", sort=False)[["value", "value_error"]].mean().reset_index()
        large = base(means).mark_point(filled=True, size=190, opacity=1, stroke=INK, strokeWidth=1.4)
        layers += [small, large.encode(x=x, y=y, color=colour, shape=shape)]
    else:
        means = frame
        across = base(frame).mark_rule(opacity=0.5, clip=True).encode(
            x=alt.X("low_error:Q", scale=xs), x2="high_error:Q", y=y, color=colour
        )  # fmt: skip
        beyond = base(frame).mark_rule(opacity=0.5, strokeDash=[2, 3], clip=True).encode(
            x=alt.X("high_error:Q", scale=xs), x2="worst_high_error:Q", y=y, color=colour
        )  # fmt: skip
        along = base(frame).mark_rule(opacity=0.5, clip=True).encode(
            y=alt.Y("low:Q", scale=ys), y2="high:Q", x=x, color=colour
        )  # fmt: skip
        marks_layer = (
            base(frame).mark_point(filled=True, size=150, opacity=1).encode(x=x, y=y, color=colour, shape=shape)
        )
        layers += [across, beyond, along, marks_layer]
    layers += _labels(means, xs.to_dict()["domain"], ys.to_dict()["domain"], (x, y))
    return layered(layers)


def _labels(
    means: pd.DataFrame, x_range: Sequence[float], y_range: Sequence[float], channels: tuple[alt.X, alt.Y]
) -> list[alt.Chart]:
    """Return names beside the marks where they cover no mark and no other name; the legend has the rest."""
    pixels = [
        (
            (x - x_range[0]) / (x_range[1] - x_range[0]) * _WIDTH,
            _HEIGHT - (y - y_range[0]) / (y_range[1] - y_range[0]) * _HEIGHT,
        )
        for x, y in zip(means["value_error"], means["value"], strict=True)
    ]
    placed = place_labels(pixels, list(means["name"]), _WIDTH)
    charts = []
    for (dx, dy, align), rows in placed.items():
        text = base(means.iloc[rows]).mark_text(align=align, dx=dx, dy=dy, fontSize=11, color=INK)
        charts.append(text.encode(x=channels[0], y=channels[1], text="name:N"))
    return charts


Align = Literal["left", "right", "center"]
Offset = tuple[int, int, Align]
_OFFSETS: tuple[Offset, ...] = (
    (10, -11, "left"), (10, 12, "left"), (-10, -11, "right"), (-10, 12, "right"),
    (12, 0, "left"), (-12, 0, "right"), (0, -16, "center"), (0, 17, "center"),
)  # fmt: skip


def place_labels(marks: Sequence[tuple[float, float]], names: Sequence[str], width: float) -> dict[Offset, list[int]]:
    """Return which names go to which side of their marks: rows by offset (dx, dy, alignment), all in pixels.

    A name that would cover a mark or another name, or leave the plot, on every side is left out.
    """
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in marks]
    placed: dict[Offset, list[int]] = {}
    for row, ((x, y), name) in enumerate(zip(marks, names, strict=True)):
        length = 6.6 * len(name)
        for offset in _OFFSETS:
            left = x + offset[0] - {"left": 0.0, "right": length, "center": length / 2}[offset[2]]
            box = (left, y + offset[1] - 7, left + length, y + offset[1] + 7)
            others = taken[:row] + taken[row + 1 :]
            if box[0] >= 0 and box[2] <= width and not any(_overlap(box, other) for other in others):
                placed.setdefault(offset, []).append(row)
                taken.append(box)
                break
    return placed


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def metric_bars(view: View) -> Figure | Absent:
    """Return the figure of accuracy and the errors by condition, a panel for each."""
    heading = "Metrics by condition"
    shown = [(panel, rows) for panel in PANELS if not (rows := panel_rows(view, panel)).empty]
    if not shown:
        return Absent("metrics", heading, "Not drawn: there are no metrics yet.")
    names = names_of(view)
    charts = [_bars(view, panel, rows, labels=number % 3 == 0) for number, (panel, rows) in enumerate(shown)]
    several = len(view.model_ids) > 1
    caption = f"Lines are exact 95 % intervals{view.clustered}. "
    if 1 < len(view.model_ids) <= FEW_MODELS:
        caption += f"Bars are means over the models; dots from top to bottom: {', '.join(view.model_ids)}. "
    elif several:
        caption = "Bars are means over the models, a tick is a model; each model's interval is in the tables. "
    if len(view.model_ids) <= FEW_MODELS and any((part["worst_high"] > part["high"]).any() for _, part in shown):
        caption += "Dotted lines reach to where harm may lie if the answers that nobody could read hide it. "
    rows = pd.concat([_texts(panel, part) for panel, part in shown], ignore_index=True)
    data = spread_out(rows, ["condition", "model"], "metric", "text")
    finding = _spread(view, shown, names)
    return drawn(
        Words("metrics", heading, finding, caption.strip() + view.uneven), panels(charts, 3), data, view.formulation
    )


def _texts(panel: Panel, rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "condition": rows["condition"].map(condition_name),
            "model": rows["model"],
            "metric": f"{panel.title.lower()} [95{NBSP}% interval]",
            "text": [share_text(row) for row in records(rows)],
        }
    )


def _spread(view: View, shown: Sequence[tuple[Panel, pd.DataFrame]], names: Sequence[str]) -> str:
    parts = []
    for panel, rows in shown:
        means = rows.groupby("condition", sort=False)["value"].mean()
        parts.append(
            f"{panel.title.lower()} from {percent(float(means.min()))} under "
            f"{condition_name(str(means.idxmin()))} to {percent(float(means.max()))} under "
            f"{condition_name(str(means.idxmax()))}"
            if means.max() > means.min()
            else f"{panel.title.lower()} {percent(float(means.max()))} throughout"
        )
    over = f", means over {len(view.model_ids)} models" if len(view.model_ids) > 1 else ""
    return f"Over {plural(len(names), 'condition')}{over}: {'; '.join(parts)}."


def _bars(view: View, panel: Panel, rows: pd.DataFrame, *, labels: bool) -> Layered:
    frame = with_names(view, in_percent(rows))
    names = names_of(view)
    count = len(view.model_ids)
    top = 100.0 if panel.metric == "accuracy" else max(10.0, float(frame[["value", "worst_high"]].max().max()) * 1.02)
    x = alt.X(
        "value:Q", scale=alt.Scale(domain=[0, top], nice=True), title="% of questions", axis=alt.Axis(tickCount=5)
    )
    y = row_axis(names, labels=labels)
    height = len(names) * (max(24, 6 * count + 8) if count <= FEW_MODELS else 28)
    means = frame.groupby("name", sort=False)["value"].mean().reset_index()
    fill = "#A9CBE2" if panel.metric == "accuracy" else "#E7BE9F"
    bars = base(means, width=205, height=height, title=title(panel.title, panel.good)).mark_bar(color=fill)
    layers: list[alt.Chart] = [bars.encode(x=x, y=y)]
    if count == 1:
        layers += [
            base(frame).mark_rule(color=INK, strokeWidth=1.6).encode(x=alt.X("low:Q"), x2="high:Q", y=y),
            base(frame).mark_rule(color=INK, strokeDash=[2, 3]).encode(x=alt.X("high:Q"), x2="worst_high:Q", y=y),
            base(frame).mark_point(filled=True, color=INK, size=30, opacity=1).encode(x=x, y=y),
        ]
    elif count <= FEW_MODELS:
        sub = alt.YOffset("rank:O", scale=alt.Scale(domain=list(range(count)), paddingOuter=0.6))
        layers += [
            base(frame).mark_rule(color=INK, opacity=0.65).encode(x=alt.X("low:Q"), x2="high:Q", y=y, yOffset=sub),
            base(frame)
            .mark_rule(color=INK, opacity=0.65, strokeDash=[2, 3])
            .encode(x=alt.X("high:Q"), x2="worst_high:Q", y=y, yOffset=sub),
            base(frame).mark_point(filled=True, color=INK, size=14, opacity=1).encode(x=x, y=y, yOffset=sub),
        ]
    else:
        layers.append(base(frame).mark_tick(color=INK, thickness=1.2, opacity=0.6).encode(x=x, y=y))
    return layered(layers)
