"""Tokens of an OIDC issuer: JWTs that are checked here, without asking the issuer for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from safescale.core.errors import UnauthenticatedError
from safescale.runtime.auth.jwks import ALGORITHMS, KeySource
from safescale.runtime.auth.roles import Identity, held

LEEWAY_S = 30.0
"""Seconds by which clocks may differ."""

REQUIRED = ("exp", "iss", "aud", "sub")
MAX_NAME = 256


@dataclass(frozen=True)
class Oidc:
    """Whose tokens are let in, and where they say the roles."""

    issuer: str
    audience: str
    keys: KeySource
    roles_claim: str = "roles"

    async def identity(self, token: str) -> Identity:
        """Return whom a token identifies.

        Raises:
            UnauthenticatedError: it is no token of the issuer for us, or it has expired.
            DependencyUnavailableError: the keys of the issuer cannot be had.

        """
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _refused("it cannot be read") from error
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if algorithm not in ALGORITHMS or not isinstance(kid, str):
            raise _refused(f"its signature is none of {', '.join(ALGORITHMS)}")
        key = await self.keys.find(kid, algorithm)
        if key is None:
            raise _refused("it is signed by a key that the issuer does not publish")
        claims = self._checked(token, key.public, algorithm)
        subject = claims["sub"]
        if not subject or len(subject) > MAX_NAME:
            raise _refused(f"its subject is empty or has over {MAX_NAME} characters")
        return Identity(subject, held(roles_in(claims, self.roles_claim)), "oidc")

    def _checked(self, token: str, public: Any, algorithm: str) -> Mapping[str, Any]:
        try:
            return jwt.decode(
                token,
                public,
                algorithms=[algorithm],
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED)},
            )
        except jwt.ExpiredSignatureError as error:
            raise _refused("it has expired") from error
        except jwt.InvalidAudienceError as error:
            raise _refused("it is made for another audience") from error
        except jwt.InvalidIssuerError as error:
            raise _refused("it is of another issuer") from error
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"it lacks one of {', '.join(REQUIRED)}") from error
        # Claims of odd types leave the library as other errors than its own.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _refused("it cannot be verified") from error


def roles_in(claims: Mapping[str, Any], claim: str) -> list[str]:
    """Words of the roles claim: a list, or text with spaces. A name with dots leads into objects if no claim has it."""
    found: Any = claims.get(claim)
    if found is None:
        found = claims
        for part in claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()
    return [role for role in found if isinstance(role, str)] if isinstance(found, list) else []


def _refused(why: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"the token is refused: {why}")
