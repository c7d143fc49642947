"""The tokens file: name, SHA-256 and role of each token. Tokens themselves are not stored."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from safescale.core.errors import InvalidInputError, SafescaleError
from safescale.core.inputs.records import Source, shown
from safescale.runtime.auth.roles import HELD, Identity, Role
from safescale.runtime.files.reading import parse_yaml

PREFIX = "safescale_"
"""Begin of our tokens, so that scanners for secrets can find them where they should not be."""

FIELDS = ("name", "sha256", "role")
ROLES: tuple[str, ...] = get_args(Role)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_NAME_SAYS = "1 to 64 letters, digits and . _ @ -, a letter or digit first"


def new_token() -> str:
    """Return a random token of 256 bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """SHA-256 of a token in hex. Tokens are random and long, so that no slow hash is needed."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def check_name(name: str) -> str:
    """Return the name if it is valid.

    Raises:
        InvalidInputError: it is none.

    """
    if not NAME.fullmatch(name):
        raise InvalidInputError(f"the name {shown(name)} cannot be used; expected {_NAME_SAYS}")
    return name


def entry(name: str, token: str, role: Role) -> str:
    """Return the line of a token in the tokens file."""
    return f"  - {{name: {name!r}, sha256: {digest(token)}, role: {role}}}"


def read_tokens(path: Path) -> Mapping[str, Identity]:
    """Whose token has which SHA-256.

    Raises:
        InvalidInputError: the file cannot be read, or an entry is wrong; the message names it, never a token.

    """
    try:
        content = parse_yaml(Source(str(path), path.read_bytes()))
    except (OSError, SafescaleError) as error:
        raise InvalidInputError(f"SAFESCALE_TOKENS_FILE {path} cannot be read; expected a file in YAML") from error
    rows = content.get("tokens") if isinstance(content, dict) and set(content) == {"tokens"} else None
    if not isinstance(rows, list) or not rows:
        raise InvalidInputError(f"SAFESCALE_TOKENS_FILE {path}: expected `tokens:` and a list with an entry at least")
    found: dict[str, Identity] = {}
    for number, row in enumerate(rows, 1):
        sha256, identity = _entry(row, f"SAFESCALE_TOKENS_FILE {path}: token {number}")
        if sha256 in found:
            raise InvalidInputError(f"SAFESCALE_TOKENS_FILE {path}: token {number} has the sha256 of another one")
        found[sha256] = identity
    return found


def _entry(row: Any, place: str) -> tuple[str, Identity]:
    if not isinstance(row, dict) or set(row) != set(FIELDS):
        raise InvalidInputError(f"{place} is wrong; expected the fields {', '.join(FIELDS)} and no others")
    name, sha256, role = (row[field] for field in FIELDS)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidInputError(f"{place}: name = {shown(name)}; expected {_NAME_SAYS}")
    # Not shown: somebody may have written the token itself.
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InvalidInputError(f"{place} ({name}): sha256 is wrong; expected 64 hex digits, the SHA-256 of the token")
    if role not in ROLES:
        raise InvalidInputError(f"{place} ({name}): role = {shown(role)}; expected one of {', '.join(ROLES)}")
    return sha256.lower(), Identity(name, HELD[role], "token")
