"""What the gateway is built from: where the services are, where to listen, limits and deadlines."""

import re
from dataclasses import dataclass, field

from safescale.core.errors import InvalidInputError
from safescale.runtime.addresses import LOOPBACK, host_of
from safescale.runtime.grpc.credentials import Access
from safescale.runtime.grpc.tls import Pair, client_tls, pair_of
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

KIB = 1024
MIB = 1024 * KIB
MAX_PAGE = 1000
DEFAULT_PAGE = 100


@dataclass(frozen=True)
class Addresses:
    """host:port of each service; they may be one."""

    inference: str
    retrieval: str
    orchestration: str
    scoring: str


@dataclass(frozen=True)
class Limits:
    """What one request, and all at a time, may take. Sizes in bytes."""

    benchmark_bytes: int = 32 * MIB
    corpus_bytes: int = 1024 * MIB
    line_bytes: int = 32 * MIB
    spec_bytes: int = 256 * KIB
    policy_bytes: int = 256 * KIB
    review_bytes: int = 64 * KIB
    requests: int = 256
    uploads: int = 4
    reports: int = 2
    event_streams: int = 100


@dataclass(frozen=True)
class Deadlines:
    """Seconds that the calls behind a request may take, and for which a sender may be silent."""

    quick_s: float = 30.0
    slow_s: float = 600.0
    ingest_s: float = 24 * 3600.0
    stream_s: float = 6 * 3600.0
    events_s: float = 3600.0
    idle_s: float = 30.0
    heartbeat_s: float = 15.0
    drain_s: float = 10.0


@dataclass(frozen=True)
class GatewayConfig:
    """The settings of a gateway. It holds no state: two of the same settings answer alike.

    `cors_origins` are the origins whose pages may call it; none by default. `allowed_hosts` are the names by which it
    may be called besides localhost; on an address that others reach, none means any. `pair` is the certificate of
    HTTPS; plain HTTP without. `access` never holds a token: the gateway passes on those of its callers.
    """

    addresses: Addresses
    telemetry: Telemetry
    host: str = LOOPBACK
    port: int = 0
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)
    pair: Pair | None = None
    access: Access = field(default_factory=Access)


def _listed(setting: str) -> tuple[str, ...]:
    return tuple(each for each in map(str.strip, setting.split(",")) if each)


def gateway_config(settings: Settings, telemetry: Telemetry) -> GatewayConfig:
    """Return the configuration that the settings of a process describe.

    Raises:
        InvalidInputError: the address of a service is not set, an origin is not valid, or files of TLS do not match.

    """
    found = {
        "inference": settings.address_of("inference"),
        "retrieval": settings.address_of("retrieval"),
        "orchestration": settings.address_of("orchestration"),
        "scoring": settings.address_of("scoring"),
    }
    missing = [f"SAFESCALE_{name.upper()}" for name, address in found.items() if not address]
    if missing:
        names = ", ".join(missing)
        raise InvalidInputError(f"{names} not set; the gateway expects host:port of each service, or SAFESCALE_SERVER")
    origins = _listed(settings.cors_origins)
    wrong = [origin for origin in origins if not re.fullmatch(r"https?://[^/\s*]+", origin)]
    if wrong:
        raise InvalidInputError(
            f"SAFESCALE_CORS_ORIGINS holds {wrong[0]!r}; expected https://host or https://host:port"
        )
    hosts = tuple(host_of(name) for name in _listed(settings.allowed_hosts))
    wrong = [name for name in hosts if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9])?|[0-9a-f:.]+", name)]
    if wrong or any("/" in name for name in _listed(settings.allowed_hosts)):
        raise InvalidInputError(
            f"SAFESCALE_ALLOWED_HOSTS is {settings.allowed_hosts!r}; expected names such as safescale.example,..."
        )
    return GatewayConfig(
        Addresses(**found),
        telemetry,
        settings.host,
        settings.port,
        origins,
        hosts,
        pair=pair_of(settings.tls_certificate_file, settings.tls_key_file),
        access=Access(client_tls(settings)),
    )
