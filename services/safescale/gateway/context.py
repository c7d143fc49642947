"""What a route works with: the services, the limits, and whether the process is about to end."""

import asyncio
from typing import Annotated

from fastapi import Depends, Request

from safescale.gateway.config import GatewayConfig
from safescale.gateway.peers import Services
from safescale.gateway.slots import Slots


class Gateway:
    """One gateway process. It keeps nothing of what it serves."""

    def __init__(self, config: GatewayConfig, services: Services) -> None:
        limits = config.limits
        self.config = config
        self.services = services
        self.draining = asyncio.Event()
        self.uploads = Slots(limits.uploads, "uploads")
        self.reports = Slots(limits.reports, "reports")
        self.event_streams = Slots(limits.event_streams, "event streams")


def gateway_of(request: Request) -> Gateway:
    """The gateway of a request's application."""
    found: Gateway = request.app.state.gateway
    return found


GatewayOf = Annotated[Gateway, Depends(gateway_of)]
