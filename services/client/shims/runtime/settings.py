"""What the client's modules use of the settings of services: it has options instead, and reads no environment."""

from pathlib import Path
from typing import Any

from safescale.core.errors import InvalidInputError

Settings = Any


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
