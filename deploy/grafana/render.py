"""Draws a dashboard from a Prometheus as one PNG, where there is no Grafana.

Needs altair and vl-convert, which the extra `report` of the package brings.
"""

import argparse
import json
import math
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

DASHBOARD = Path(__file__).resolve().parents[2] / "charts" / "safescale" / "dashboards" / "latency.json"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
POINTS = 240
"""Points of a line, at most."""

SCRAPE_S = 15
"""Seconds between two scrapes, at most."""

ANSWER_S = 60.0
Row = dict[str, Any]


class CannotDrawError(Exception):
    """Why there is no picture, in words for who asked for it."""


@dataclass(frozen=True)
class Span:
    """The time that is drawn: begin and end in seconds since 1970, and seconds between two points."""

    begin: float
    end: float

    @property
    def step(self) -> int:
        """Seconds between two points."""
        return max(SCRAPE_S, math.ceil((self.end - self.begin) / POINTS))


def rendered(expr: str, dashboard: Mapping[str, Any], span: Span, chosen: Mapping[str, str]) -> str:
    """Return a query with the variables of the dashboard filled in: as chosen, else with all values."""
    rate = max(4 * SCRAPE_S, span.step + SCRAPE_S)
    values = {"__rate_interval": f"{rate}s", "__range": f"{math.ceil(span.end - span.begin)}s"}
    for variable in dashboard["templating"]["list"]:
        values[variable["name"]] = chosen.get(variable["name"], variable.get("allValue", ".*"))
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), expr)


def ask(url: str, query: str, span: Span) -> list[Row]:
    """Series that Prometheus answers a query with.

    Raises:
        CannotDrawError: it does not answer, or with an error.

    """
    fields = {"query": query, "start": f"{span.begin:.3f}", "end": f"{span.end:.3f}", "step": str(span.step)}
    address = f"{url.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(fields)}"
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_S) as answer:  # noqa: S310 -- the scheme was checked
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
        if error.code not in (400, 422, 503):
            raise CannotDrawError(f"{url} answers with HTTP {error.code}; expected a Prometheus there") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CannotDrawError(f"{url} does not answer ({reason}); expected a Prometheus there") from None
    try:
        found = json.loads(body)
        if found["status"] == "success":
            return list(found["data"]["result"])
        told = f"{found['errorType']}: {found['error']}"
    except (ValueError, KeyError, TypeError):
        raise CannotDrawError(f"{url} answers with something else than Prometheus does") from None
    raise CannotDrawError(f"{url} refuses the query {query!r}: {told}")


def _label(labels: Mapping[str, str], found: re.Match[str]) -> str:
    return labels.get(found[1], "")


def points(series: Sequence[Row], legend: str, title: str) -> list[Row]:
    """Rows (time in ms, series, value) of what a query gave; values that are no number are left out."""
    rows = []
    for one in series:
        name = re.sub(r"{{(\w+)}}", partial(_label, one["metric"]), legend).strip() or title
        for at_s, text in one["values"]:
            value = float(text)
            if math.isfinite(value):
                rows.append({"time": 1000 * at_s, "series": name, "value": value})
    return rows


def cells(series: Sequence[Row], step: int) -> list[Row]:
    """Rows (begin and end in ms, bucket, count) of a histogram's cumulative buckets; empty cells are left out."""
    bounds = sorted((one for one in series if "le" in one["metric"]), key=lambda one: float(one["metric"]["le"]))
    below: dict[float, float] = {}
    rows = []
    for one in bounds:
        for at_s, text in one["values"]:
            count = float(text) - below.get(at_s, 0.0)
            below[at_s] = float(text)
            if count > 0:
                end = 1000 * at_s
                bound = float(one["metric"]["le"])
                rows.append({"time": end - 1000 * step, "end": end, "bound": f"{bound:g}", "count": count})
    return rows


def drawn(panel: Mapping[str, Any], rows: Sequence[Row], span: Span) -> Any:
    """Return the altair chart of a panel."""
    title = panel["title"] if rows else f"{panel['title']} (no data)"
    unit = panel["fieldConfig"]["defaults"].get("unit", "none")
    chart: Any = alt.Chart(alt.InlineData(values=list(rows))).properties(title=title, width=520, height=200)
    time = alt.X("time:T", title=None).scale(type="utc", domain=[1000 * span.begin, 1000 * span.end])
    if panel["type"] == "heatmap":
        order = sorted({row["bound"] for row in rows}, key=float, reverse=True)
        return chart.mark_rect(clip=True).encode(
            time, alt.X2("end:T"), alt.Y("bound:O", title="at most, s", sort=order),
            alt.Color("count:Q", title="answers").scale(scheme="viridis", reverse=True),
        )  # fmt: skip
    axis = alt.Axis(format="%") if unit == "percentunit" else alt.Axis()
    return chart.mark_line(point=alt.OverlayMarkDef(size=12), clip=True).encode(
        time, alt.Y("value:Q", title={"s": "s", "percentunit": None}.get(unit), axis=axis),
        alt.Color("series:N", title=None, legend=alt.Legend(labelLimit=260)).scale(scheme="tableau20"),
    )  # fmt: skip


def picture(url: str, dashboard: Mapping[str, Any], span: Span, chosen: Mapping[str, str]) -> bytes:
    """Return the PNG of a dashboard.

    Raises:
        CannotDrawError: Prometheus does not answer, or has nothing of that time.

    """
    charts, found = [], 0
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for panel in sorted(panels, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"])):
        rows: list[Row] = []
        for target in panel["targets"]:
            series = ask(url, rendered(target["expr"], dashboard, span, chosen), span)
            heat = panel["type"] == "heatmap"
            rows += cells(series, span.step) if heat else points(series, target["legendFormat"], panel["title"])
            # A series without labels is the 0 of a panel about something that did not happen.
            found += any(one["metric"] for one in series)
        charts.append(drawn(panel, rows, span))
    if not found:
        raise CannotDrawError(f"{url} has no series for {dashboard['title']!r} of that time")
    begin, end = (datetime.fromtimestamp(at_s, UTC) for at_s in (span.begin, span.end))
    title = alt.Title(dashboard["title"], subtitle=f"{begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC")
    whole = alt.concat(*charts, columns=2, title=title).resolve_scale(color="independent", y="independent")
    png: bytes = vl_convert.vegalite_to_png(whole.to_dict(), scale=1.5, allowed_base_urls=[])
    return png


def _url(text: str) -> str:
    if urllib.parse.urlsplit(text).scheme not in ("http", "https") or not urllib.parse.urlsplit(text).netloc:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; expected http://HOST:PORT")
    return text


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; expected such as 90m, 6h or 2d")
    return int(found[1]) * UNITS[found[2]]


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected such as 2026-03-01T06:30:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _choice(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value or '"' in value:
        raise argparse.ArgumentTypeError(f"{text!r} chooses nothing; expected NAME=REGEX, such as model=gemma.*")
    return name, value


def _dashboard(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(text).read_text())
        _ = found["title"], found["templating"]["list"], [panel["type"] for panel in found["panels"]]
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}; expected a dashboard's JSON file") from None
    except (ValueError, KeyError, TypeError):
        raise argparse.ArgumentTypeError(f"{text} holds no dashboard; expected the JSON of Grafana") from None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", type=_url, help="address of Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("--range", type=_seconds, default="1h", metavar="LENGTH", help="time to draw (default 1h)")
    parser.add_argument("--end", type=_moment, metavar="TIME", help="its end, ISO 8601, UTC unless told (default now)")
    parser.add_argument("--dashboard", type=_dashboard, default=str(DASHBOARD), metavar="FILE", help="default: latency")
    parser.add_argument("--set", type=_choice, action="append", default=[], metavar="NAME=REGEX", help="a variable")
    parser.add_argument("--out", type=Path, default=Path("latency.png"), metavar="FILE", help="default latency.png")
    given = parser.parse_args(arguments)
    chosen = dict(given.set)
    known = [one["name"] for one in given.dashboard["templating"]["list"] if one["type"] != "datasource"]
    for name in chosen:
        if name not in known:
            parser.error(f"argument --set: the dashboard has no variable {name!r}; expected {', '.join(known)}")
    end = given.end if given.end is not None else datetime.now(UTC).timestamp()
    try:
        png = picture(given.url, given.dashboard, Span(end - given.range, end), chosen)
        given.out.write_bytes(png)
    except CannotDrawError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {given.out} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{given.out}: {len(png)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
