import asyncio

from opentelemetry.trace import SpanKind, StatusCode
from tests.support.spans import RecordedSpans, parent_of

from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.bus.traced import TracedBus
from safescale.runtime.telemetry import Telemetry


def _message(key: str) -> Message:
    return Message("t", key, b"Is it safe?", {"run-id": "r-1"})


async def test_a_message_is_handled_below_the_span_that_published_it() -> None:
    spans = RecordedSpans()
    telemetry = Telemetry(tracer=spans.tracer)
    bus = TracedBus(MemoryBus(telemetry), telemetry)
    handled: asyncio.Queue[Message] = asyncio.Queue()

    async def handle(message: Message) -> None:
        if message.key == "k-0" and not failed:
            failed.append(message)
            raise ValueError("Is it safe?")
        await handled.put(message)

    failed: list[Message] = []
    await bus.subscribe("t", "g", handle, SubscriptionOptions())
    with telemetry.span("outer"):
        await bus.publish(_message("k-0"))
    await bus.publish_many([_message("k-1"), _message("k-2")])
    got = [await handled.get() for _ in range(3)]
    await bus.close()

    assert all(message.headers.keys() == {"run-id", "traceparent"} for message in got)
    published = {span.attributes["cell_id"]: span for span in spans.ended if span.name == "publish"}
    attempts = [span for span in spans.ended if span.name == "handle"]
    assert sorted(span.attributes["cell_id"] for span in attempts) == ["k-0", "k-0", "k-1", "k-2"]
    for span in attempts:
        key = span.attributes["cell_id"]
        assert parent_of(span) == published[key].context.span_id
        assert dict(span.attributes) == {
            "topic": "t", "group": "g", "cell_id": key, "run_id": "r-1",
            **({"reason": "INTERNAL"} if span.status.status_code is StatusCode.ERROR else {}),
        }  # fmt: skip
        assert (span.kind, published[key].kind) == (SpanKind.CONSUMER, SpanKind.PRODUCER)
    assert [span.status.status_code for span in attempts].count(StatusCode.ERROR) == 1
    assert parent_of(published["k-0"]) == spans.named("outer").context.span_id
    # Each message that no span publishes begins a trace of its own.
    assert parent_of(published["k-1"]) is parent_of(published["k-2"]) is None
    assert published["k-1"].context.trace_id != published["k-2"].context.trace_id
    assert "Is it safe?" not in "".join(span.to_json() for span in spans.ended)
