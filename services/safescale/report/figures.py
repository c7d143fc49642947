"""Figures of a report, and the parts that several figures share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from safescale.report.theme import spec_of

FEW_MODELS = 12
"""Up to so many models are drawn one by one; beyond, their mean and a tick for each."""

Layered = alt.Chart | alt.LayerChart
Drawable = alt.Chart | alt.LayerChart | alt.ConcatChart


@dataclass(frozen=True)
class Figure:
    """A figure: `spec` is its chart; `finding` states the main result in numbers and stands for the picture.

    `data` is what was drawn, as a table with readable headings.
    """

    key: str
    title: str
    finding: str
    caption: str
    spec: Mapping[str, Any]
    data: pd.DataFrame


@dataclass(frozen=True)
class Absent:
    """A figure or table that cannot be shown, and why in a sentence."""

    key: str
    title: str
    reason: str


@dataclass(frozen=True)
class Words:
    """The words of a figure."""

    key: str
    title: str
    finding: str
    caption: str


def drawn(words: Words, chart: Drawable, data: pd.DataFrame, formulation: str) -> Figure:
    """Return a figure of a chart; its caption ends with the formulation."""
    key = f"{words.key}-{formulation}"
    caption = f"{words.caption} Formulation: {formulation}."
    return Figure(key, words.title, words.finding, caption, spec_of(chart), data)


def row_axis(names: Sequence[str], *, labels: bool = True) -> alt.Y:
    """Return a categorical axis from top to bottom; without labels beside a panel that has them."""
    axis = alt.Axis(title=None, labels=labels, ticks=False, domain=False, labelPadding=8, grid=False)
    return alt.Y("name:N", sort=list(names), axis=axis, scale=alt.Scale(domain=list(names)))


def panels(charts: Sequence[Layered], columns: int) -> alt.ConcatChart:
    """Return charts in a grid."""
    return alt.concat(*charts, columns=columns, spacing={"row": 30, "column": 20})


def base(frame: pd.DataFrame, **size: Any) -> alt.Chart:
    """Return a chart of a frame; `size` holds width, height, title or view."""
    return alt.Chart(frame, **size)


def layered(charts: Sequence[alt.Chart]) -> alt.LayerChart:
    """Return charts upon each other, the first at the bottom."""
    return alt.LayerChart(layer=list(charts))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def spread_out(rows: pd.DataFrame, keys: Sequence[str], column: str, text: str) -> pd.DataFrame:
    """Return one row for each combination of `keys`, with a column of `text` for each value of `column`.

    A text that is absent is empty. Rows and columns keep the order in which they first appear.
    """
    kept = rows.drop_duplicates([*keys, column])
    wide = kept.set_index([*keys, column])[text].unstack(column, fill_value="", sort=False)
    wide.columns.name = None
    return wide.reset_index()


def title(text: str, subtitle: str = "") -> alt.TitleParams:
    """Return the title of a panel."""
    return alt.TitleParams(text, subtitle=subtitle or alt.Undefined, offset=8)
