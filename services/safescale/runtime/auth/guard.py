"""Lets calls in: finds who calls by the bearer token, and whether their role is enough."""

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from safescale.core.errors import (
    InvalidInputError,
    PeerRefusedError,
    PermissionDeniedError,
    SafescaleError,
    UnauthenticatedError,
)
from safescale.runtime.auth.roles import HELD, METHODS, UNKNOWN, Identity
from safescale.runtime.auth.tokens import digest, read_tokens
from safescale.runtime.reloading import ReloadingValue
from safescale.runtime.settings import Settings

if TYPE_CHECKING:
    from safescale.runtime.auth.oidc import Oidc

AUTHORIZATION = "authorization"
PEER = "x-safescale-peer"
"""Key of metadata by which a service of ours says its name. It gives no right; it only words a refusal."""

_BEARER = re.compile(r"[Bb]earer +([\x21-\x7e]+)")

Metadata = Iterable[tuple[str, Any]]


class Guard:
    """Who is let in: the tokens of a file, those of an issuer, and this process itself."""

    def __init__(self, tokens: ReloadingValue[Mapping[str, Identity]] | None, oidc: "Oidc | None") -> None:
        self._tokens = tokens
        self._oidc = oidc
        self.own_token = secrets.token_urlsafe(32)
        """What this process presents to itself, made anew at each start."""

    async def admit(self, method: str, metadata: Metadata) -> Identity:
        """Who calls, when they may.

        Raises:
            UnauthenticatedError: no token, or one that is not known.
            PermissionDeniedError: the role is not enough.
            PeerRefusedError: the same, to a service of ours.
            DependencyUnavailableError: the keys of the issuer cannot be had.

        """
        given = {name: value for name, value in metadata if name in (AUTHORIZATION, PEER)}
        try:
            identity = await self._identity(given.get(AUTHORIZATION, ""))
            _check(method, identity)
        except (UnauthenticatedError, PermissionDeniedError) as error:
            if PEER not in given:
                raise
            raise PeerRefusedError(
                f"the call of {str(given[PEER])[:40]} is refused (its SAFESCALE_TOKEN_FILE): {error.message}"
            ) from error
        return identity

    async def name_of(self, metadata: Metadata) -> Identity:
        """Return who calls, whether they may or not; an unknown caller where the token identifies nobody."""
        given = {name: value for name, value in metadata if name == AUTHORIZATION}
        try:
            return await self._identity(given.get(AUTHORIZATION, ""))
        except SafescaleError:
            return UNKNOWN

    async def _identity(self, authorization: str | bytes) -> Identity:
        if not authorization:
            raise UnauthenticatedError("a bearer token is needed; none was given")
        found = _BEARER.fullmatch(authorization) if isinstance(authorization, str) else None
        if found is None:
            raise UnauthenticatedError("the authorization cannot be read; expected `Bearer` and a token")
        token = found[1]
        if hmac.compare_digest(token, self.own_token):
            return Identity("process", HELD["admin"], "process")
        known = None if self._tokens is None else self._tokens.get().get(digest(token))
        if known is not None:
            return known
        if self._oidc is not None and token.count(".") == 2:
            return await self._oidc.identity(token)
        raise UnauthenticatedError("the token is not known")


def _check(method: str, identity: Identity) -> None:
    role = METHODS.get(method)
    if role is None:
        raise PermissionDeniedError(f"{method.rsplit('/', 1)[-1]} has no role in the table of methods; nobody may call")
    if role not in identity.roles:
        raise PermissionDeniedError(
            f"{method.rsplit('/', 1)[-1]} needs the role {role}; {identity.name} does not hold it",
            details={"role": role},
        )


def guard_of(settings: Settings) -> Guard | None:
    """Return the guard that the settings describe; None where no credentials are required.

    Raises:
        InvalidInputError: settings that do not go together, or a file that cannot be used.

    """
    path = settings.tokens_file
    tokens = None if path is None else ReloadingValue([path], lambda: read_tokens(path))
    oidc = _oidc(settings)
    return None if tokens is None and oidc is None else Guard(tokens, oidc)


def _oidc(settings: Settings) -> "Oidc | None":
    issuer = settings.oidc_issuer
    if not issuer:
        for name in ("audience", "jwks_file"):
            if getattr(settings, f"oidc_{name}"):
                raise InvalidInputError(
                    f"SAFESCALE_OIDC_ISSUER is empty; expected a URL, since SAFESCALE_OIDC_{name.upper()} is set"
                )
        return None
    try:
        parts = urlsplit(issuer)
    except ValueError as error:
        raise InvalidInputError(f"SAFESCALE_OIDC_ISSUER is {issuer!r}; expected an https:// URL") from error
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise InvalidInputError(f"SAFESCALE_OIDC_ISSUER is {issuer!r}; expected an https:// URL")
    if not settings.oidc_audience:
        raise InvalidInputError("SAFESCALE_OIDC_AUDIENCE is empty; expected the audience that tokens are made for")
    from safescale.runtime.auth.jwks import FileKeys, IssuerKeys
    from safescale.runtime.auth.oidc import Oidc

    keys = FileKeys(settings.oidc_jwks_file) if settings.oidc_jwks_file else IssuerKeys(issuer)
    return Oidc(issuer, settings.oidc_audience, keys, settings.oidc_roles_claim)
