"""Settings from the environment (SAFESCALE_*) and from files named there; nothing else reads the environment."""

import socket
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from safescale.core.errors import InvalidInputError
from safescale.runtime.addresses import LOOPBACK


class Settings(BaseSettings):
    """Settings of a process. Each is the upper-cased name with the prefix SAFESCALE_, such as SAFESCALE_DATA_DIR.

    Secrets are never values: a setting that ends in `_file` names the file that holds them.
    """

    model_config = SettingsConfigDict(env_prefix="SAFESCALE_", extra="ignore", frozen=True, env_ignore_empty=True)

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("safescale"),
        description="Folder of the records: runs, contexts, generations, verdicts. One process writes to it at a time.",
    )
    models_file: Path | None = Field(default=None, description="Catalog rows added to the shipped ones (YAML).")
    instances: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Instances of each model in process, one thread each; one per core, at most two, unless set.",
    )
    call_timeout_s: float = Field(default=600.0, gt=0, description="Deadline of one call to a model, in seconds.")
    cell_timeout_s: float = Field(
        default=3600.0, gt=0, description="Deadline of one cell in seconds: all its calls, their retries and waits."
    )
    cache_max_bytes: int = Field(
        default=4 * 1024**3,
        ge=0,
        description="Bytes that the generation cache may hold; the oldest answers go beyond it. 0 for no bound.",
    )
    drain_timeout_s: float = Field(
        default=10.0,
        ge=0,
        description="Seconds that cells in flight have to end when a server is told to stop; others are done again.",
    )
    log_level: str = Field(default="WARNING", description="Least level of log lines: DEBUG, INFO, WARNING or ERROR.")
    host: str = Field(default=LOOPBACK, description="Address that gRPC, REST and /metrics listen on.")
    port: int = Field(default=50051, ge=0, le=65535, description="Port of gRPC, or of REST for the gateway; 0 any.")
    metrics_port: int = Field(default=9464, ge=0, le=65535, description="Port of /metrics when serving; 0 takes any.")
    cors_origins: str = Field(
        default="", description="Origins whose web pages may call the gateway, https://host,...; none unless set."
    )
    allowed_hosts: str = Field(
        default="",
        description="Names by which the gateway may be called, host,...: on loopback besides localhost, elsewhere any "
        "name unless set.",
    )
    instance: str = Field(
        default_factory=socket.gethostname,
        description="Name of this process among its replicas, stable over its restarts (Kafka's static membership).",
    )

    server: str = Field(default="", description="host:port where all four services answer.")
    inference: str = Field(default="", description="host:port of inference; empty: where `server` says.")
    retrieval: str = Field(default="", description="host:port of retrieval; empty: where `server` says.")
    orchestration: str = Field(default="", description="host:port of orchestration; empty: where `server` says.")
    scoring: str = Field(default="", description="host:port of scoring; empty: where `server` says.")

    tls_certificate_file: Path | None = Field(
        default=None, description="Certificate of gRPC and REST, and the client certificate towards our services (PEM)."
    )
    tls_key_file: Path | None = Field(default=None, description="Its key (PEM, without a password).")
    tls_ca_file: Path | None = Field(
        default=None, description="CA certificates of our services (PEM); set: calls to them use TLS."
    )
    tls_client_ca_file: Path | None = Field(
        default=None, description="CA certificates of clients (PEM); set: gRPC demands a client certificate."
    )
    tokens_file: Path | None = Field(
        default=None, description="Tokens that are let in: name, SHA-256 and role of each (YAML)."
    )
    oidc_issuer: str = Field(default="", description="URL of the issuer whose tokens (JWT) are let in.")
    oidc_audience: str = Field(default="", description="Audience that those tokens must be made for.")
    oidc_jwks_file: Path | None = Field(
        default=None, description="Keys of the issuer (JWKS); unset: found through its discovery document."
    )
    oidc_roles_claim: str = Field(
        default="roles", min_length=1, description="Claim that lists the roles; dots lead into objects."
    )
    token_file: Path | None = Field(
        default=None, description="File with the bearer token that this process presents to our services."
    )

    kafka: str = Field(default="", description="Kafka's bootstrap servers, host:port,...; empty: the bus in memory.")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Kafka's security protocol."
    )
    kafka_sasl: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="", description="SASL mechanism, with a SASL security protocol."
    )
    kafka_username: str = Field(default="", description="User of SASL.")
    kafka_password_file: Path | None = Field(default=None, description="File with the password of SASL.")
    kafka_ca_file: Path | None = Field(default=None, description="CA certificates of Kafka (PEM).")
    kafka_certificate_file: Path | None = Field(default=None, description="Client certificate for Kafka (PEM).")
    kafka_key_file: Path | None = Field(default=None, description="Key of the client certificate (PEM).")
    kafka_partitions: int = Field(default=6, ge=1, le=1000, description="Partitions of a topic when it is created.")
    kafka_replication: int = Field(default=1, ge=1, le=9, description="Replicas of a topic when it is created.")
    kafka_retention_hours: float = Field(default=168.0, gt=0, description="Hours for which topics keep messages.")

    elasticsearch: str = Field(
        default="", description="Elasticsearch's URLs, http(s)://host:port,...; empty: SQLite and memory."
    )
    elasticsearch_api_key_file: Path | None = Field(default=None, description="File with the API key (encoded form).")
    elasticsearch_ca_file: Path | None = Field(default=None, description="CA certificates of Elasticsearch (PEM).")
    elasticsearch_prefix: str = Field(
        default="safescale", pattern=r"^[a-z][a-z0-9-]{0,30}$", description="Begin of the names of indices."
    )
    elasticsearch_replicas: int = Field(default=0, ge=0, le=9, description="Replicas of an index when it is created.")

    embeddings: str = Field(
        default="", description="URL of an OpenAI-compatible server of /v1/embeddings; empty: MiniLM in process."
    )
    embeddings_model: str = Field(default="BAAI/bge-large-en-v1.5", description="Model that is asked for vectors.")
    embeddings_query_prefix: str = Field(
        default="", description="Put before queries, not before passages, as some models are trained to expect."
    )
    embeddings_api_key_file: Path | None = Field(default=None, description="File with its bearer token.")
    embeddings_ca_file: Path | None = Field(default=None, description="CA certificates of that server (PEM).")
    embeddings_tokenizer_file: Path | None = Field(
        default=None,
        description="tokenizer.json of the model that is asked for vectors; unless set, that of bert-base-uncased.",
    )
    embeddings_max_tokens: int | None = Field(
        default=None, ge=16, le=1_000_000, description="Tokens that model reads; what the server says, unless set."
    )

    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://[^/\s]+:\d+/?)?$",
        description="Collector of traces, http(s)://host:4317 (OTLP over gRPC); empty: no traces.",
    )
    trace_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of the cells that are traced, 0 to 1.")

    @property
    def distributed(self) -> bool:
        """Whether peers are named one by one."""
        return any((self.inference, self.retrieval, self.orchestration, self.scoring))

    def address_of(self, service: Literal["inference", "retrieval", "orchestration", "scoring"]) -> str:
        """host:port of a service, empty where none is named."""
        return str(getattr(self, service)) or self.server


def load_settings() -> Settings:
    """Load the settings of this process.

    Raises:
        InvalidInputError: a variable that cannot be read; the message names it, its value and what was expected.

    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"SAFESCALE_{'_'.join(map(str, e['loc'])).upper()} = {e.get('input')!r}: {e['msg']}" for e in error.errors()
        ]
        raise InvalidInputError("settings cannot be read:\n  " + "\n  ".join(lines)) from error


def read_secret(path: Path | None) -> str:
    """Content of a secret's file without the line end; empty when no file is named.

    Raises:
        InvalidInputError: the file cannot be read or is empty.

    """
    if path is None:
        return ""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the secret file {path} cannot be read; expected a readable text file") from error
    if not secret:
        raise InvalidInputError(f"the secret file {path} is empty; expected the secret")
    return secret
