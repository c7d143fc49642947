"""How a client connects: deadline, tries, TLS, flow control."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from safescale.core.errors import InvalidInputError
from safescale.runtime.channels import MAX_MESSAGE_BYTES

SERVICE = "safescale.scoring.v1.ScoringService"
MAX_BATCH = 1000


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Options of a client.

    `timeout_s` is the deadline of a call, and of each batch of a stream, in seconds, tries included. `tries` counts the
    first one. `batch_size` (1 to 1,000) answers travel in a message, `window` batches at most are on their way at once.
    `credentials` turn TLS on; without them the channel is plain, for loopback and for meshes that encrypt.
    """

    timeout_s: float = 30.0
    tries: int = 4
    batch_size: int = 100
    window: int = 4
    credentials: grpc.ChannelCredentials | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("timeout_s", 0.001, 86_400), ("tries", 1, 5), ("batch_size", 1, MAX_BATCH)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInputError(f"{name} is {value}; expected {low:,} to {high:,}")
        if self.window < 1:
            raise InvalidInputError(f"window is {self.window}; expected at least 1")


def channel_options(options: ClientOptions) -> Sequence[tuple[str, Any]]:
    """Options of the channel: message bounds, and gRPC's own retries of calls that the server did not answer."""
    config = {
        "methodConfig": [
            {
                "name": [{"service": SERVICE}],
                "retryPolicy": {
                    "maxAttempts": options.tries,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    if options.tries == 1:
        del config["methodConfig"][0]["retryPolicy"]
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(config)),
    ]
