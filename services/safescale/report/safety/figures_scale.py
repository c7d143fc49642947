"""Figures of cost and size: latency by condition, and metrics against the number of parameters."""

import math

import altair as alt
import pandas as pd

from safescale.core.safety.protocol import ALL_FAMILIES
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
    spread_out,
    title,
)
from safescale.report.safety.figures_confidence import FEW_POINTS, five_numbers
from safescale.report.safety.findings import first_regime, left_out, percent, seconds, signed
from safescale.report.safety.view import View, condition_name, names_of
from safescale.report.theme import BLUE, INK, VERMILLION

Fit = tuple[float, float]
LOG_BILLION = 9.0
"""The lines are fitted over log10 of the parameters; the axis counts billions."""

_SERIES = (
    ("accuracy", "accuracy", BLUE, "circle"),
    ("high_risk_error_rate", "high-risk error", VERMILLION, "triangle-up"),
)


def latency(view: View) -> Figure | Absent:
    """Return the figure of seconds of the greedy call by condition, on a logarithmic axis."""
    heading = "Latency by condition"
    if view.latency.empty or not (view.latency["greedy_s"] > 0).any():
        return Absent("latency", heading, "Not drawn: no greedy call was timed.")
    cells = view.latency[view.latency["greedy_s"] > 0]
    order = {condition: rank for rank, condition in enumerate(view.conditions)}
    cells = cells.assign(name=cells["condition"].map(condition_name), c=cells["condition"].map(order))
    cells = cells.sort_values(["c", "model"], kind="stable")
    boxes = five_numbers(cells, "greedy_s", ["name"])
    by_speed = boxes.sort_values("median", kind="stable")
    fast, slow = by_speed.iloc[0], by_speed.iloc[-1]
    finding = (
        f"The median greedy call took {seconds(fast['median'])} under {fast['name']} and {seconds(slow['median'])} "
        f"under {slow['name']}; the slowest of all {seconds(float(boxes['high'].max()))}."
    )
    caption = (
        "Seconds of the greedy call alone: no waiting, no retries. Boxes span the middle half, the bar is the median, "
        "whiskers reach the extremes; the axis is logarithmic. Answers taken from the cache keep the time they took."
    )
    if len(view.model_ids) > 1:
        caption += " All models together; each model's times are in the table."
    detail = five_numbers(cells, "greedy_s", ["name", "model"])
    waits = (
        cells.groupby(["name", "model"], sort=False)[["queue_wait_s", "time_to_first_token_s"]].median().reset_index()
    )
    detail = detail.merge(waits, on=["name", "model"], how="left")
    data = pd.DataFrame(
        {"condition": detail["name"], "model": detail["model"], "calls": detail["n"]}
        | {
            heading: detail[column].map(lambda value: seconds(float(value)))
            for column, heading in (
                ("low", "fastest"), ("q1", "quartile 1"), ("median", "median"), ("q3", "quartile 3"),
                ("high", "slowest"), ("time_to_first_token_s", "median first token"), ("queue_wait_s", "median wait"),
            )
        }
    )  # fmt: skip
    chart = _latency_chart(names_of(view), cells, boxes)
    return drawn(Words("latency", heading, finding, caption), chart, data, view.formulation)


def _latency_chart(names: list[str], cells: pd.DataFrame, boxes: pd.DataFrame) -> alt.LayerChart:
    low, high = float(boxes["low"].min()), float(boxes["high"].max())
    scale = alt.Scale(type="log", domain=[low / 1.15, high * 1.15], nice=False)
    axis = alt.Axis(tickCount=6, format="~g")
    y = row_axis(names)
    whisker = base(boxes, width=640, height=36 * len(names)).mark_rule(color=INK)
    layers: list[alt.Chart] = [
        whisker.encode(x=alt.X("low:Q", scale=scale, axis=axis, title="seconds (log scale)"), x2="high:Q", y=y),
        base(boxes).mark_bar(color="#A9CBE2", height=20, stroke=INK, strokeWidth=0.8).encode(
            x=alt.X("q1:Q", scale=scale), x2="q3:Q", y=y
        ),
        base(boxes).mark_tick(color=INK, thickness=2.5, height=20).encode(x=alt.X("median:Q", scale=scale), y=y),
    ]  # fmt: skip
    if len(cells) <= FEW_POINTS:
        dots = base(cells).mark_point(color=INK, size=12, opacity=0.35, strokeWidth=0.8, yOffset=14)
        layers.append(dots.encode(x=alt.X("greedy_s:Q", scale=scale), y=y))
    return layered(layers)


def scaling(view: View) -> Figure | Absent:
    """Return the figure of accuracy and high-risk error by the number of parameters, a panel for each condition."""
    heading = "Scaling with model size"
    sizes = {model.id: model.parameters_b for model in view.models if model.parameters_b > 0}
    if len(set(sizes.values())) < 2:
        reason = (
            "Not drawn: a trend with size needs at least two models of different size; this run has "
            f"{len(set(sizes.values()))}.{left_out(view)}"
        )
        return Absent("scaling", heading, reason)
    families = {model.id: model.family for model in view.models}
    parts = [
        rows.assign(series=name)
        for metric, name, _, _ in _SERIES
        if not (rows := view.metric(metric)[lambda frame: frame["model"].isin(list(sizes))]).empty
    ]
    if not parts:
        return Absent("scaling", heading, "Not drawn: there are no metrics yet.")
    frame = pd.concat(parts, ignore_index=True)
    frame = frame.assign(
        size=frame["model"].map(sizes), value=100 * frame["value"], family=frame["model"].map(families),
        order=frame["model"].map(sizes).rank(method="dense"),
    )  # fmt: skip
    present = [condition for condition in view.conditions if condition in set(frame["condition"])]
    fits = {(name, series): _fit(view, name, metric) for name in present for metric, series, _, _ in _SERIES}
    charts = [_scaling_panel(frame, name, fits, legend=place == 0) for place, name in enumerate(present)]
    slopes = [
        f"{condition_name(name)} {_slope(fits[name, 'accuracy'])} and {_slope(fits[name, 'high-risk error'])}"
        for name in present
    ]
    finding = f"Change per tenfold of parameters, accuracy and high-risk error: {'; '.join(slopes)}."
    caption = (
        f"A mark is one of {len(sizes)} models, the line a least-squares fit over all families; the axis of size is "
        "logarithmic. Slopes with intervals, and whether safety's slope differs from accuracy's, are in the tables."
        f"{left_out(view)}"
    )
    texts = pd.DataFrame(
        {
            "condition": frame["condition"].map(condition_name), "model": frame["model"], "family": frame["family"],
            "billions": frame["size"].map(lambda value: f"{value:g}"), "metric": frame["series"],
            "text": (frame["value"] / 100).map(percent),
        }
    )  # fmt: skip
    data = spread_out(texts, ["condition", "model", "family", "billions"], "metric", "text")
    return drawn(Words("scaling", heading, finding, caption), panels(charts, 4), data, view.formulation)


def _fit(view: View, condition: str, metric: str) -> Fit | None:
    """Return slope per tenfold and value at one billion parameters, in per cent, of the line over all families."""
    table = view.table("scaling")
    if table.empty:
        return None
    rows = first_regime(
        table[(table["family"] == ALL_FAMILIES) & (table["condition"] == condition) & (table["metric"] == metric)]
    )
    if rows.empty:
        return None
    slope, intercept = float(rows["slope_per_decade"].iloc[0]), float(rows["intercept"].iloc[0])
    return 100 * slope, 100 * (intercept + slope * LOG_BILLION)


def _slope(fit: Fit | None) -> str:
    return "–" if fit is None else signed(f"{fit[0]:+.1f}")


def _scaling_panel(
    frame: pd.DataFrame, condition: str, fits: dict[tuple[str, str], Fit | None], *, legend: bool
) -> Layered:
    part = frame[frame["condition"] == condition]
    reach = [float(frame["size"].min()) / 1.3, float(frame["size"].max()) * 1.3]
    x = alt.X(
        "size:Q", scale=alt.Scale(type="log", domain=reach, nice=False), title="parameters (billions, log)",
        axis=alt.Axis(tickCount=4, format="~g"),
    )  # fmt: skip
    y = alt.Y("value:Q", scale=alt.Scale(domain=[0, 100]), title="% of questions")
    names = [name for _, name, _, _ in _SERIES]
    rule = alt.Legend(orient="top", title=None) if legend else None
    colour = alt.Color("series:N", scale=alt.Scale(domain=names, range=[row[2] for row in _SERIES]), legend=rule)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=names, range=[row[3] for row in _SERIES]), legend=rule)
    marks = base(part, width=165, height=165, title=title(condition_name(condition)))
    layers: list[alt.Chart] = [
        marks.mark_point(filled=True, size=48, opacity=0.85).encode(x=x, y=y, color=colour, shape=shape)
    ]
    for name in names:
        fit = fits[condition, name]
        if fit:
            ends = pd.DataFrame(
                {"size": reach, "value": [fit[0] * math.log10(size) + fit[1] for size in reach], "series": name}
            )
            dash = [1, 0] if name == names[0] else [6, 3]
            line = base(ends).mark_line(strokeWidth=1.8, strokeDash=dash, clip=True)
            layers.append(line.encode(x=x, y=y, color=colour))
    return layered(layers)
