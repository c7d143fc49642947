"""What a span may carry, and how a trace travels between processes (W3C Trace Context), on OpenTelemetry's API.

Nothing is recorded without the SDK, which is loaded only where an OTLP endpoint is set (`tracing_otlp`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "traceparent"
"""Header of a message or an HTTP request, and key of gRPC metadata."""

# fmt: off
ALLOWED_ATTRIBUTES = frozenset({
    "run_id", "model", "condition", "question_id", "cell_id", "topic", "group", "attempt", "step", "outcome", "reason",
    "method", "route", "status", "documents",
})
# fmt: on
"""Fields that a span may carry. Prompts, questions, passages and answers are not among them."""

ATTRIBUTE_CHARACTERS = 200
"""Characters of a text that an attribute keeps."""

# Not the global propagator: it also forwards baggage, which callers can fill with any text.
_W3C = TraceContextTextMapPropagator()


def allowed(fields: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return the fields that a span may carry, texts truncated; everything else is dropped."""
    kept: dict[str, str | int | float | bool] = {}
    for name, value in fields.items():
        if name in ALLOWED_ATTRIBUTES and isinstance(value, str | int | float):
            kept[name] = value[:ATTRIBUTE_CHARACTERS] if isinstance(value, str) else value
    return kept


def context_of(traceparent: str) -> Context:
    """Return the context of the span that a traceparent names; an empty one where it is missing or invalid."""
    return _W3C.extract({TRACEPARENT: traceparent})


def trace_headers() -> dict[str, str]:
    """Return the headers that name the current span; none outside a trace."""
    headers: dict[str, str] = {}
    _W3C.inject(headers)
    return headers


def sampled_trace_id() -> str:
    """Return the id of the current trace if it is recorded, else an empty text."""
    span = get_current_span().get_span_context()
    return format_trace_id(span.trace_id) if span.trace_flags.sampled else ""


@contextmanager
def untraced() -> Iterator[None]:
    """Start tasks within that belong to no trace, whatever the current one is."""
    token = attach(Context())
    try:
        yield
    finally:
        detach(token)
