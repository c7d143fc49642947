"""Asks the services whether a caller may do something, before anything that the caller sends is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from safescale.core.errors import (
    BackendTimeoutError,
    DependencyUnavailableError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from safescale.gateway.clients import Services, error_of
from safescale.gateway.context import GatewayOf
from safescale.runtime.auth.interceptor import CHECK


@dataclass(frozen=True, eq=False)
class MayCall:
    """A dependency of routes that take a body: their caller may call a method, which is asked with an empty request.

    `kind` is `read` where the route changes nothing, though the method would.
    """

    method: Callable[[Services], Any]
    request: Any
    kind: Literal["read", "write"] = "write"

    async def __call__(self, gateway: GatewayOf) -> None:
        """Return when the caller may.

        Raises:
            UnauthenticatedError: no token, or one that is not known.
            PermissionDeniedError: the role is not enough.
            DependencyUnavailableError: the service that decides cannot be reached.

        """
        call = self.method(gateway.services)
        try:
            await call(self.request, timeout=gateway.config.deadlines.quick_s, metadata=((CHECK, self.kind),))
        except grpc.aio.AioRpcError as error:
            known = error_of(error)
            refusals = (UnauthenticatedError, PermissionDeniedError, DependencyUnavailableError, BackendTimeoutError)
            if isinstance(known, refusals):
                raise known from error
            # A service of a version that does not know the question refuses the empty request, but not its caller.
