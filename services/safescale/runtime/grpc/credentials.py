"""A channel that proves who calls: TLS that is renewed with its files, and a bearer token on each call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from safescale.runtime.auth.guard import AUTHORIZATION, PEER
from safescale.runtime.grpc.tls import ClientTls, channel_credentials, client_tls
from safescale.runtime.reloading import CHECK_S, ReloadingValue
from safescale.runtime.settings import Settings, read_secret

RETIRED = 4
"""Connections of earlier certificates that are kept for the calls that are on them."""

Metadata = Sequence[tuple[str, str]]
Making = Callable[[grpc.ChannelCredentials | None], grpc.aio.Channel]


@dataclass(frozen=True)
class Access:
    """How a process proves who it is to our services. Without anything, channels are plain.

    `peer` is the name of a service that calls another; files are checked every `check_s` seconds.
    """

    tls: ClientTls | None = None
    token_file: Path | None = None
    peer: str = ""
    check_s: float = CHECK_S

    @property
    def plain(self) -> bool:
        """Whether there is nothing to prove."""
        return self.tls is None and self.token_file is None and not self.peer


def access_of(settings: Settings, peer: str = "") -> Access:
    """Return the access that the settings of a process describe.

    Raises:
        InvalidInputError: settings that do not go together.

    """
    return Access(client_tls(settings), settings.token_file, peer)


class AccessChannel(grpc.aio.Channel):
    """A channel whose calls go over the newest certificates, with the newest token.

    When the certificates change, new calls go over a new connection; those under way end on theirs.
    """

    def __init__(self, access: Access, make: Making) -> None:
        """Read the files; InvalidInputError when one cannot be used."""
        self._make = make
        self._credentials = None if access.tls is None else channel_credentials(access.tls, access.check_s)
        file = access.token_file
        self._token = None if file is None else ReloadingValue([file], lambda: read_secret(file), access.check_s)
        self._fixed = ((PEER, access.peer),) if access.peer else ()
        self._used = None if self._credentials is None else self._credentials.get()
        self._channels = [make(self._used)]

    def current(self) -> grpc.aio.Channel:
        """Return the channel for new calls."""
        if self._credentials is not None and (newest := self._credentials.get()) is not self._used:
            self._used = newest
            # Those of long ago are dropped, and with the last reference closed.
            self._channels = [*self._channels[-RETIRED:], self._make(newest)]
        return self._channels[-1]

    def metadata(self, given: Any) -> Any:
        """Metadata of a call: what was given, and the token unless one was given."""
        found = (*(given or ()), *self._fixed)
        if self._token is None or any(name == AUTHORIZATION for name, _ in found):
            return found or None
        return (*found, (AUTHORIZATION, f"Bearer {self._token.get()}"))

    async def __aenter__(self) -> "AccessChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close all connections."""
        for channel in self._channels:
            await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """State of the connection for new calls."""
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state is another one."""
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return when it is connected."""
        await self.current().channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Callable of a method."""
        return _callable(self, lambda channel: channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Callable of a method."""
        return _callable(self, lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Callable of a method."""
        return _callable(self, lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Callable of a method."""
        return _callable(self, lambda channel: channel.stream_stream(*args, **kwargs))


def _callable(owner: AccessChannel, of: Callable[[grpc.aio.Channel], Any]) -> Callable[..., Any]:
    made: tuple[grpc.aio.Channel, Any] | None = None

    def call(*args: Any, metadata: Any = None, **kwargs: Any) -> Any:
        nonlocal made
        channel = owner.current()
        if made is None or made[0] is not channel:
            made = (channel, of(channel))
        return made[1](*args, metadata=owner.metadata(metadata), **kwargs)

    return call


class WithMetadata:
    """A channel whose calls carry some metadata, for stubs that call on behalf of somebody."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self._channel = channel
        self._metadata = tuple(metadata)

    def _bound(self, callable_: Any) -> Callable[..., Any]:
        def call(*args: Any, metadata: Any = None, **kwargs: Any) -> Any:
            return callable_(*args, metadata=(*(metadata or ()), *self._metadata), **kwargs)

        return call

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Callable of a method."""
        return self._bound(self._channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Callable of a method."""
        return self._bound(self._channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Callable of a method."""
        return self._bound(self._channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Callable of a method."""
        return self._bound(self._channel.stream_stream(*args, **kwargs))
