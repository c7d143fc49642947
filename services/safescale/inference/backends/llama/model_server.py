"""A real model server of its own: llama.cpp's HTTP server with the weights of a catalog row.

It is what a model behind HTTP is where there is no GPU: in compose, in tests, at a desk. With one slot and one thread,
the default, its numbers are those of the same model in process.

A thin proxy stands in front of it, for two things that llama.cpp does not do. It ends what is under way before the
model is freed, which would wait for ever otherwise. And where it is asked to, it writes a line of JSON for each POST
when that arrives: time, path, size and SHA-256 of the body, and no text.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web

from safescale.core.errors import AddressInUseError, BackendUnavailableError, InvalidInputError, StorageError
from safescale.inference.backends.llama.server import LlamaConfig, llama_parameters, opened
from safescale.inference.backends.llama.weights import weights_of
from safescale.inference.catalog import ModelRow
from safescale.runtime.addresses import LOOPBACK, address_of, bare
from safescale.runtime.log import get_logger
from safescale.runtime.settings import read_secret

MAX_BODY = 64 * 1024 * 1024
DRAIN_S = 4.0
"""Seconds that calls have to end when the server stops; then they are cut."""

IDLE_S = 4.0
"""Seconds that llama.cpp has to notice that they are."""

IDLE_LOOKS = 100

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host")
)


@dataclass(frozen=True)
class ModelServerOptions:
    """Where to listen and how much to serve.

    `context` is the tokens of each slot (default: as much as the catalog gives the model); `slots` are calls at once.
    With more than one slot or thread log-probabilities differ, from the second digit on, from those of the model in
    process.
    `api_key_file` holds the bearer token that callers need. `request_log` gets a line for each request.
    """

    host: str = LOOPBACK
    port: int = 8080
    context: int | None = None
    slots: int = 1
    threads: int = 1
    api_key_file: Path | None = None
    request_log: Path | None = None
    cache_dir: Path = Path("models")


class ModelServer:
    """The server. Use as an async context manager; within, `address` is where it answers."""

    def __init__(self, row: ModelRow, options: ModelServerOptions) -> None:
        if row.embedded is None:
            raise InvalidInputError(f"model {row.id} has no weights of its own to serve; expected a row of embedded")
        if options.slots < 1 or options.threads < 1:
            raise InvalidInputError(f"slots is {options.slots}, threads is {options.threads}; expected at least 1")
        context = options.context or row.served_tokens
        if not 256 <= context <= row.window_tokens:
            raise InvalidInputError(f"context is {context}; expected 256 to {row.window_tokens}, the model's window")
        self._row = row
        self._options = options
        self._context = context
        self._server: Any = None
        self._stack = AsyncExitStack()
        self.address = ""

    async def __aenter__(self) -> Self:
        """Load the model and listen.

        Raises:
            AddressInUseError: the address is taken.
            SafescaleError: the model cannot be had.

        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, free the model."""
        await self._stack.aclose()

    async def _start(self) -> None:
        options = self._options
        port = _free(options.host, options.port)
        weights = weights_of(self._row, options.cache_dir)
        if reason := weights.missing():
            raise BackendUnavailableError(reason)
        key = read_secret(options.api_key_file)
        # Reading the weights takes a second; the loop must stay free to handle a request to stop.
        path = await asyncio.to_thread(weights.file)
        config = LlamaConfig(self._row.id, path, self._context * options.slots, self._row.instruct)
        self._server = await asyncio.to_thread(opened, config, _parameters(config, options, key))
        self._stack.push_async_callback(self._drop)
        front = LoggingProxy(str(self._server.listening_address), options.request_log, key)
        self._stack.push_async_callback(front.idle)
        await self._stack.enter_async_context(front)
        self.address = await front.listen(options.host, port)

    async def _drop(self) -> None:
        """Free the model, in a thread: should llama.cpp never return, the process can end all the same."""
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()

        def drop() -> None:
            self._server = None
            loop.call_soon_threadsafe(gone.set)

        threading.Thread(target=drop, daemon=True).start()
        try:
            await asyncio.wait_for(gone.wait(), IDLE_S)
        except TimeoutError:
            get_logger("model-server").warning("not freed", model=self._row.id)


class LoggingProxy:
    """The proxy before a server; with `log` it writes a line for each POST. Use as an async context manager."""

    def __init__(self, target: str, log: Path | None = None, key: str = "") -> None:
        self._target = target
        self._log = log
        self._key = key
        self._file: int | None = None
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Open the log.

        Raises:
            StorageError: the file cannot be written.

        """
        if self._log is not None:
            try:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            except OSError as error:
                reason = error.strerror or str(error)
                raise StorageError(f"the request log {self._log} cannot be written: {reason}") from error
        self._session = aiohttp.ClientSession(
            # llama.cpp closes a connection after a stream and does not say so.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def listen(self, host: str, port: int) -> str:
        """Answer at this address; where that is, with the port that was taken for 0."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._pass)
        # A caller that goes away must end the work behind, too.
        # The time is given twice: to calls, and to what is left of them.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=DRAIN_S / 2)
        await self._runner.setup()
        await web.TCPSite(self._runner, bare(host), port).start()
        name, bound = self._runner.addresses[0][:2]
        return f"http://{address_of(name, bound)}"

    async def __aexit__(self, *_: object) -> None:
        """Let calls end, cut those that do not; close the log."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        if self._file is not None:
            os.close(self._file)

    async def idle(self) -> None:
        """Wait until llama.cpp has noticed that its callers are gone."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        async with aiohttp.ClientSession(headers=headers) as session:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                for _ in range(IDLE_LOOKS):
                    if await self._no_work(session):
                        return
                    await asyncio.sleep(IDLE_S / IDLE_LOOKS)

    async def _no_work(self, session: aiohttp.ClientSession) -> bool:
        async with session.get(f"{self._target}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        working = ("llamacpp:requests_processing ", "llamacpp:requests_deferred ")
        return not any(line.startswith(working) and float(line.split()[1]) > 0 for line in lines)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.method == "POST" and self._file is not None:
            # Written at once: a process that is killed has counted what it was asked.
            os.write(self._file, self._line(request.path, body))
        if self._session is None:
            raise RuntimeError("the proxy is not open")
        try:
            async with self._session.request(
                request.method, self._target + request.path_qs, data=body or None, headers=_passed_on(request.headers)
            ) as answer:
                response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except aiohttp.ClientConnectionError:
            return web.json_response({"error": {"message": "the model server is gone", "code": 502}}, status=502)

    @staticmethod
    def _line(path: str, body: bytes) -> bytes:
        digest = hashlib.sha256(body).hexdigest()
        said = {"time": datetime.now(UTC).isoformat(), "path": path, "bytes": len(body), "sha256": digest}
        return orjson.dumps(said) + b"\n"


def _parameters(config: LlamaConfig, options: ModelServerOptions, key: str) -> Any:
    parameters = llama_parameters(config)
    parameters.n_parallel = options.slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = options.threads
    parameters.hostnames = [LOOPBACK]
    parameters.port = 0
    parameters.api_keys = [key] if key else []
    parameters.endpoint_metrics = True
    # It would show what is being asked.
    parameters.endpoint_slots = False
    parameters.n_threads_http = options.slots + 3
    return parameters


def _free(host: str, port: int) -> int:
    """Return the port after checking that it is free: llama.cpp itself gives no reason when it is not.

    Raises:
        AddressInUseError: it is not, or the host is not ours.

    """
    plain = bare(host)
    family = socket.AF_INET6 if ":" in plain else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((plain, port))
            return port
    except OSError as error:
        raise AddressInUseError(f"cannot serve on {address_of(host, port)}: {error.strerror or error}") from error


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
