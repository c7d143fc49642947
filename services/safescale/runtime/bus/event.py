"""Events as messages of the bus."""

from google.protobuf.message import Message as Payload

from safescale.runtime.bus.port import Message


def event_message(topic: str, key: str, payload: Payload, run_id: str, attempt: int) -> Message:
    """Message of an event, with the headers of docs/bus.md: content type, message type, run and attempt."""
    headers = {
        "content-type": "application/x-protobuf",
        "message-type": payload.DESCRIPTOR.full_name,
        "run-id": run_id,
        "attempt": str(attempt),
    }
    return Message(topic, key, payload.SerializeToString(), headers)
