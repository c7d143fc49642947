"""How a client connects: deadline, tries, TLS, flow control."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from safescale.core.errors import InvalidInputError
from safescale.runtime.grpc.channels import MAX_MESSAGE_BYTES, target_of
from safescale.runtime.grpc.credentials import Access, AccessChannel
from safescale.runtime.grpc.tls import ClientTls, pair_of

SERVICE = "safescale.scoring.v1.ScoringService"
MAX_BATCH = 1000
PAIR = ("certificate_file", "key_file")
FILES = ("ca_file", "certificate_file", "key_file", "token_file")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Options of a client.

    `timeout_s` is the deadline of a call, and of each batch of a stream, in seconds, tries included. `tries` counts the
    first one. `batch_size` (1 to 1,000) answers travel in a message, `window` batches at most are on their way at once.
    `ca_file` turns TLS on: the server's certificate is checked by the CA certificates in it (PEM). `certificate_file`
    and `key_file` are shown to servers that demand a client certificate. `token_file` holds the bearer token. These
    files are read again when they change. `credentials` are gRPC's own, for what these do not cover. Without any of
    them the channel is plain, for loopback and for meshes that encrypt.
    """

    timeout_s: float = 30.0
    tries: int = 4
    batch_size: int = 100
    window: int = 4
    credentials: grpc.ChannelCredentials | None = None
    ca_file: Path | str | None = None
    certificate_file: Path | str | None = None
    key_file: Path | str | None = None
    token_file: Path | str | None = None

    def __post_init__(self) -> None:
        for name in FILES:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        for name, low, high in (("timeout_s", 0.001, 86_400), ("tries", 1, 5), ("batch_size", 1, MAX_BATCH)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInputError(f"{name} is {value}; expected {low:,} to {high:,}")
        if self.window < 1:
            raise InvalidInputError(f"window is {self.window}; expected at least 1")
        if self.credentials is not None and self.ca_file is not None:
            raise InvalidInputError("credentials and ca_file are set; expected one of them")
        if pair_of(_path(self.certificate_file), _path(self.key_file), PAIR) is not None and self.ca_file is None:
            raise InvalidInputError("ca_file is not set; expected the server's CA, since certificate_file is set")


def _path(file: Path | str | None) -> Path | None:
    return None if file is None else Path(file)


def open_channel(address: str, options: ClientOptions) -> grpc.aio.Channel:
    """Return the channel of a client; its calls spread over all addresses of the name.

    Raises:
        InvalidInputError: a file cannot be used.

    """
    settings, target = channel_options(options), target_of(address)
    pair = pair_of(_path(options.certificate_file), _path(options.key_file), PAIR)
    ca = _path(options.ca_file)
    access = Access(None if ca is None else ClientTls(ca, pair, "ca_file"), _path(options.token_file))

    def make(credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        credentials = credentials or options.credentials
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=settings)
        return grpc.aio.secure_channel(target, credentials, options=settings)

    return make(None) if access.plain else AccessChannel(access, make)


def channel_options(options: ClientOptions) -> Sequence[tuple[str, Any]]:
    """Options of the channel: message bounds, and gRPC's own retries of calls that the server did not answer."""
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
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
        ],
    }
    if options.tries == 1:
        del config["methodConfig"][0]["retryPolicy"]
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(config)),
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    ]
