"""Spans of a test, recorded by OpenTelemetry's SDK and kept in memory."""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio


class RecordedSpans:
    """A tracer, and the spans that ended, in the order of their end."""

    def __init__(self, ratio: float = 1.0) -> None:
        provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        """Spans that ended."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        """Return the one span of a name."""
        [found] = [span for span in self.ended if span.name == name]
        return found


def parent_of(span: ReadableSpan) -> int | None:
    """Return the id of the span above, None for the first of its trace."""
    return None if span.parent is None else span.parent.span_id
