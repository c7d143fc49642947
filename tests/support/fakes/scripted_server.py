"""An HTTP server whose answers a test writes itself, for what servers and proxies do that no other fake does."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from aiohttp import web

USAGE = {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42}

Answer = Callable[[Any], web.StreamResponse | Awaitable[web.StreamResponse]]


def whole(body: Any, texts: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    """A chat answer to a request."""
    texts = ["B"] * body.get("n", 1) if texts is None else texts
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    usage = {**USAGE, "completion_tokens": 2 * len(texts)}
    return {"model": body["model"], "choices": choices, "usage": usage, **changes}


def events(*values: Any, end: bool = True) -> web.Response:
    """An event stream of JSON values."""
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    text = "".join(f"data: {line}\n\n" for line in [*lines, *(["[DONE]"] if end else [])])
    return web.Response(text=text, content_type="text/event-stream")


def streamed(body: Any, text: str = "B", finish: str = "stop", usage: Any = USAGE, **changes: Any) -> web.Response:
    """The stream that a good server gives."""
    head = {"model": body["model"], **changes}
    return events(
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {**head, "choices": [], "usage": usage},
    )


class ScriptedServer:
    """A server of the model `m`: `told` by path, `answer` (or `slowly`) for generations, `probed` for the first look.

    `asked` are the requests of a run, `looked` the paths of GET.
    """

    def __init__(self) -> None:
        self.told: dict[str, Any] = {"/v1/models": {"data": [{"id": "m", "object": "model"}]}}
        self.answer: Answer = self.good
        self.probed: Answer | None = None
        self.slowly: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.asked: list[Any] = []
        self.looked: list[str] = []
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._texts = 0

    def good(self, body: Any) -> web.Response:
        """What a good server answers: for samples, texts that all differ."""
        if body.get("stream"):
            return streamed(body)
        self._texts += 100
        sampled = [f"B{self._texts + index}" for index in range(body.get("n", 1))]
        return web.json_response(whole(body, sampled if body["temperature"] else None))

    async def __aenter__(self) -> Self:
        """Listen on a free port of loopback."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        app.router.add_post("/{path:.*}", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.Response:
        self.looked.append(request.path)
        value = self.told.get(request.path, 404)
        value = value() if callable(value) else value
        if isinstance(value, int):
            return web.Response(status=value, text="<html>no</html>", content_type="text/html")
        if isinstance(value, str):
            return web.Response(text=value, content_type="text/html")
        return web.json_response(value)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if request.path in self.told:
            told: Callable[[Mapping[str, Any]], Any] = self.told[request.path]
            return web.json_response(told(body))
        if not request.path.startswith("/v1/"):
            return web.Response(status=404)
        probe = "comes to your mind" in json.dumps(body)
        if not probe:
            self.asked.append(body)
        if self.slowly is not None and not probe:
            return await self.slowly(request)
        answer = self.probed or self.good if probe else self.answer
        found = answer(body)
        return found if isinstance(found, web.StreamResponse) else await found
