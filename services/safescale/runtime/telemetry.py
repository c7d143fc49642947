"""Every Prometheus metric, declared once: name, kind, unit, labels, buckets, meaning."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_current_span
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.exposition import choose_encoder
from structlog.contextvars import get_contextvars

from safescale.runtime.addresses import bare
from safescale.runtime.labels import Bounds
from safescale.runtime.tracing import allowed, context_of, sampled_trace_id

Kind = Literal["counter", "gauge", "histogram"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Buckets in seconds up to 600 s: a reasoning answer may take ten minutes."""


@dataclass(frozen=True, slots=True)
class Metric:
    """Declaration of one metric."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


METRICS: tuple[Metric, ...] = (
    Metric(
        "safescale_model_latency_seconds",
        "histogram",
        "seconds",
        ("model", "condition", "outcome"),
        "Time of the greedy answer of a cell, per attempt, without queue and retries",
        SECONDS,
    ),
    Metric(
        "safescale_samples_latency_seconds",
        "histogram",
        "seconds",
        ("model", "condition", "outcome"),
        "Time of all samples of a cell together, per attempt",
        SECONDS,
    ),
    Metric(
        "safescale_time_to_first_token_seconds",
        "histogram",
        "seconds",
        ("model", "condition"),
        "Time until the first token of the greedy answer",
        SECONDS,
    ),
    Metric(
        "safescale_queue_wait_seconds",
        "histogram",
        "seconds",
        ("model", "condition"),
        "Time between the request for a cell and the start of its first attempt",
        SECONDS,
    ),
    Metric(
        "safescale_retrieval_seconds",
        "histogram",
        "seconds",
        ("condition", "outcome"),
        "Time to build a context: search and packing",
        SECONDS,
    ),
    Metric(
        "safescale_agent_step_seconds",
        "histogram",
        "seconds",
        ("step", "outcome"),
        "Time of one step of the research agent",
        SECONDS,
    ),
    Metric(
        "safescale_judge_seconds",
        "histogram",
        "seconds",
        ("model", "outcome"),
        "Time of one judge reading; model is the judge",
        SECONDS,
    ),
    Metric(
        "safescale_tokens_total",
        "counter",
        "tokens",
        ("model", "condition", "kind"),
        "Tokens by kind: prompt, as often as it was sent, or generated; cached answers not counted",
    ),
    Metric(
        "safescale_generations_total",
        "counter",
        "cells",
        ("model", "condition", "outcome"),
        "Cells asked, by outcome: ok, cached or the reason of the failure",
    ),
    Metric(
        "safescale_generation_retries_total",
        "counter",
        "attempts",
        ("model", "reason"),
        "Attempts repeated after a transport failure, or since the model changed meanwhile",
    ),
    Metric(
        "safescale_verdicts_total",
        "counter",
        "verdicts",
        ("model", "condition", "outcome"),
        "Verdicts by outcome of the greedy answer: correct, wrong, unsafe, high_risk, abstention, unread (nobody could "
        "read it), judge_failed or failed",
    ),
    Metric(
        "safescale_cost_total",
        "counter",
        "currency",
        ("model", "condition"),
        "Cost by the catalog's price per token, prompts as often as sent; 0 without a price",
    ),
    Metric(
        "safescale_reviews_open", "gauge", "reviews", (), "Answers that wait for a hand check, as the store has them"
    ),
    Metric(
        "safescale_review_oldest_seconds",
        "gauge",
        "seconds",
        (),
        "Age of the oldest answer that waits for a hand check; 0 when none does",
    ),
    Metric(
        "safescale_gate_passed",
        "gauge",
        "state",
        ("policy", "name"),
        "1 when the newest run of this name that the policy judged met it, else 0",
    ),
    Metric(
        "safescale_gate_timestamp_seconds",
        "gauge",
        "seconds",
        ("policy", "name"),
        "Time of that judgement, in seconds since 1970",
    ),
    Metric(
        "safescale_gate_high_risk_limit",
        "gauge",
        "ratio",
        ("name", "model", "condition"),
        "Least high-risk error rate of greedy answers that a policy which judged runs of this name allows at most",
    ),
    Metric(
        "safescale_run_high_risk_ratio",
        "gauge",
        "ratio",
        ("name", "model", "condition"),
        "High-risk error rate of the greedy answers of the newest completed run of this name",
    ),
    Metric(
        "safescale_run_accuracy_ratio",
        "gauge",
        "ratio",
        ("name", "model", "condition"),
        "Accuracy of the greedy answers of the newest completed run of this name",
    ),
    Metric(
        "safescale_run_failed_cells",
        "gauge",
        "cells",
        ("name", "model", "condition"),
        "Cells without an answer, or with one that the judge failed to read, in the newest completed run of this name",
    ),
    Metric(
        "safescale_run_unfinished_cells",
        "gauge",
        "cells",
        ("name",),
        "Cells with neither a verdict nor a skip in the newest completed run of this name",
    ),
    Metric(
        "safescale_run_cached_ratio",
        "gauge",
        "ratio",
        ("name",),
        "Part of the verdicts of the newest completed run of this name whose answers came from the generation cache",
    ),
    Metric(
        "safescale_run_ended_timestamp_seconds",
        "gauge",
        "seconds",
        ("name",),
        "End of the newest completed run of this name, in seconds since 1970",
    ),
    Metric("safescale_runs_active", "gauge", "runs", (), "Runs that this process drives"),
    Metric(
        "safescale_run_cells",
        "gauge",
        "cells",
        ("run_id", "state"),
        "Cells of an active run by state: planned, completed, failed, skipped",
    ),
    Metric(
        "safescale_bus_lag",
        "gauge",
        "messages",
        ("topic", "group"),
        "Messages published and not yet acknowledged by the group",
    ),
    Metric(
        "safescale_bus_in_flight", "gauge", "messages", ("topic", "group"), "Messages that the group's handlers work on"
    ),
    Metric(
        "safescale_dead_letters_total",
        "counter",
        "messages",
        ("topic", "reason"),
        "Messages given up after their attempts",
    ),
    Metric(
        "safescale_backend_wait_seconds",
        "histogram",
        "seconds",
        ("model",),
        "Time that a call to a model server waited for a place at a replica",
        SECONDS,
    ),
    Metric(
        "safescale_backend_attempt_seconds",
        "histogram",
        "seconds",
        ("model", "outcome"),
        "Time of one exchange with a model server, whatever came of it",
        SECONDS,
    ),
    Metric("safescale_backend_in_flight", "gauge", "calls", ("model", "replica"), "Calls that a replica works on"),
    Metric(
        "safescale_backend_circuit_open",
        "gauge",
        "state",
        ("model", "replica"),
        "1 while a replica is not asked since its last calls failed, else 0",
    ),
    Metric(
        "safescale_backend_hung",
        "gauge",
        "state",
        ("model", "replica"),
        "1 while a replica is not asked since it took its last calls and ended none in time, else 0",
    ),
    Metric(
        "safescale_model_available",
        "gauge",
        "state",
        ("model",),
        "1 while this process takes cells of a model, 0 while it cannot ask it; such cells wait in their topic",
    ),
    Metric(
        "safescale_storage_seconds",
        "histogram",
        "seconds",
        ("operation", "outcome"),
        "Time of one exchange with Elasticsearch",
        SECONDS,
    ),
    Metric(
        "safescale_dependency_up",
        "gauge",
        "state",
        ("dependency",),
        "1 while the bus or the store answers this process, else 0",
    ),
    Metric(
        "safescale_http_seconds",
        "histogram",
        "seconds",
        ("method", "route", "status"),
        "Time of REST calls as the gateway sees them",
        SECONDS,
    ),
    Metric(
        "safescale_rpc_seconds",
        "histogram",
        "seconds",
        ("service", "method", "code"),
        "Time of gRPC calls as the server sees them",
        SECONDS,
    ),
)


class Telemetry:
    """The declared metrics, live in one registry, and the spans of the process.

    Using an undeclared metric is a programming error. Without a tracer no span is recorded.
    """

    def __init__(self, registry: CollectorRegistry | None = None, tracer: Tracer | None = None) -> None:
        self.tracer = tracer
        self.registry = registry or CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}
        self._bounds = Bounds()
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
        """Show a series of a counter or histogram before there is something to add: no rate sees its first value."""
        self._one({**self._counters, **self._histograms}, name, labels)

    def forget(self, name: str, labels: Mapping[str, str]) -> None:
        """Drop a gauge's series, such as that of a run that ended."""
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
        """The series of a metric with these labels. Found again by them: the library checks and sorts them anew."""
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
        """All series and their content type: OpenMetrics, which has exemplars, where `accept` asks for it."""
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
