"""Gauges of series: how much evidence there is that something got worse, and which alarms have been raised."""

from collections.abc import Iterable, Mapping

from safescale.rpc.scoring.v1 import scoring_pb2 as pb

MAX_SERIES = 20
"""Series with the newest runs that are shown."""

RETIRED_S = 30 * 86400.0
"""Seconds after its newest run for which a series is shown."""

EVIDENCE, ALARM = "safescale_series_evidence", "safescale_series_alarm"
COMBINED = "combined"
"""Metric of the combined evidence of a kind; it is of no model, condition or regime."""

Gauges = dict[str, dict[tuple[tuple[str, str], ...], float]]


def series_gauges(found: Iterable[pb.GetSeriesResponse]) -> Gauges:
    """Return the newest evidence of each kind, model, condition, regime and metric, and the combined alarms.

    Of several limits of one metric the one with most evidence is shown.
    """
    evidence: dict[tuple[tuple[str, str], ...], float] = {}
    alarms: dict[tuple[tuple[str, str], ...], float] = {}
    for series in found:
        for point in _newest(series).values():
            kind = (("series", series.series), ("kind", point.kind))
            place = (("model", point.model), ("condition", point.condition), ("regime", point.regime))
            labels = (*kind, *place, ("metric", point.metric or COMBINED))
            evidence[labels] = max(point.evidence, evidence.get(labels, 0.0))
            if not point.metric:
                alarms[kind] = float(point.alarm)
    return {EVIDENCE: evidence, ALARM: alarms}


def _newest(series: pb.GetSeriesResponse) -> Mapping[tuple[str, str, str, str, str, float], pb.SeriesPoint]:
    """Return the last point of each kind, place, metric and limit."""
    return {(p.kind, p.model, p.condition, p.regime, p.metric, p.limit): p for p in series.points}
