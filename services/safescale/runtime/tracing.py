"""Traces: which trace the work at hand belongs to, how that travels (W3C traceparent), and what a span may tell.

Nothing here needs OpenTelemetry: with tracing off, spans cost a look and record nothing. `tracing_otlp` exports them.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import grpc

TRACEPARENT = "traceparent"
"""Header of a message and key of gRPC metadata."""

# fmt: off
ALLOWED_ATTRIBUTES = frozenset({
    "run_id", "model", "condition", "question_id", "cell_id", "topic", "group", "attempt", "step", "outcome", "reason",
    "method", "route", "status", "documents",
})
# fmt: on
"""Fields that a span may carry. Prompts, questions, passages and answers are none of them."""

ATTRIBUTE_CHARACTERS = 200
"""Characters of a text that an attribute keeps."""

Kind = Literal["internal", "server", "client", "producer", "consumer"]

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a trace: lower-case hex ids of the trace and of the span, and whether the trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The place as W3C Trace Context writes it."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


_here: ContextVar[Place | None] = ContextVar("safescale_trace", default=None)


def place_of(traceparent: str) -> Place | None:
    """The place that a traceparent names; None for one that cannot be read, which starts a new trace."""
    found = _FORM.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Place(trace_id, span_id, bool(int(flags, 16) & 1))


def here() -> Place | None:
    """Where in which trace the work at hand is; None while nothing traces it."""
    return _here.get()


def sampled_trace_id() -> str:
    """Id of the trace that the work at hand is recorded in; empty when there is none."""
    place = _here.get()
    return place.trace_id if place is not None and place.sampled else ""


@contextmanager
def at(place: Place | None) -> Iterator[None]:
    """Have the work within belong to a place."""
    token = _here.set(place)
    try:
        yield
    finally:
        # A generator that nobody reads to its end is closed in another context, where the place never was.
        with suppress(ValueError):
            _here.reset(token)


def allowed(fields: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """The fields that a span may carry, texts cut; everything else is dropped."""
    kept: dict[str, str | int | float | bool] = {}
    for name, value in fields.items():
        if name in ALLOWED_ATTRIBUTES and isinstance(value, str | int | float):
            kept[name] = value[:ATTRIBUTE_CHARACTERS] if isinstance(value, str) else value
    return kept


class Tracer(Protocol):
    """Records spans."""

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""

    def span(
        self, name: str, fields: Mapping[str, Any], kind: Kind = "internal", parent: Place | None = None
    ) -> AbstractContextManager[Place | None]:
        """A span for the length of the context, below `parent` or else below the work at hand."""

    def serving(self, method: str, caller: Place | None) -> AbstractContextManager[Place | None]:
        """A span of a call that is served, where its caller is traced; other calls, such as polls, begin no trace."""

    async def close(self) -> None:
        """Send what is not sent yet, for a short time."""


class NoTracer:
    """Tracing is off."""

    on = False

    def span(
        self,
        name: str,  # noqa: ARG002
        fields: Mapping[str, Any],  # noqa: ARG002
        kind: Kind = "internal",  # noqa: ARG002
        parent: Place | None = None,  # noqa: ARG002
    ) -> AbstractContextManager[Place | None]:
        """Nothing."""
        return nullcontext()

    def serving(self, method: str, caller: Place | None) -> AbstractContextManager[Place | None]:  # noqa: ARG002
        """Nothing."""
        return nullcontext()

    async def close(self) -> None:
        """Nothing."""


def open_tracer(endpoint: str, ratio: float, service: str) -> Tracer:
    """The exporter to an OTLP endpoint; none, and OpenTelemetry not imported, where the endpoint is empty."""
    if not endpoint:
        return NoTracer()
    from safescale.runtime.tracing_otlp import OtlpTracer

    return OtlpTracer(endpoint, ratio, service)


def caller_of(context: Any) -> Place | None:
    """The place that the caller of a gRPC method is at."""
    for name, value in context.invocation_metadata() or ():
        if name == TRACEPARENT and isinstance(value, str):
            return place_of(value)
    return None


T = TypeVar("T")


def _with_place(details: Any) -> Any:
    """Details of a call with the place of the work at hand in its metadata."""
    place = _here.get()
    if place is None:
        return details
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    metadata[TRACEPARENT] = place.traceparent
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, go: Callable[[Any, Any], Awaitable[T]], details: Any, request: Any) -> T:
        return await go(_with_place(details), request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, go: Callable[[Any, Any], Awaitable[T]], details: Any, request: Any) -> T:
        return await go(_with_place(details), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, go: Callable[[Any, Any], Awaitable[T]], details: Any, requests: Any) -> T:
        return await go(_with_place(details), requests)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, go: Callable[[Any, Any], Awaitable[T]], details: Any, requests: Any) -> T:
        return await go(_with_place(details), requests)


def client_interceptors(tracer: Tracer) -> Sequence[grpc.aio.ClientInterceptor]:
    """What a channel needs so that its calls carry their place; nothing where tracing is off."""
    return (_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()) if tracer.on else ()
