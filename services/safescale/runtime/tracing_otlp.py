"""Exports spans over OTLP (gRPC). Imported only where tracing is on.

Spans wait in a bounded queue that a thread of its own sends from: a collector that is away, or slow, loses spans and
never delays work.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from structlog.contextvars import get_contextvars

from safescale import __version__
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.log import get_logger
from safescale.runtime.tracing import Kind, Place, allowed, at, here

EXPORT_S = 5.0
"""Seconds that one export to the collector may take, its retries included."""

CLOSE_S = 5.0
"""Seconds that the last spans have at the end of the process."""

QUEUE = 8192
BATCH = 512
DELAY_MS = 1000.0

KINDS: Mapping[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class _Told(SpanExporter):
    """Tells the log once when the collector goes away and once when it is back."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._away = False
        self._log = get_logger("tracing")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away:
            self._log.warning("the collector of traces does not answer, spans are lost", count=len(spans))
        elif self._away and not away:
            self._log.info("the collector of traces answers again")
        self._away = away
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class OtlpTracer:
    """Records a share of all traces and sends them to a collector.

    `ratio` (0 to 1) is decided where a trace begins; what follows, in this process or in others, keeps to it.
    """

    on = True

    def __init__(self, endpoint: str, ratio: float, service: str) -> None:
        # The library writes stack traces to standard error when the collector is away; the log gets a line instead.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        exporter = OTLPSpanExporter(
            endpoint=endpoint,
            insecure=endpoint.startswith("http://"),
            timeout=EXPORT_S,
            channel_options=(("grpc.enable_http_proxy", 0),),  # type: ignore[arg-type]
        )
        resource = Resource({"service.name": service, "service.namespace": "safescale", "service.version": __version__})
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(_Told(exporter), QUEUE, DELAY_MS, BATCH, 1000.0 * EXPORT_S)
        )
        self._tracer = self._provider.get_tracer("safescale", __version__)

    @contextmanager
    def span(
        self, name: str, fields: Mapping[str, Any], kind: Kind = "internal", parent: Place | None = None
    ) -> Iterator[Place | None]:
        """A span for the length of the context, below `parent` or else below the work at hand.

        It carries what of `fields`, and of the fields that log lines have at this place, is allowed; of an error its
        reason, never its message.
        """
        span = self._tracer.start_span(
            name,
            context=_context_of(parent or here()),
            kind=KINDS[kind],
            attributes=allowed({**get_contextvars(), **fields}),
            record_exception=False,
            set_status_on_exception=False,
        )
        found = span.get_span_context()
        place = Place(f"{found.trace_id:032x}", f"{found.span_id:016x}", found.trace_flags.sampled)
        try:
            with at(place):
                yield place
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            span.end()

    def serving(self, method: str, caller: Place | None) -> AbstractContextManager[Place | None]:
        """A span of a call that is served, where its caller is traced; other calls, such as polls, begin no trace."""
        return nullcontext() if caller is None else self.span("call", {"method": method}, "server", caller)

    async def close(self) -> None:
        """Send what is not sent yet, for a short time."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

        # Not a thread of the loop's pool: the end of the process would wait for it however long it takes.
        threading.Thread(target=shut_down, name="traces", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), CLOSE_S)


def _context_of(place: Place | None) -> Context:
    # An empty context, not None: the library's own idea of the work at hand is not asked.
    if place is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT)
    parent = SpanContext(int(place.trace_id, 16), int(place.span_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _fail(span: Span, error: BaseException) -> None:
    reason = as_safescale_error(error).reason if isinstance(error, Exception) else type(error).__name__
    span.set_status(Status(StatusCode.ERROR, reason))
    span.set_attribute("reason", reason)
