"""Metric rows that a caller brings to be judged, held to what metric rows are."""

import math
from collections.abc import Iterator, Sequence

from safescale.core.errors import Defect, LimitExceededError
from safescale.core.inputs.records import shown
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.metrics import METRICS, MetricDefinition
from safescale.rpc.checked import input_error
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

MAX_ROWS = 20_000
"""Rows of a request."""

_NUMBERS = ("value", "ci_low", "ci_high")
_ROUNDING = 1e-6
_DEFINITIONS = {metric.name: metric for metric in METRICS}

Fault = tuple[str, str, str]
"""Field, what is there, and what was expected."""


def checked_rows(rows: Sequence[pb.MetricRow]) -> Sequence[pb.MetricRow]:
    """Return rows that can be judged, each of a place of its own.

    Raises:
        LimitExceededError: there are too many.
        InvalidInputError: some cannot be; `defects` lists each with row, field, value and what was expected.

    """
    if len(rows) > MAX_ROWS:
        raise LimitExceededError(f"{len(rows):,} rows are over the limit of {MAX_ROWS:,}")
    defects: list[Defect] = []
    first: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(rows):
        faults = list(_faults(row))
        place = (row.model, row.condition, row.regime, row.metric, row.slice, row.slice_value)
        before = first.setdefault(place, number)
        if before != number:
            faults.append(("metric", row.metric, f"a row of its own, since rows[{before}] is of the same place"))
        defects += [Defect(f"rows[{number}]", None, None, *fault) for fault in faults]
    if defects:
        raise input_error(defects)
    return rows


def _faults(row: pb.MetricRow) -> Iterator[Fault]:
    for field, value in (("model", row.model), ("condition", row.condition)):
        if not value.strip():
            yield field, "empty", "a name"
        elif (fault := name_fault(value)) is not None:
            yield field, *fault
    for field, value in (("slice", row.slice), ("slice_value", row.slice_value)):
        if (fault := name_fault(value)) is not None:
            yield field, *fault
    if bool(row.slice) != bool(row.slice_value):
        yield "slice", shown(row.slice), "slice and slice_value, or neither"
    metric = _DEFINITIONS.get(row.metric)
    if metric is None:
        yield "metric", shown(row.metric), "the name of a metric"
        return
    if row.regime not in metric.regimes:
        yield "regime", shown(row.regime), f"one of {', '.join(metric.regimes)}"
    if row.n_unread > row.n:
        yield "n_unread", f"{row.n_unread}", f"at most the {row.n} questions of the row"
    yield from _number_faults(row, metric)
    yield from _count_faults(row, metric)


def _number_faults(row: pb.MetricRow, metric: MetricDefinition) -> Iterator[Fault]:
    for field in _NUMBERS:
        value = getattr(row, field)
        if not row.HasField(field):  # type: ignore[arg-type]
            continue
        if not math.isfinite(value) or value < 0 or (metric.unit == "1" and value > 1):
            yield field, f"{value:g}", "a rate from 0 to 1" if metric.unit == "1" else "seconds of at least 0"
    if row.HasField("ci_low") != row.HasField("ci_high") or row.ci_low > row.ci_high:
        yield "ci_low", f"{row.ci_low:g}", "both ends of an interval, the lower first"


def _count_faults(row: pb.MetricRow, metric: MetricDefinition) -> Iterator[Fault]:
    if not metric.share:
        for field in ("measured", "worst_case"):
            if row.HasField(field):
                yield field, "a count", f"none, since {metric.name} is no share of questions"
        return
    if not row.HasField("measured"):
        if row.HasField("value"):
            yield "measured", "missing", f"the count behind the value, since {metric.name} is a share of questions"
        return
    yield from _share_faults("measured", row.measured, row.n)
    if row.n and abs(row.value - row.measured.events / row.n) > _ROUNDING:
        yield "value", f"{row.value:g}", f"measured.events of n, {row.measured.events} of {row.n}"
    if row.HasField("worst_case"):
        yield from _share_faults("worst_case", row.worst_case, row.n)
        if row.worst_case.events < row.measured.events:
            yield "worst_case.events", f"{row.worst_case.events}", "at least measured.events"
        if row.worst_case.clusters != row.measured.clusters:
            yield "worst_case.clusters", f"{row.worst_case.clusters}", "measured.clusters"
    elif metric.worst is not None and row.n_unread:
        yield "worst_case", "missing", f"the count if each of the {row.n_unread} unread answers were such an event"


def _share_faults(name: str, count: pb.ShareCount, n: int) -> Iterator[Fault]:
    if count.events > n:
        yield f"{name}.events", f"{count.events}", f"at most the {n} questions of the row"
    if count.clusters > n:
        yield f"{name}.clusters", f"{count.clusters}", f"at most the {n} questions of the row"
    if count.clusters and not 0 < count.n_effective <= n:
        yield (
            f"{name}.n_effective",
            f"{count.n_effective:g}",
            f"a number above 0, at most {n}, as there are clusters",
        )
    if count.HasField("clusters_effective") and not 0 < count.clusters_effective <= count.clusters:
        expected = f"a number above 0, at most the {count.clusters} clusters"
        yield f"{name}.clusters_effective", f"{count.clusters_effective:g}", expected
    if count.HasField("freedom") and not 0 <= count.freedom <= count.clusters:
        yield f"{name}.freedom", f"{count.freedom:g}", f"a number of at least 0, at most the {count.clusters} clusters"
