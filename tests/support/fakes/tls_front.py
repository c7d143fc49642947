"""A proxy that ends TLS in front of a plain server, as those that hospitals put before their model servers."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.support.certificates import Files

CHUNK = 64 * 1024


@asynccontextmanager
async def tls_front(url: str, files: Files) -> AsyncIterator[str]:
    """The https address, on 127.0.0.1, under which the server of an http address answers meanwhile."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(host, port)
        # The first side that ends, ends both.
        ways = [_copy(reader, behind_writer), _copy(behind_reader, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for side in (writer, behind_writer):
            side.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        return
