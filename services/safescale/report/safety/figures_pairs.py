"""The forest plot: what changes from one condition to another, on the same questions."""

import math

import altair as alt
import pandas as pd

from safescale.core.safety.metrics import COMPARED, HEADLINES
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
from safescale.report.safety.findings import MINUS, NBSP, first_regime, interval, p_text, points, sentence_case
from safescale.report.safety.view import View, condition_name
from safescale.report.theme import GREY, INK

_PANELS = tuple(
    (metric.name, sentence_case(metric.noun), "left of 0: safer" if metric.harm else "right of 0: better")
    for metric in HEADLINES
    if metric.name in COMPARED
)
"""Name, title and good direction of each metric that conditions are compared by."""

_NUMBERS = ["difference", "ci_low", "ci_high"]


def pair_name(left: str, right: str) -> str:
    """Return the pair as left minus right, in the paper's names."""
    return f"{condition_name(left)} {MINUS} {condition_name(right)}"


def differences(view: View) -> pd.DataFrame:
    """Return paired differences, in the first regime of each metric: percentage points, pair and model rank."""
    table = view.table("paired_differences")
    if table.empty:
        return table
    parts = [first_regime(table[table["metric"] == metric]) for metric, _, _ in _PANELS]
    rows = pd.concat([part for part in parts if len(part)], ignore_index=True)
    ranks = {model: rank for rank, model in enumerate(view.model_ids)}
    return rows.assign(
        name=[pair_name(left, right) for left, right in zip(rows["left"], rows["right"], strict=True)],
        rank=rows["model"].map(ranks),
        value=100 * rows["difference"],
        low=100 * rows["ci_low"],
        high=100 * rows["ci_high"],
        clear=((rows["ci_low"] > 0) | (rows["ci_high"] < 0)).map({True: "excludes 0", False: "includes 0"}),
    )


def forest(view: View) -> Figure | Absent:
    """Return the figure of paired differences with intervals, and the exact tests of accuracy."""
    heading = "Paired differences"
    rows = differences(view)
    if rows.empty:
        reason = "Not drawn: no two conditions of the tested pairs were both asked."
        return Absent("pairs", heading, reason)
    names = list(dict.fromkeys(rows["name"]))
    shown = [panel for panel in _PANELS if panel[0] in set(rows["metric"])]
    charts = [
        _panel(view, rows[rows["metric"] == metric], names, title(text, good), labels=number % 3 == 0)
        for number, (metric, text, good) in enumerate(shown)
    ]
    tests = first_regime(view.table("pvalues"))
    if not tests.empty:
        charts.append(_tests(view, tests, names, labels=len(shown) % 3 == 0))
    several = len(view.model_ids) > 1
    caption = (
        "Each row is the first condition minus the second on the same questions, with the 95 % bootstrap interval of "
        "the paired difference; a filled mark's interval excludes 0, a hollow one's includes it. p: exact two-sided "
        "McNemar test of accuracy, Holm-adjusted over the pairs of a model."
    )
    if several and len(view.model_ids) <= FEW_MODELS:
        caption += f" Marks of a row from top to bottom: {', '.join(view.model_ids)}."
    elif several:
        caption += " Each tick is a model, the mark their mean."
    words = Words("pairs", heading, _finding(rows, names), caption)
    return drawn(words, panels(charts, 3), _data(rows, tests), view.formulation)


def _finding(rows: pd.DataFrame, names: list[str]) -> str:
    parts = []
    for metric, noun in (("accuracy", "accuracy"), ("high_risk_error_rate", "high-risk errors")):
        part = rows[rows["metric"] == metric]
        if part.empty:
            continue
        means = part.groupby("name", sort=False)["difference"].mean()
        name = str(means.abs().idxmax())
        clear = int((part["clear"] == "excludes 0").sum())
        parts.append(
            f"the largest change of {noun} is {points(float(means[name]))} ({name}); the interval excludes 0 in "
            f"{clear} of {len(part)} comparisons"
        )
    text = "; ".join(parts) or f"{len(names)} pairs are compared"
    return f"{text[0].upper()}{text[1:]}."


def _panel(view: View, rows: pd.DataFrame, names: list[str], heading: alt.TitleParams, *, labels: bool) -> Layered:
    count = len(view.model_ids)
    widest = rows[["value", "low", "high"]].abs().max().max()
    reach = (5.0 if math.isnan(widest) else max(5.0, float(widest))) * 1.05
    scale = alt.Scale(domain=[-reach, reach], nice=True)
    x = alt.X("value:Q", scale=scale, title="percentage points", axis=alt.Axis(tickCount=5))
    y = row_axis(names, labels=labels)
    height = len(names) * (max(26, 6 * count + 10) if count <= FEW_MODELS else 30)
    zero = base(pd.DataFrame({"value": [0.0]}), width=190, height=height, title=heading)
    layers: list[alt.Chart] = [zero.mark_rule(color=GREY, strokeDash=[4, 3]).encode(x=x)]
    ends = alt.X("low:Q", scale=scale)
    if count <= FEW_MODELS:
        sub = alt.YOffset("rank:O", scale=alt.Scale(domain=list(range(count)), paddingOuter=0.8))
        layers.append(base(rows).mark_rule(color=INK).encode(x=ends, x2="high:Q", y=y, yOffset=sub))
        for clear, fill in (("excludes 0", INK), ("includes 0", "#FFFFFF")):
            part = rows[rows["clear"] == clear]
            mark = base(part).mark_point(
                fill=fill, stroke=INK, size=42 if count == 1 else 16, opacity=1, strokeWidth=1.2
            )
            layers.append(mark.encode(x=x, y=y, yOffset=sub))
        return layered(layers)
    means = rows.groupby("name", sort=False)["value"].mean().reset_index()
    layers += [
        base(rows).mark_tick(color=INK, thickness=1.1, opacity=0.55).encode(x=x, y=y),
        base(means).mark_point(filled=True, color=INK, size=60, opacity=1).encode(x=x, y=y),
    ]
    return layered(layers)


def _tests(view: View, tests: pd.DataFrame, names: list[str], *, labels: bool) -> Layered:
    lines = []
    for name in names:
        same = [pair_name(left, right) == name for left, right in zip(tests["left"], tests["right"], strict=True)]
        rows = tests[same]
        if rows.empty:
            text = "not tested"
        elif len(view.model_ids) == 1:
            text = f"p {p_text(float(rows['p_value'].iloc[0]))}   Holm {p_text(float(rows['p_holm'].iloc[0]))}"
        else:
            text = f"{int((rows['p_holm'] < 0.05).sum())} of {len(rows)} models"
        lines.append({"name": name, "text": text})
    count = len(view.model_ids)
    height = len(names) * (max(26, 6 * count + 10) if count <= FEW_MODELS else 30)
    subtitle = "accuracy" if count == 1 else "models with Holm-adjusted p < 0.05"
    frame = pd.DataFrame(lines)
    chart = base(frame, width=190, height=height, title=title("McNemar test", subtitle))
    words = chart.mark_text(align="left", color=INK, fontSize=11)
    return layered([words.encode(x=alt.value(4), y=row_axis(names, labels=labels), text="text:N")])


def _data(rows: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    texts = rows.assign(
        comparison=rows["name"],
        heading=rows["metric"].map(
            {metric: f"{heading.lower()} [95{NBSP}% interval]" for metric, heading, _ in _PANELS}
        ),
        text=[f"{points(value)} {interval(low, high)}" for value, low, high in rows[_NUMBERS].to_numpy()],
    )
    data = spread_out(texts, ["comparison", "model"], "heading", "text")
    if tests.empty:
        return data
    keyed = {(pair_name(row["left"], row["right"]), row["model"]): row for row in records(tests)}
    found = [keyed.get(key) for key in zip(data["comparison"], data["model"], strict=True)]
    return data.assign(
        **{
            heading: [p_text(row[column]) if row else "–" for row in found]
            for heading, column in (("McNemar p", "p_value"), ("Holm", "p_holm"))
        }
    )
