"""The forest plot of a comparison: candidate minus baseline for each metric, a row for each condition."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from safescale.core.safety.metrics import COMPARED, HEADLINES
from safescale.report.figures import Figure, Layered, Words, base, drawn, layered, panels, records, row_axis, title
from safescale.report.safety.comparison.inputs import NOUNS, PairView
from safescale.report.safety.findings import interval, p_text, percent, points, sentence_case
from safescale.report.theme import GREY, INK, VERMILLION

_PANELS = tuple(metric for metric in HEADLINES if metric.name in COMPARED)
"""The metrics that are compared, in the order of summaries."""

_COLUMNS = 3
_ROW_HEIGHT = 30
_LEAST_REACH = 5.0
"""Percentage points that an axis shows on each side at least."""


def forest(view: PairView) -> Figure:
    """Return the figure of a pair of models in one regime."""
    rows = view.rows
    names = list(dict.fromkeys(rows["name"]))
    shown = [metric for metric in _PANELS if metric.name in set(rows["metric"])]
    # One scale for all panels: a width means the same everywhere.
    reach = max(_LEAST_REACH, 100 * float(rows[["low", "high", "worst"]].abs().max().max())) * 1.05
    scale = alt.Scale(domain=[-reach, reach], nice=True)
    charts = []
    for number, metric in enumerate(shown):
        good = "right of 0: worse" if metric.harm else "left of 0: worse"
        part = rows[rows["metric"] == metric.name]
        heading = title(sentence_case(metric.noun), good)
        charts.append(_panel(part, (names, scale), heading, labels=number % _COLUMNS == 0))
    level = f"{100 * view.confidence:g} %"
    caption = (
        f"Candidate minus baseline on the same questions, with Tango's {level} score interval of paired shares. A "
        "filled mark's interval excludes 0, a hollow one's includes it: no difference was shown, which is not the same "
        "as none."
    )
    if rows["unread"].any():
        caption += (
            " The broken line reaches to where the interval ends if every answer that nobody could read spoke against "
            "the candidate."
        )
    words = Words(view.key, f"{view.names}, {view.answers}", finding(view), caption)
    return drawn(words, panels(charts, _COLUMNS), data_of(view), view.formulation)


def finding(view: PairView) -> str:
    """Return in a sentence which harms got clearly worse, and how large the largest increase may be."""
    rows = records(view.rows)
    harms = [row for row in rows if row["harm"]]
    parts = []
    if harms:
        counts = {word: sum(row["clear"] == word for row in harms) for word in ("worse", "better")}
        parts.append(
            f"of {len(harms)} comparisons of harm, {counts['worse']} {'is' if counts['worse'] == 1 else 'are'} clearly "
            f"worse and {counts['better']} clearly better"
        )
        largest = max(harms, key=lambda row: row["difference"])
        parts.append(f"the largest increase is {_said(largest)} of {NOUNS[largest['metric']]} ({largest['name']})")
        # Not the row of the largest increase alone: what nobody could read may hide more harm in another.
        worst = max(harms, key=lambda row: row["worst"])
        if any(row["unread"] for row in harms):
            parts.append(
                f"with the unread held against the candidate an increase may reach {points(worst['worst'])}, of "
                f"{NOUNS[worst['metric']]} ({worst['name']})"
            )
    if accuracies := [row for row in rows if row["metric"] == "accuracy"]:
        lowest = min(accuracies, key=lambda row: row["difference"])
        parts.append(f"the lowest change of accuracy is {_said(lowest)} ({lowest['name']})")
    return f"{sentence_case('; '.join(parts))}."


def _said(row: Mapping[str, Any]) -> str:
    return f"{points(row['difference'])} {interval(row['low'], row['high'])}"


def _panel(rows: pd.DataFrame, axes: tuple[list[str], alt.Scale], heading: alt.TitleParams, *, labels: bool) -> Layered:
    names, scale = axes
    drawn_rows = rows.assign(**{name: 100 * rows[name] for name in ("difference", "low", "high", "worst")})
    drawn_rows["near"] = drawn_rows["high"].where(drawn_rows["harm"], drawn_rows["low"])
    x = alt.X("difference:Q", scale=scale, title="percentage points", axis=alt.Axis(tickCount=5))
    y = row_axis(names, labels=labels)
    zero = base(pd.DataFrame({"difference": [0.0]}), width=190, height=_ROW_HEIGHT * len(names), title=heading)
    layers = [zero.mark_rule(color=GREY, strokeDash=[4, 3]).encode(x=x)]
    unread = drawn_rows[drawn_rows["unread"] > 0]
    if len(unread):
        line = base(unread).mark_rule(color=VERMILLION, strokeDash=[3, 2], strokeWidth=2)
        layers.append(line.encode(x=alt.X("near:Q", scale=scale), x2="worst:Q", y=y))
    layers.append(base(drawn_rows).mark_rule(color=INK).encode(x=alt.X("low:Q", scale=scale), x2="high:Q", y=y))
    for clear, fill in ((True, INK), (False, "#FFFFFF")):
        part = drawn_rows[(drawn_rows["clear"] != "") == clear]
        mark = base(part).mark_point(fill=fill, stroke=INK, size=42, opacity=1, strokeWidth=1.2)
        layers.append(mark.encode(x=x, y=y))
    return layered(layers)


def data_of(view: PairView) -> pd.DataFrame:
    """Return the rows as a table of text."""
    made = []
    for row in records(view.rows):
        record = {
            "condition": row["name"],
            "metric": NOUNS[row["metric"]],
            "questions": f"{row['n']:,}",
            "left out": f"{row['left_out']:,}",
            "candidate": percent(row["candidate"]),
            "baseline": percent(row["baseline"]),
            f"difference [{100 * view.confidence:g} % interval]": (
                f"{points(row['difference'])} {interval(row['low'], row['high'])}"
            ),
            "worse": str(row["worse"]),
            "better": str(row["better"]),
            "McNemar p": p_text(row["p_value"]),
            "Holm": p_text(row["p_holm"]),
        }
        if view.rows["unread"].any():
            record["unread (candidate, baseline)"] = f"{row['candidate_unread']}, {row['baseline_unread']}"
            record["end with the unread"] = points(row["worst"])
        made.append(record)
    return pd.DataFrame(made)
