"""Limits on the size of messages, and how it is counted; for both adapters of the bus."""

from safescale.core.errors import LimitExceededError
from safescale.runtime.bus.port import Message
from safescale.runtime.bus.topics import DEAD_LETTER

MESSAGE_LIMIT = 1024 * 1024
"""Bytes of key, value and headers of an event."""

DEAD_LETTER_LIMIT = MESSAGE_LIMIT + 64 * 1024
"""Bytes of a dead letter: the largest event and the description of its failure."""

BATCH_RESERVE = 16 * 1024
"""Bytes that Kafka's own framing may add to one message, so that an error names our limit and never the broker's."""


HEADERS_ON_THE_WAY = 1024
"""Bytes of headers that a message may gain between its producer and the bus, such as `traceparent`."""


def limit_of(topic: str) -> int:
    """Return the bytes that a message of a topic may have."""
    return DEAD_LETTER_LIMIT if topic == DEAD_LETTER else MESSAGE_LIMIT


def size_of(message: Message) -> int:
    """Return the bytes of a message: key, value and headers."""
    text = "".join((message.key, *message.headers, *message.headers.values()))
    return _bytes(text) + len(message.value)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def fits(message: Message) -> bool:
    """Return whether a message can be published, with the headers it gains on the way."""
    return size_of(message) + HEADERS_ON_THE_WAY <= limit_of(message.topic)


def check_size(message: Message) -> int:
    """Return the bytes of a message that may be published.

    Raises:
        LimitExceededError: it is over the limit of its topic.

    """
    size = size_of(message)
    limit = limit_of(message.topic)
    if size > limit:
        raise LimitExceededError(
            f"a message for {message.topic} has {size:,} bytes; at most {limit:,} are allowed (key, value and headers)"
        )
    return size
