import asyncio

import pytest
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from tests.support.spans import RecordedSpans, parent_of

from safescale.core.errors import NotFoundError
from safescale.runtime.log import log_context
from safescale.runtime.telemetry import Telemetry
from safescale.runtime.tracing import sampled_trace_id, trace_headers

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans() -> RecordedSpans:
    return RecordedSpans()


@pytest.fixture
def telemetry(spans) -> Telemetry:
    return Telemetry(tracer=spans.tracer)


def test_a_span_is_below_the_current_one_and_carries_what_log_lines_do(spans, telemetry) -> None:
    with log_context(run_id="r-1", service="inference"), telemetry.span("model", {"model": "m", "prompt": "Is it?"}):
        with telemetry.span("exchange", {"attempt": 2}, SpanKind.CLIENT):
            assert sampled_trace_id()
        assert trace_headers()["traceparent"].split("-")[1] == sampled_trace_id()
    inner, outer = spans.ended
    assert (outer.name, dict(outer.attributes)) == ("model", {"model": "m", "run_id": "r-1"})
    assert (inner.name, dict(inner.attributes)) == ("exchange", {"attempt": 2, "run_id": "r-1"})
    assert (parent_of(outer), parent_of(inner)) == (None, outer.context.span_id)
    assert (outer.kind, inner.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert sampled_trace_id() == ""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFoundError("no answer 'aspirin'"), "NOT_FOUND"),
        (ValueError("aspirin"), "INTERNAL"),
        (asyncio.CancelledError("aspirin"), "CancelledError"),
    ],
)
def test_a_span_that_failed_has_the_reason_and_never_the_message(spans, telemetry, error, reason) -> None:
    with pytest.raises(type(error)), telemetry.span("outer"), telemetry.span("inner"):
        raise error
    for span in spans.ended:
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, reason)
        assert dict(span.attributes) == {"reason": reason}
        assert not span.events
        assert "aspirin" not in span.to_json()


def test_a_served_call_is_a_span_only_where_its_caller_is_traced(spans, telemetry) -> None:
    for caller in ("", "nonsense", f"00-{'0' * 32}-{SPAN}-01"):
        with telemetry.serving("/method", caller):
            assert sampled_trace_id() == ""
    assert spans.ended == ()
    with telemetry.serving("/method", f"00-{TRACE}-{SPAN}-01"):
        assert sampled_trace_id() == TRACE
    call = spans.named("call")
    assert (call.kind, dict(call.attributes)) == (SpanKind.SERVER, {"method": "/method"})
    assert (format_trace_id(call.context.trace_id), format_span_id(call.parent.span_id)) == (TRACE, SPAN)


def test_the_ratio_is_decided_where_a_trace_begins() -> None:
    none, every = RecordedSpans(ratio=0.0), RecordedSpans(ratio=1.0)
    with Telemetry(tracer=none.tracer).span("begin"):
        unsampled = trace_headers()["traceparent"]
        assert sampled_trace_id() == ""
    assert int(unsampled[-2:], 16) & 1 == 0
    with Telemetry(tracer=every.tracer).serving("/method", unsampled):
        assert sampled_trace_id() == ""
        assert trace_headers()["traceparent"].split("-")[1] == unsampled.split("-")[1]
    with Telemetry(tracer=none.tracer).serving("/method", f"00-{TRACE}-{SPAN}-01"):
        pass
    assert every.ended == ()
    assert [span.name for span in none.ended] == ["call"]


async def test_a_generator_within_a_span_may_be_closed_elsewhere(spans, telemetry) -> None:
    async def pieces():
        with telemetry.span("stream"):
            yield sampled_trace_id()

    reader = pieces()
    assert await asyncio.create_task(anext(reader))
    await asyncio.create_task(reader.aclose())
    assert sampled_trace_id() == ""
    assert spans.named("stream").status.description == "GeneratorExit"


def test_without_a_tracer_a_span_records_nothing() -> None:
    telemetry = Telemetry()
    with telemetry.span("work"), telemetry.serving("/method", f"00-{TRACE}-{SPAN}-01"):
        assert trace_headers() == {}
