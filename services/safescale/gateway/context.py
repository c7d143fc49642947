"""What a route works with: the services, the limits, and whether the process is about to end."""

import asyncio
import copy
import re
from typing import Annotated

from fastapi import Depends, Request

from safescale.core.errors import UnauthenticatedError
from safescale.gateway.clients import Services
from safescale.gateway.config import GatewayConfig
from safescale.gateway.http.concurrency import ConcurrencyLimit
from safescale.gateway.http.middleware import request_id_of
from safescale.runtime.auth.audit import REQUEST_ID
from safescale.runtime.auth.guard import AUTHORIZATION
from safescale.runtime.grpc.credentials import Metadata

MAX_HEADER = 16_000
"""Characters of an Authorization header that are passed on."""

_PLAIN = re.compile(rf"[\x20-\x7e]{{1,{MAX_HEADER}}}")


class Gateway:
    """One gateway process. It keeps nothing of what it serves."""

    def __init__(self, config: GatewayConfig, services: Services) -> None:
        limits = config.limits
        self.config = config
        self.services = services
        self.draining = asyncio.Event()
        self.uploads = ConcurrencyLimit(limits.uploads, "uploads")
        self.reports = ConcurrencyLimit(limits.reports, "reports")
        self.event_streams = ConcurrencyLimit(limits.event_streams, "event streams")

    def on_behalf(self, metadata: Metadata) -> "Gateway":
        """Return the same gateway with metadata on its calls; limits and draining are shared."""
        found = copy.copy(self)
        found.services = self.services.on_behalf(metadata)
        return found


def gateway_of(request: Request) -> Gateway:
    """Return the gateway of a request's application, which calls the services with the caller's token.

    The services decide about the token: the gateway only passes it on.

    Raises:
        UnauthenticatedError: the header cannot be passed on.

    """
    found: Gateway = request.app.state.gateway
    metadata = [(REQUEST_ID, request_id_of(request.scope))]
    given = request.headers.get(AUTHORIZATION)
    if given:
        if not _PLAIN.fullmatch(given):
            expected = f"expected ASCII of up to {MAX_HEADER:,} characters"
            raise UnauthenticatedError(f"the Authorization header cannot be read; {expected}")
        metadata.append((AUTHORIZATION, given))
    return found.on_behalf(metadata)


GatewayOf = Annotated[Gateway, Depends(gateway_of)]
