"""Keys of an OIDC issuer: from its discovery document, cached and renewed, or from a file."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt import PyJWK, PyJWTError

from safescale.core.errors import DependencyUnavailableError, InvalidInputError
from safescale.runtime.log import get_logger
from safescale.runtime.reloading import CHECK_S, ReloadingValue

ALGORITHMS = ("RS256", "ES256", "PS256")
"""Signatures that are accepted. All are of key pairs, so that no public key can be taken for a shared secret."""

RSA_BITS = 2048
"""Shortest RSA key that is used."""

MAX_BYTES = 1024 * 1024
TIMEOUT_S = 5.0
FRESH_S = 300.0
"""Seconds for which keys are used without asking again."""

STALE_S = 3600.0
"""Seconds for which keys are used while the issuer cannot be reached."""

COOLDOWN_S = 30.0
"""Seconds between two fetches because of keys that are not known: anybody can name one."""

RETRY_S = 5.0
"""Seconds after a fetch that failed."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key; `algorithms` are those that it may be used with."""

    kid: str
    algorithms: frozenset[str]
    public: Any = field(repr=False)


Keys = Sequence[Key]


class KeySource(Protocol):
    """Gives the key that a token names."""

    async def find(self, kid: str, algorithm: str) -> Key | None:
        """Return the key of an id (empty: the only key) for an algorithm; None when there is no such key.

        Raises DependencyUnavailableError when a request to the issuer is needed and it cannot be reached.
        """


def keys_of(jwks: Any) -> Keys:
    """Return the usable keys of a set; others are ignored, as the standard requires.

    Raises:
        ValueError: it is no set of keys, or none of them can be used.

    """
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise ValueError("no JWKS: expected an object with the list `keys`")
    found = [key for row in jwks["keys"] if isinstance(row, dict) for key in _key(row)]
    if not found:
        raise ValueError(f"no key for {', '.join(ALGORITHMS)}")
    return found


def _key(row: Mapping[str, Any]) -> list[Key]:
    if row.get("kty") not in ("RSA", "EC") or row.get("use", "sig") != "sig":
        return []
    try:
        public = PyJWK(dict(row)).key
    except (PyJWTError, ValueError, TypeError):
        return []
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= RSA_BITS:
        able = {"RS256", "PS256"}
    elif isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        able = {"ES256"}
    else:
        return []
    declared = row.get("alg")
    algorithms = frozenset(able if declared is None else able & {declared})
    return [Key(str(row.get("kid", "")), algorithms, public)] if algorithms else []


def chosen(keys: Keys, kid: str, algorithm: str) -> Key | None:
    """Return the key of an id for an algorithm; without an id the key of a set that has only one."""
    able = [key for key in keys if algorithm in key.algorithms]
    if not kid:
        return able[0] if len(able) == 1 else None
    return next((key for key in able if key.kid == kid), None)


class FileKeys:
    """Keys of a JWKS file, read again when it changes."""

    def __init__(self, path: Path, check_s: float = CHECK_S) -> None:
        """Read the file; InvalidInputError when it cannot be used."""

        def load() -> Keys:
            try:
                return keys_of(json.loads(path.read_bytes()))
            except (OSError, ValueError) as error:
                what = error.strerror if isinstance(error, OSError) else str(error)
                raise InvalidInputError(f"SAFESCALE_OIDC_JWKS_FILE {path} cannot be used: {what}") from error

        self._keys = ReloadingValue([path], load, check_s)

    async def find(self, kid: str, algorithm: str) -> Key | None:
        """Return the key of an id for an algorithm."""
        return chosen(self._keys.get(), kid, algorithm)


class IssuerKeys:
    """Keys that an issuer publishes. Only the issuer of the settings is requested, never an address in a token."""

    def __init__(
        self,
        issuer: str,
        fetch: Callable[[str], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch or fetch_json
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys: Keys = ()
        self._fetched = 0.0
        self._not_before = 0.0
        self._failed = False

    async def find(self, kid: str, algorithm: str) -> Key | None:
        """Return the key of an id for an algorithm.

        Raises:
            DependencyUnavailableError: the issuer cannot be reached, and no key of it is known that is new enough.

        """
        key = self._known(kid, algorithm, FRESH_S)
        if key is not None:
            return key
        old = self._known(kid, algorithm, STALE_S)
        if old is not None and self._lock.locked():
            return old
        async with self._lock:
            if self._known(kid, algorithm, FRESH_S) is None and self._clock() >= self._not_before:
                await self._renew()
        key = self._known(kid, algorithm, STALE_S)
        if key is None and self._failed:
            raise DependencyUnavailableError("the keys of the OIDC issuer cannot be had now")
        return key

    def _known(self, kid: str, algorithm: str, age_s: float) -> Key | None:
        young = bool(self._keys) and self._clock() - self._fetched < age_s
        return chosen(self._keys, kid, algorithm) if young else None

    async def _renew(self) -> None:
        try:
            keys = await asyncio.to_thread(self._published)
        except (OSError, ValueError, HTTPException) as error:
            self._failed = True
            self._not_before = self._clock() + RETRY_S
            get_logger("auth").warning("keys of the issuer not had", reason=str(error)[:300])
            return
        self._failed = False
        self._keys = keys
        self._fetched = self._clock()
        self._not_before = self._fetched + COOLDOWN_S

    def _published(self) -> Keys:
        document = self._fetch(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise ValueError("the discovery document is not that of SAFESCALE_OIDC_ISSUER")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or urlsplit(address).scheme not in ("https", urlsplit(self._issuer).scheme):
            raise ValueError("the discovery document has no jwks_uri that begins with https://")
        return keys_of(self._fetch(address))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse redirects: an issuer that moved has to be named in the settings."""


def fetch_json(url: str) -> Any:
    """JSON of a URL, at most 1 MiB; a redirect is an error.

    Raises:
        OSError, HTTPException: it cannot be reached, or answers something that is not HTTP.
        ValueError: it is no JSON, or too large.

    """
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(urllib.request.Request(url, headers={"Accept": "application/json"}), timeout=TIMEOUT_S) as found:  # noqa: S310
        content = found.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    return json.loads(content)
