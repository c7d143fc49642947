"""What a hosted service is: something that registers gRPC handlers, starts workers and drains them."""

from typing import Protocol

import grpc


class Service(Protocol):
    """A service as its host sees it."""

    @property
    def name(self) -> str:
        """Full gRPC service name, such as safescale.scoring.v1.ScoringService; also its name in health checks."""

    def register(self, server: grpc.aio.Server) -> None:
        """Add the gRPC handlers to a server that has not started."""

    async def start(self) -> None:
        """Start workers; returns when the service can answer. Raises SafescaleError when it cannot."""

    async def stop(self) -> None:
        """Take no more messages, finish those in flight, release resources."""
