"""How Kafka is reached: addresses, SASL, TLS, and the settings that all clients share."""

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient  # type: ignore[import-untyped]
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]

from safescale.core.errors import BusUnavailableError, InvalidInputError
from safescale.runtime.log import get_logger
from safescale.runtime.settings import Settings, read_secret

CONNECT_MS = 10_000
"""Milliseconds that one attempt to reach a broker may take."""

REQUEST_MS = 30_000
"""Milliseconds that a broker has for an answer."""

RECONNECT_MAX_MS = 2_000
"""Milliseconds between attempts to reach a broker that is away: it is used again soon after it is back."""


@dataclass(frozen=True)
class KafkaConnection:
    """Where Kafka is and how a client proves who it is."""

    servers: tuple[str, ...]
    security: str = "PLAINTEXT"
    sasl: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Addresses as messages name them."""
        return ",".join(self.servers)

    def options(self) -> dict[str, Any]:
        """Options of any client of kafka-python."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "client_id": "safescale",
            "security_protocol": self.security,
            "bootstrap_timeout_ms": CONNECT_MS,
            "request_timeout_ms": REQUEST_MS,
            "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
            "kafka_client": network,
        }
        if self.tls is not None:
            options["ssl_context"] = self.tls
        if self.sasl:
            options["sasl_mechanism"] = self.sasl
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        return options


def network(**configs: Any) -> Any:
    """kafka-python's network client. It does not receive the option that prevents accidental creation of topics."""
    client = KafkaNetClient(**configs)
    client.cluster.config["allow_auto_create_topics"] = False
    return client


def connection_of(settings: Settings) -> KafkaConnection:
    """Return the connection that the settings describe; files are read and checked now.

    Raises:
        InvalidInputError: settings that do not go together, or a file that cannot be used.

    """
    servers = _servers(settings.kafka)
    security = settings.kafka_security
    with_sasl = security.startswith("SASL")
    if with_sasl and not settings.kafka_sasl:
        raise InvalidInputError(f"SAFESCALE_KAFKA_SASL is empty; expected a mechanism, since security is {security}")
    if settings.kafka_sasl and not with_sasl:
        raise InvalidInputError(
            f"SAFESCALE_KAFKA_SECURITY is {security}; expected SASL_SSL or SASL_PLAINTEXT, "
            f"since SAFESCALE_KAFKA_SASL is {settings.kafka_sasl}"
        )
    password = ""
    if with_sasl:
        for name, value in (("USERNAME", settings.kafka_username), ("PASSWORD_FILE", settings.kafka_password_file)):
            if not value:
                raise InvalidInputError(f"SAFESCALE_KAFKA_{name} is empty; expected a value for {settings.kafka_sasl}")
        password = read_secret(settings.kafka_password_file)
    tls = _tls(settings) if security.endswith("SSL") else None
    return KafkaConnection(servers, security, settings.kafka_sasl, settings.kafka_username, password, tls)


def _servers(text: str) -> tuple[str, ...]:
    servers = tuple(part.strip() for part in text.split(",") if part.strip())
    if not servers:
        raise InvalidInputError("SAFESCALE_KAFKA is empty; expected Kafka's bootstrap servers, host:port,...")
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise InvalidInputError(f"SAFESCALE_KAFKA holds {server!r}; expected host:port")
    return servers


def _tls(settings: Settings) -> ssl.SSLContext:
    certificate, key = settings.kafka_certificate_file, settings.kafka_key_file
    if key and not certificate:
        raise InvalidInputError("SAFESCALE_KAFKA_CERTIFICATE_FILE is empty; expected the certificate of the key file")
    try:
        context = ssl.create_default_context(cafile=_text(settings.kafka_ca_file))
    except OSError as error:
        raise InvalidInputError(
            f"SAFESCALE_KAFKA_CA_FILE {settings.kafka_ca_file} cannot be used; expected certificates in PEM"
        ) from error
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except OSError as error:
            raise InvalidInputError(
                f"SAFESCALE_KAFKA_CERTIFICATE_FILE {certificate} cannot be used with its key {key or certificate}; "
                "expected a certificate and its key in PEM, the key without a password"
            ) from error
    return context


def _no_password() -> str:
    # Without this, OpenSSL would prompt on the terminal.
    return ""


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def unavailable(connection: KafkaConnection, error: BaseException) -> BusUnavailableError:
    """Return the error to raise for an error of the client; its text holds no content of messages."""
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
        why = "it refused the credentials (SAFESCALE_KAFKA_SASL, _USERNAME, _PASSWORD_FILE)"
    elif isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        why = f"it does not offer {connection.sasl}"
    elif isinstance(error, kafka_errors.AuthorizationError):
        why = f"this user may not do that ({type(error).__name__})"
    elif isinstance(error, kafka_errors.KafkaTimeoutError | kafka_errors.KafkaConnectionError):
        # The client retries after a refusal, too, and reports only this in the end.
        refused = ", or it refused the credentials or the certificate" if connection.security != "PLAINTEXT" else ""
        why = f"no answer in time{refused}"
    else:
        why = type(error).__name__
    return BusUnavailableError(f"Kafka at {connection.name}: {why}")


def open_admin(connection: KafkaConnection) -> Any:
    """Return a client for topics and groups. Blocks until a broker answers.

    Raises:
        BusUnavailableError: none answers in time, or it refuses us.

    """
    try:
        return KafkaAdminClient(**connection.options())
    except kafka_errors.KafkaError as error:
        raise unavailable(connection, error) from error


def consumer_group(group: str, topic: str) -> str:
    """Kafka's name of a group that reads a topic.

    One group per topic, so that a rebalance does not affect consumers of other topics.
    """
    return f"safescale.{group}.{topic.removeprefix('safescale.')}"


class _Forward(logging.Handler):
    """Writes the client's warnings to our log: only their fixed text, since arguments can hold content.

    At level INFO: an outage causes many of them, and our own errors report what matters.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        types = [type(item).__name__ for item in arguments if isinstance(item, BaseException)]
        get_logger("kafka").info(
            "client", where=record.name, kind=record.levelname, reason=str(record.msg)[:300], exception_type=types
        )


def forward_logs() -> None:
    """Send the warnings of kafka-python to our log; done once for the process."""
    logger = logging.getLogger("kafka")
    if not any(isinstance(handler, _Forward) for handler in logger.handlers):
        logger.addHandler(_Forward(level=logging.WARNING))
        logger.propagate = False
        logger.setLevel(logging.WARNING)
