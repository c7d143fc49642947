"""Serves recorded HTTP exchanges again, one at a time, and says whether the request was the recorded one."""

import json
from collections.abc import Mapping
from typing import Any, Self

from aiohttp import web

OWN_HEADERS = ("content-length", "transfer-encoding")
"""Headers that the server writes by itself."""


class Replay:
    """A server on loopback that answers every request with `exchange`. A recorded cut of the connection is a cut."""

    def __init__(self) -> None:
        self.exchange: Mapping[str, Any] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application(client_max_size=4_000_000)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.requests.append((request.method, request.path, _body(raw)))
        recorded = self.exchange["response"]
        if recorded["status"] is None:
            return self._cut(request, web.StreamResponse())
        headers = {name: value for name, value in recorded["headers"].items() if name not in OWN_HEADERS}
        body = recorded["body"]
        data = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
        if "transfer-encoding" not in recorded["headers"]:
            return web.Response(status=recorded["status"], headers=headers, body=data)
        response = web.StreamResponse(status=recorded["status"], headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        # In pieces that end anywhere, in the middle of lines and characters.
        for begin in range(0, len(data), 61):
            await response.write(data[begin : begin + 61])
        if "truncated" in recorded:
            return self._cut(request, response)
        await response.write_eof()
        return response

    @staticmethod
    def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.close()
        return response


def _body(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode()
