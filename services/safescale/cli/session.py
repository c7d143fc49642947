"""A command's connection to the services: a named server, the process that holds the data folder, or its own host."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from safescale.cli.terminal.output import tell
from safescale.core.errors import InvalidInputError, ServiceUnavailableError
from safescale.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime.files.data_folder import DataDir, Use, announced_address, announced_server, in_use, users
from safescale.runtime.grpc.channels import connect
from safescale.runtime.grpc.credentials import access_of
from safescale.runtime.settings import Settings

if TYPE_CHECKING:
    from safescale.app.bootstrap import ServiceName
    from safescale.app.host import Host
    from safescale.rpc.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub
    from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceAsyncStub
    from safescale.rpc.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceAsyncStub
    from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceAsyncStub

T = TypeVar("T")

CONNECT_S = 5.0
LOOK_S = 0.2
"""Seconds between two looks at a data folder that another process holds."""

REPORTED_S = 2.0
"""Seconds of waiting for such a process after which the wait is reported."""

RESTART_S = 20.0
"""Seconds that a server which ended has to be started again, before a command takes its place."""

STARTING_S = 60.0
"""Seconds that such a process has to answer."""

SERVICES: tuple["ServiceName", ...] = ("inference", "retrieval", "orchestration", "scoring")


class Client:
    """Stubs of the four services. `address` is orchestration's; `embedded` is true where they run in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._use = Use(settings.data_dir)
        self._host: Host | None = None
        # Seconds for which the folder is left to a server that may come back.
        self._leave_s = 0.0
        self.address = ""
        self.inference: InferenceServiceAsyncStub
        self.retrieval: RetrievalServiceAsyncStub
        self.orchestration: OrchestrationServiceAsyncStub
        self.scoring: ScoringServiceAsyncStub

    @property
    def embedded(self) -> bool:
        """Whether the services live in this process."""
        return self._host is not None

    @property
    def guest(self) -> bool:
        """Whether the services live in another process that holds the data folder, and that may end before us."""
        return not (self.embedded or self._settings.server or self._settings.distributed)

    async def attach(self) -> None:
        """Find the services: where the settings say, or all at the process that holds the data folder, else here.

        Raises:
            ServiceUnavailableError: a named server does not answer.
            FailedPreconditionError: another process holds the folder and does not answer.
            SafescaleError: the services cannot be hosted here.

        """
        settings = self._settings
        if settings.server or settings.distributed:
            addresses: dict[str, str] = {name: getattr(settings, name) or settings.server for name in SERVICES}
            if missing := [name for name, address in addresses.items() if not address]:
                names = " and ".join(f"SAFESCALE_{name.upper()}" for name in missing)
                raise InvalidInputError(f"{names} not set; expected host:port of each service, or SAFESCALE_SERVER")
            return await self._connect(addresses)
        if settings.elasticsearch:
            return await self._become_host(None)
        self._use.begin()
        found = await self._folder()
        if isinstance(found, str):
            return await self._connect(dict.fromkeys(SERVICES, found))
        self._use.end()
        return await self._become_host(found)

    async def _become_host(self, data: DataDir | None) -> None:
        # Here and not above: a command that finds a server needs none of the services' libraries.
        from safescale.app.host import Host, HostOptions

        host = await self._stack.enter_async_context(Host(self._settings, HostOptions(data=data)))
        self._host = host
        self._make({name: host.channel(name) for name in SERVICES}, host.address)

    async def _folder(self) -> DataDir | str:
        """Lock and return the data folder, or return the address of the process that serves from it."""
        path = self._settings.data_dir
        begin = time.monotonic()
        reported = False
        while True:
            waited = time.monotonic() - begin
            data = DataDir(path)
            if waited >= self._leave_s and data.try_hold():
                return data
            address = announced_address(path)
            if address and await _serves(address, self._settings):
                self._leave_s = RESTART_S if announced_server(path) else 0.0
                return address
            if waited > STARTING_S + self._leave_s:
                raise in_use(path, f", which has not answered for {waited:.0f} s")
            if waited > REPORTED_S and not reported:
                reported = True
                tell(f"Waiting for the safescale process that holds the data folder {path} …")
            await asyncio.sleep(LOOK_S)

    async def _connect(self, addresses: Mapping[str, str]) -> None:
        access = access_of(self._settings)
        opened = {address: connect(address, access=access) for address in dict.fromkeys(addresses.values())}
        for channel in opened.values():
            self._stack.push_async_callback(channel.close)
        await asyncio.gather(*(wait_serving(channel, address) for address, channel in opened.items()))
        self._make({name: opened[address] for name, address in addresses.items()}, addresses["orchestration"])

    def _make(self, channels: Mapping[str, grpc.aio.Channel], address: str) -> None:
        self.address = address
        self.inference = InferenceServiceStub(channels["inference"])
        self.retrieval = RetrievalServiceStub(channels["retrieval"])
        self.orchestration = OrchestrationServiceStub(channels["orchestration"])
        self.scoring = ScoringServiceStub(channels["scoring"])

    async def renew(self) -> None:
        """Find the services anew after the process that served us ended: at another command, or here.

        Raises:
            SafescaleError: as `attach`.

        """
        before = self.address
        opened = False
        while not opened:
            await self._stack.aclose()
            try:
                await self.attach()
                opened = True
            except ServiceUnavailableError:
                # It too ended at this moment. Whoever holds the folder next is found, or it is us.
                await asyncio.sleep(LOOK_S)
        if self.address != before:
            here = "here" if self.embedded else f"at {self.address}"
            tell(f"The safescale process at {before}, which served this command, has ended; it goes on {here}.")

    async def lasting(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, repeated at the next server when the process that served it ended.

        Raises:
            SafescaleError: what `work` raises otherwise.

        """
        while True:
            try:
                return await work()
            except ServiceUnavailableError:
                if not self.guest or await _serves(self.address, self._settings):
                    raise
                await self.renew()

    async def linger(self) -> None:
        """Serve other commands on the data folder until they are done, or until Ctrl-C: they go on without us then."""
        if self._host is None:
            return
        reported = 0
        try:
            while count := self._others():
                if count != reported:
                    reported = count
                    tell(
                        f"Done. Serving {count} other command{'s' if count > 1 else ''} on {self._settings.data_dir} "
                        "until they are done; Ctrl-C ends this, and they go on by themselves."
                    )
                await asyncio.sleep(LOOK_S)
        except asyncio.CancelledError:
            # The work of this command is done: its exit code says so.
            if (task := asyncio.current_task()) is not None:
                task.uncancel()

    def _others(self) -> int:
        """Return how many other commands use this process, after hiding it from new ones where there are none."""
        folder = self._settings.data_dir
        if (count := users(folder)) or self._host is None:
            return count
        self._host.withdraw()
        if count := users(folder):
            self._host.announce()
        return count

    async def close(self) -> None:
        """Close the connections, or stop hosting."""
        self._use.end()
        await self._stack.aclose()


@asynccontextmanager
async def session(settings: Settings) -> AsyncIterator[Client]:
    """Connect to the services: each where the settings say, or all of the process that holds the data folder.

    Raises:
        ServiceUnavailableError: a named server does not answer, or the process that served us ended.
        SafescaleError: the services cannot be hosted here.

    """
    client = Client(settings)
    try:
        await client.attach()
        yield client
        await client.linger()
    except ServiceUnavailableError as error:
        if not client.guest or await _serves(client.address, settings):
            raise
        raise ServiceUnavailableError(
            f"the safescale process at {client.address}, which served this command, has ended; "
            "give the same command again"
        ) from error
    finally:
        await client.close()


async def _serves(address: str, settings: Settings) -> bool:
    async with AsyncExitStack() as stack:
        channel = connect(address, access=access_of(settings))
        stack.push_async_callback(channel.close)
        try:
            await wait_serving(channel, address)
        except ServiceUnavailableError:
            return False
    return True


async def wait_serving(channel: grpc.aio.Channel, address: str) -> None:
    """Return when the server says that it serves.

    Raises:
        ServiceUnavailableError: it does not answer, or says that it is not ready.

    """
    try:
        response: health_pb2.HealthCheckResponse = await health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(), timeout=CONNECT_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError as error:
        raise ServiceUnavailableError(f"no safescale server answers at {address}") from error
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        raise ServiceUnavailableError(f"the safescale server at {address} is not ready")
