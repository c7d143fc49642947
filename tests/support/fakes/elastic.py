"""A fake Elasticsearch: bulk, multi-get and a few more over a dictionary, with faults on demand."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}

Fault = Callable[["StubElastic", web.Request, bytes], web.StreamResponse | None]
"""Answers a request in place of the stub; None lets the stub answer."""


def reply(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=PRODUCT, content_type="application/json")


def refuse(status: int, kind: str = "some_exception", reason: str = "because") -> web.Response:
    return reply({"error": {"type": kind, "reason": reason, "root_cause": []}, "status": status}, status)


class StubElastic:
    """What is stored, what was asked, and faults that the next requests of a path meet, one each."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[tuple[str, bytes, dict[str, str]]] = []
        self.faults: dict[str, deque[Fault]] = {}
        self.item_faults: dict[str, deque[dict[str, Any]]] = {}
        self.seq_no = 0
        self.lose_answers = 0
        self.hold: asyncio.Event | None = None

    def fail_next(self, path: str, *faults: Fault) -> None:
        self.faults.setdefault(path, deque()).extend(faults)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path, body, headers))
        if self.hold is not None:
            await self.hold.wait()
        waiting = self.faults.get(request.path)
        if waiting and (answer := waiting.popleft()(self, request, body)) is not None:
            return answer
        if request.path == "/_bulk":
            answer = self._bulk(body)
        elif request.path == "/_mget":
            answer = reply({"docs": [self._found(doc) for doc in orjson.loads(body)["docs"]]})
        else:
            answer = reply({})
        if self.lose_answers:
            self.lose_answers -= 1
            assert request.transport is not None
            request.transport.close()
        return answer

    def _bulk(self, body: bytes) -> web.Response:
        lines = iter(body.splitlines())
        items = []
        for head in lines:
            ((action, meta),) = orjson.loads(head).items()
            # What is removed has no second line.
            source = {} if action == "delete" else orjson.loads(next(lines))
            faults = self.item_faults.get(meta["_id"])
            result = faults.popleft() if faults else self._write(action, meta, source)
            items.append({action: result})
        return reply({"items": items})

    def _write(self, action: str, meta: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
        place = (meta["_index"], meta["_id"])
        found = self.stored.get(place)
        stale = "if_seq_no" in meta and (found is None or found["_seq_no"] != meta["if_seq_no"])
        if action == "delete" and found is None:
            return {"status": 404, "_version": 1}
        if stale or (action == "create" and found is not None):
            return {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "conflict"}}
        self.seq_no += 1
        if action == "delete":
            del self.stored[place]
            return {"status": 200, "_version": 2}
        version = 1 if found is None else found["_version"] + 1
        self.stored[place] = {
            "_index": place[0], "_id": place[1], "_version": version, "_seq_no": self.seq_no, "_primary_term": 1,
            "found": True, "_source": source,
        }  # fmt: skip
        return {"status": 201 if found is None else 200, "_version": version}

    def _found(self, doc: dict[str, Any]) -> dict[str, Any]:
        found = self.stored.get((doc["_index"], doc["_id"]))
        if found is None:
            return {"_index": doc["_index"], "_id": doc["_id"], "found": False}
        return found if doc.get("_source", True) else {name: v for name, v in found.items() if name != "_source"}

    def sent(self, path: str) -> list[bytes]:
        """Bodies of the requests of a path."""
        return [body for asked, body, _ in self.requests if asked == path]


@asynccontextmanager
async def serving(stub: StubElastic) -> AsyncIterator[str]:
    """URL at which the stub answers."""
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", stub.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
