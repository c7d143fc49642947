"""Settings from the environment (SAFESCALE_*) and from files named there; nothing else reads the environment."""

from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from safescale.core.errors import InvalidInputError


class Settings(BaseSettings):
    """Settings of a process. Each is the upper-cased name with the prefix SAFESCALE_, such as SAFESCALE_DATA_DIR."""

    model_config = SettingsConfigDict(env_prefix="SAFESCALE_", extra="ignore", frozen=True)

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("safescale"),
        description="Folder of the records: runs, contexts, generations, verdicts. One process writes to it at a time.",
    )
    server: str = Field(default="", description="host:port of a running server; empty hosts the services in process.")
    models_file: Path | None = Field(default=None, description="Catalog rows added to the shipped ones (YAML).")
    instances: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Instances of each model in process, one thread each; one per core, at most two, unless set.",
    )
    call_timeout_s: float = Field(default=600.0, gt=0, description="Deadline of one call to a model, in seconds.")
    log_level: str = Field(default="WARNING", description="Least level of log lines: DEBUG, INFO, WARNING or ERROR.")
    metrics_port: int = Field(default=9464, ge=0, le=65535, description="Port of /metrics when serving; 0 takes any.")


def load_settings() -> Settings:
    """Settings of this process.

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
