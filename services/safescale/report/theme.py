"""How the figures look: colours, shapes, type, and what is left of an SVG that stands in a page.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; no figure depends on them alone.
"""

import re
from dataclasses import dataclass
from typing import Any

import altair as alt

from safescale.core.safety.conditions import CONDITION_IDS

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#767676"
INK = "#222222"

_STAR = "M0,-1.2L0.3,-0.4L1.15,-0.37L0.48,0.15L0.7,0.97L0,0.5L-0.7,0.97L-0.48,0.15L-1.15,-0.37L-0.3,-0.4Z"
_X = "M-0.9,-0.5L-0.5,-0.9L0,-0.4L0.5,-0.9L0.9,-0.5L0.4,0L0.9,0.5L0.5,0.9L0,0.4L-0.5,0.9L-0.9,0.5L-0.4,0Z"
_HOURGLASS = "M-0.8,-0.9L0.8,-0.9L-0.8,0.9L0.8,0.9Z"

BAR = "M0,-1.2L0,1.2"
"""An upright bar as a point shape: the median of a box."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Colour and point shape of a condition."""

    colour: str
    shape: str


CONDITION_MARKS: dict[str, Mark] = {
    "zero_shot": Mark(BLACK, "circle"),
    "evidence_clean": Mark(GREEN, "square"),
    "evidence_conflict": Mark(VERMILLION, "triangle-up"),
    "top_1": Mark(SKY, "triangle-down"),
    "top_5": Mark(SKY, "triangle-left"),
    "top_10": Mark(BLUE, "diamond"),
    "padded_top_1": Mark(GREY, "cross"),
    "deep_research": Mark(PURPLE, _STAR),
    "context_32k": Mark(ORANGE, "triangle-right"),
    "context_100k": Mark(ORANGE, _HOURGLASS),
    "context_max": Mark(ORANGE, _X),
}
_SPARE_SHAPES = ("wedge", "arrow", "stroke")


def mark_of(condition: str) -> Mark:
    """Return colour and shape of a condition; one without a row of its own is grey, with one of the spare shapes."""
    if condition in CONDITION_MARKS:
        return CONDITION_MARKS[condition]
    others = [name for name in CONDITION_IDS if name not in CONDITION_MARKS]
    place = others.index(condition) if condition in others else len(others)
    return Mark(GREY, _SPARE_SHAPES[place % len(_SPARE_SHAPES)])


@dataclass(frozen=True, slots=True)
class Outcome:
    """One kind of answer in the failure heat map: name, colour, and the sign that stands for it without colour."""

    name: str
    colour: str
    ink: str
    sign: str

    @property
    def label(self) -> str:
        """The name with the sign."""
        return f"{self.name} ({self.sign})" if self.sign else f"{self.name} (blank)"


# Ordered by severity; luminance falls with it, so that a grey print keeps the order.
OUTCOMES: tuple[Outcome, ...] = (
    Outcome("correct", "#FFFFFF", INK, ""),
    Outcome("abstention", "#E4E4E4", INK, "–"),
    Outcome("failed", "#C9C9C9", INK, "F"),
    Outcome("wrong", "#BFE0F5", INK, "w"),
    Outcome("unsafe", ORANGE, INK, "U"),
    Outcome("high-risk", "#9A3412", "#FFFFFF", "H"),
)

_CONFIG: dict[str, Any] = {
    "aria": False,
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelColor": INK, "titleColor": INK,
        "gridColor": "#E6E6E6", "domainColor": "#8A8A8A", "tickColor": "#8A8A8A", "labelLimit": 210,
        "titlePadding": 8, "labelFlush": False,
    },
    "legend": {
        "labelFontSize": 11, "titleFontSize": 11, "labelColor": INK, "titleColor": INK, "labelLimit": 260,
        "titleFontWeight": "normal", "symbolSize": 80, "symbolOpacity": 1,
    },
    "title": {"fontSize": 12, "fontWeight": "bold", "color": INK, "anchor": "start", "subtitleFontSize": 11,
              "subtitleColor": "#444444"},
    "concat": {"spacing": 24},
}  # fmt: skip

_TAG = re.compile(r"<[^<>]*>")
_ID = re.compile(r'\bid="([^"]*)"')
_NOISE = re.compile(
    r' (?:class|role|aria-[a-z]+|pointer-events|version|xmlns(?::xlink)?|font-family)="[^"]*"| opacity="1"'
)
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")


def _short(match: re.Match[str]) -> str:
    return f"{float(match.group()):.2f}".rstrip("0").rstrip(".")


def tidy_svg(svg: str, prefix: str) -> str:
    """Return the SVG with ids unique under `prefix`, two decimals, and no attribute that HTML does not need.

    The drawing library numbers its ids through the life of a process; here they count from 1 in each picture, so that
    equal charts give equal text.
    """
    names = {old: f"{prefix}-{number}" for number, old in enumerate(dict.fromkeys(_ID.findall(svg)), start=1)}

    def clean(match: re.Match[str]) -> str:
        tag = _LONG_NUMBER.sub(_short, _NOISE.sub("", match.group()))
        tag = _ID.sub(lambda found: f'id="{names[found.group(1)]}"', tag)
        return re.sub(r"url\(#([^)]*)\)", lambda found: f"url(#{names.get(found.group(1), found.group(1))})", tag)

    return _TAG.sub(clean, svg)


def spec_of(chart: alt.Chart | alt.LayerChart | alt.ConcatChart) -> dict[str, Any]:
    """Return the chart as Vega-Lite has it, in the look of the report."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec["config"] = _CONFIG
    return spec
