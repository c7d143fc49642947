"""Charts as pictures, drawn by another process: one that cannot be drawn is missing, and nothing else is lost."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from safescale.core.inputs.text import visible
from safescale.report.theme import tidy_svg

Spec = Mapping[str, Any]
"""A chart as Vega-Lite has it."""


@dataclass(frozen=True)
class Drawing:
    """The command that draws, and the seconds that all pictures of a report may take together."""

    command: Sequence[str] = (sys.executable, "-P", "-m", "safescale.report.drawer")
    seconds: float = 180.0


@dataclass(frozen=True)
class Picture:
    """A drawn chart: an SVG element, or an empty text and the reason why there is none."""

    svg: str
    reason: str = ""


def draw_all(specs: Mapping[str, Spec], drawing: Drawing | None = None) -> dict[str, Picture]:
    """Draw each chart; the ids within a picture start with its key.

    A chart that ends the process is not drawn again; those behind it are drawn by another process.
    """
    drawing = drawing or Drawing()
    left = dict(specs)
    drawn: dict[str, Picture] = {}
    end = time.monotonic() + drawing.seconds
    while left:
        answers, broken = _attempt(list(left.values()), drawing.command, end - time.monotonic())
        # Each answer takes a chart; a process that ended early leaves its chart without one.
        for key, found in zip(list(left), answers, strict=False):
            drawn[key] = _picture(found, key)
            del left[key]
        if left:
            key = next(iter(left))
            drawn[key] = Picture("", broken or "the drawing process ended without an answer")
            del left[key]
        if time.monotonic() >= end:
            drawn |= {key: Picture("", _late(drawing)) for key in left}
            break
    return {key: drawn[key] for key in specs}


def _late(drawing: Drawing) -> str:
    return f"drawing took longer than {drawing.seconds:g} s"


def _attempt(specs: Sequence[Spec], command: Sequence[str], seconds: float) -> tuple[list[Any], str]:
    """Return answers of a new process to some charts, in their order, and why there are fewer than charts."""
    lines = b"".join(orjson.dumps(_visible(spec), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for spec in specs)
    try:
        # The messages of a library that ends its process hold what it was given.
        done = subprocess.run(  # noqa: S603 (the command is ours)
            command,
            input=lines,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=max(0.0, seconds),
            check=False,
        )
        said, broken = done.stdout, _ended(done.returncode)
    except subprocess.TimeoutExpired as error:
        said, broken = error.stdout or b"", "drawing took too long"
    except OSError as error:
        said, broken = b"", f"the drawing process cannot be started: {error.strerror}"
    whole = said[: said.rfind(b"\n") + 1].splitlines()
    return [json.loads(line) for line in whole], broken


def _ended(code: int) -> str:
    how = f"by signal {-code}" if code < 0 else f"with code {code}"
    return f"the drawing process ended {how}"


def _picture(found: Mapping[str, str], key: str) -> Picture:
    svg = found.get("svg", "")
    if "<svg" not in svg:
        return Picture("", f"the drawing library refused it: {visible(found.get('error', 'no picture'))}")
    return Picture(tidy_svg(svg[svg.index("<svg") :].replace("<svg ", '<svg focusable="false" ', 1), key))


def _visible(value: Any) -> Any:
    """Return the value with every text in it made visible: control characters are what the library dies of."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {key: _visible(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_visible(each) for each in value]
    return value
