"""The metrics of a process, served to Prometheus, and its spans, sent over OpenTelemetry's API."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_current_span
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.exposition import choose_encoder
from structlog.contextvars import get_contextvars

from safescale.runtime.addresses import bare
from safescale.runtime.labels import LABELS, Label, LabelBounds
from safescale.runtime.metrics import METRICS
from safescale.runtime.tracing import allowed, context_of, sampled_trace_id


class Telemetry:
    """The declared metrics, live in one registry, and the spans of the process.

    Using an undeclared metric is a programming error. Without a tracer no span is recorded.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        tracer: Tracer | None = None,
        labels: Mapping[str, Label] = LABELS,
    ) -> None:
        self.tracer = tracer
        self.registry = registry or CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}
        self._bounds = LabelBounds(labels)
        for metric in METRICS:
            if metric.kind == "counter":
                self._counters[metric.name] = Counter(metric.name, metric.help, metric.labels, registry=self.registry)
            elif metric.kind == "gauge":
                self._gauges[metric.name] = Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
            else:
                self._histograms[metric.name] = Histogram(
                    metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets
                )

    def know(self, label: str, values: Iterable[str]) -> None:
        """Add names to those that this process knows for a label; from the first call on others are `unknown`."""
        self._bounds.know(label, values)

    def count(self, name: str, amount: float = 1.0, labels: Mapping[str, str] | None = None) -> None:
        """Add to a counter, in its unit."""
        self._one(self._counters, name, labels).inc(amount)

    def gauge(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Set a gauge, in its unit."""
        self._one(self._gauges, name, labels).set(value)

    def at_zero(self, name: str, labels: Mapping[str, str]) -> None:
        """Show a series of a counter or histogram at zero: a rate misses what a new series starts with."""
        self._one({**self._counters, **self._histograms}, name, labels)

    def forget(self, name: str, labels: Mapping[str, str]) -> None:
        """Drop a gauge's series, such as those of a run that ended."""
        # Before the series goes: nobody may set one that is shown no more.
        for key in [key for key in list(self._series) if key[0] == name and labels.items() <= dict(key[1]).items()]:
            del self._series[key]
        self._gauges[name].remove_by_labels(dict(labels))
        self._bounds.kept(name, [dict(key[1]) for key in list(self._series) if key[0] == name])

    def observe(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Add an observation to a histogram, in its unit; within a recorded span it names the trace (an exemplar)."""
        trace_id = sampled_trace_id()
        self._one(self._histograms, name, labels).observe(value, {"trace_id": trace_id} if trace_id else None)

    def span(
        self,
        name: str,
        fields: Mapping[str, Any] | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: Context | None = None,
    ) -> AbstractContextManager[object]:
        """Record a span for the length of the context, below `parent` or else below the current span."""
        return nullcontext() if self.tracer is None else _recorded(self.tracer, name, fields or {}, kind, parent)

    def serving(self, method: str, traceparent: str) -> AbstractContextManager[object]:
        """Record a call that is served, if its caller is traced; other calls, such as polls, begin no trace."""
        if self.tracer is None:
            return nullcontext()
        caller = context_of(traceparent)
        if not get_current_span(caller).get_span_context().is_valid:
            return nullcontext()
        return self.span("call", {"method": method}, SpanKind.SERVER, caller)

    def _one(self, kind: Mapping[str, Any], name: str, labels: Mapping[str, str] | None) -> Any:
        """Return the series of a metric with these labels, cached: the library checks and sorts them at each call."""
        if not labels:
            return kind[name]
        key = (name, tuple(labels.items()))
        series = self._series.get(key)
        if series is None:
            # Kept by what is shown: what callers pass on may have no end.
            shown = self._bounds.shown(name, labels)
            key = (name, tuple(shown.items()))
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = kind[name].labels(**shown)
        return series

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return all series and their content type: OpenMetrics, which has exemplars, if `accept` requests it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def serve(self, host: str, port: int) -> int:
        """Serve `/metrics` over HTTP in a daemon thread; the port it listens on (port 0 takes a free one).

        Raises:
            OSError: the address is taken.

        """
        server, _thread = start_http_server(port, addr=bare(host), registry=self.registry)
        return int(server.server_port)


@contextmanager
def _recorded(
    tracer: Tracer, name: str, fields: Mapping[str, Any], kind: SpanKind, parent: Context | None
) -> Iterator[None]:
    """Record a span with those of `fields`, and of the fields that log lines have here, that are allowed."""
    with tracer.start_as_current_span(
        name,
        parent,
        kind,
        allowed({**get_contextvars(), **fields}),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            reason = _reason_of(error)
            span.set_status(Status(StatusCode.ERROR, reason))
            span.set_attribute("reason", reason)
            raise


def _reason_of(error: BaseException) -> str:
    """Return the reason of an error alone: its message can quote an answer."""
    if not isinstance(error, Exception):
        return type(error).__name__
    # Not at the top: whoever declares or reads metrics alone needs no protobuf.
    from safescale.runtime.errors import as_safescale_error

    return as_safescale_error(error).reason
