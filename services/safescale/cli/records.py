"""The records, opened by a command that reads or writes them beside the services."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from safescale.core.errors import InvalidInputError, NotFoundError
from safescale.runtime.datadir import DataDir
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.settings import Settings


@asynccontextmanager
async def open_records(settings: Settings, alone: bool) -> AsyncIterator[DocumentStore]:
    """The store of the settings; `alone` holds the data folder, so that no other process writes to it.

    Raises:
        InvalidInputError: the settings name the services of a grid, but not the store of its records.
        NotFoundError: there is no data folder.
        FailedPreconditionError: `alone`, and another process uses the folder.
        StorageUnavailableError: the store does not answer.

    """
    # Here and not above: help needs no store.
    from safescale.building import open_documents
    from safescale.runtime.telemetry import Telemetry

    if settings.distributed and not settings.elasticsearch:
        raise InvalidInputError(
            "the settings name the services of a grid, whose records are in Elasticsearch, and this command reads the "
            "store itself; expected SAFESCALE_ELASTICSEARCH, or no service's address where the data folder is meant"
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
