"""Exports spans over OTLP (gRPC). Imported only where an endpoint is set.

Spans wait in a bounded queue that a thread of its own sends from: a collector that is away, or slow, loses spans and
never delays work.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from safescale import __version__
from safescale.runtime.log import get_logger

EXPORT_S = 5.0
"""Seconds that one export to the collector may take, its retries included."""

CLOSE_S = 5.0
"""Seconds that the last spans have at the end of the process."""

QUEUE = 8192
BATCH = 512
DELAY_MS = 1000.0


class _OutageLogger(SpanExporter):
    """Logs once when the collector goes away and once when it is back."""

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


class OtlpExport:
    """A tracer whose spans go to a collector.

    `ratio` (0 to 1) is decided where a trace begins; what follows, in this process or in others, keeps to it.
    """

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
            resource=resource, sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(_OutageLogger(exporter), QUEUE, DELAY_MS, BATCH, 1000.0 * EXPORT_S)
        )
        self.tracer = self._provider.get_tracer("safescale", __version__)

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
