"""The records, opened by a command that reads or writes them beside the services."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from safescale.core.errors import InvalidInputError, NotFoundError
from safescale.runtime.addresses import host_of, is_loopback
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.files.data_folder import DataDir, announced_address
from safescale.runtime.settings import Settings


@asynccontextmanager
async def open_records(settings: Settings, alone: bool) -> AsyncIterator[DocumentStore]:
    """Open the store of the settings; `alone` locks the data folder against other processes.

    Raises:
        InvalidInputError: the settings name services whose records are elsewhere, but not the store of them.
        NotFoundError: there is no data folder.
        FailedPreconditionError: `alone`, and another process uses the folder.
        StorageUnavailableError: the store does not answer.

    """
    # Here and not above: help needs no store.
    from safescale.app.bootstrap import open_documents
    from safescale.runtime.telemetry import Telemetry

    if settings.distributed and not settings.elasticsearch:
        raise InvalidInputError(
            "the settings name the services of a grid, whose records are in Elasticsearch, and this command reads the "
            "store itself; expected SAFESCALE_ELASTICSEARCH, or no service's address where the data folder is meant"
        )
    if settings.server and not settings.elasticsearch and not _holds(settings.data_dir, settings.server):
        raise InvalidInputError(
            f"the settings name the server {settings.server}, and this command reads the store itself: the data folder "
            f"{settings.data_dir} is not the one of that server; expected the command on the machine and with the "
            "SAFESCALE_DATA_DIR of the server, or SAFESCALE_SERVER unset where this folder is meant"
        )
    async with AsyncExitStack() as stack:
        data = None if settings.elasticsearch else DataDir(settings.data_dir)
        if data is not None and alone:
            stack.enter_context(data)
        elif data is not None and not data.records.exists():
            raise NotFoundError(f"{data.records} does not exist; expected the data folder in SAFESCALE_DATA_DIR")
        store = await open_documents(settings, data, Telemetry())
        stack.push_async_callback(store.close)
        await store.ping()
        yield store


def _holds(folder: Path, server: str) -> bool:
    """Whether a server is the process on this machine that holds a data folder."""
    announced = announced_address(folder)
    if announced is None:
        return False
    same_port = announced.rpartition(":")[2] == server.rpartition(":")[2]
    return announced == server or (same_port and all(is_loopback(host_of(each)) for each in (announced, server)))
