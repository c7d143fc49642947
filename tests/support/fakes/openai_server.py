"""A fake server for vLLM, SGLang and other OpenAI-compatible servers over HTTP, with their ways and with faults.

What it takes and gives has the documented forms of these servers. It takes only the fields that the server knows
(`violations` holds all others: none is allowed in a test). Its model is that of the fake TGI.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from tests.support.fakes import openai_answers as answers
from tests.support.fakes.openai_answers import Refused
from tests.support.fakes.openai_fields import FIELDS, wrong_fields


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the next request for a generation.

    slow: `seconds` pass first. hang: it never answers. reset: the connection is cut. truncated: it is cut in the
    answer. overload: 429, with Retry-After `seconds` where that is above 0. unavailable, failed: 503 and 500. error:
    an error event in the stream. garbage: no JSON. abort: an answer that the server gave up. speechless: an answer
    without usage. few: one text less than asked for.
    """

    kind: str
    seconds: float = 0.0


@dataclass(frozen=True)
class FakeOptions:
    """How the fake server was started.

    `flavour`: vllm, sglang or other. `choices`: what `n` gives: seeded (text i by seed + i), same (n times the same
    text), ignored (one text) or refused. `seeds`: whether the seed has an effect. `reasoning`: the field that a trace
    is put into; empty: there is none. `owner` is what /v1/models says where that is not the flavour's.
    """

    flavour: str = "vllm"
    choices: str = "seeded"
    seeds: bool = True
    reasoning: str = ""
    api_key: str = ""
    model_id: str = "fake/letters"
    version: str = "0.11.0"
    window: int = 6000
    prefill_s: float = 0.0
    token_s: float = 0.0
    tokenizer: bool = True
    echo: bool = True
    lists_models: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came."""

    path: str
    body: Any
    headers: Mapping[str, str]


class FakeOpenAI:
    """The server. `faults` are taken one by one by requests for generations; `seen` is its request log."""

    def __init__(self, options: FakeOptions | None = None) -> None:
        self.options = options or FakeOptions()
        self.faults: deque[Fault] = deque()
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.running = 0
        self.peak = 0
        self.url = ""
        self._model = answers.Model(self.options)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Listen on a free port of loopback."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen; on the same port again after `stop`, when that is given."""
        options = self.options
        app = web.Application(client_max_size=20_000_000)
        app.router.add_post("/v1/chat/completions", self._posted("chat", self._generation))
        app.router.add_post("/v1/completions", self._posted("completion", self._generation))
        if options.lists_models:
            app.router.add_get("/v1/models", self._models)
        if options.flavour == "vllm":
            app.router.add_get("/version", self._told({"version": options.version}))
        if options.flavour == "sglang":
            app.router.add_get("/server_info", self._told({"version": options.version, "model_path": options.model_id}))
            app.router.add_post("/generate", self._posted("generate", self._input_logprobs))
        if options.flavour != "other" and options.tokenizer:
            app.router.add_post("/tokenize", self._posted("tokenize", self._tokenize))
            app.router.add_post("/detokenize", self._posted("detokenize", self._detokenize))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        host, bound = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{bound}"

    async def stop(self) -> None:
        """Cut all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def asked(self, path: str) -> list[Any]:
        """Bodies of the requests for a path, in the order in which they came, but for those of the first look."""
        return [
            seen.body for seen in self.seen if seen.path == path and "comes to your mind" not in json.dumps(seen.body)
        ]

    def _told(self, value: Any) -> Any:
        async def told(_: web.Request) -> web.Response:
            return web.json_response(value)

        return told

    async def _models(self, request: web.Request) -> web.Response:
        if (refused := self._unauthorised(request)) is not None:
            return refused
        options = self.options
        owner = options.flavour if options.flavour != "other" else "somebody"
        entry: dict[str, Any] = {"id": options.model_id, "object": "model", "created": 1, "owned_by": owner}
        if options.flavour != "other":
            entry.update(root=options.model_id, parent=None, max_model_len=options.window)
        return web.json_response({"object": "list", "data": [entry]})

    def _unauthorised(self, request: web.Request) -> web.Response | None:
        wanted = self.options.api_key
        if wanted and request.headers.get("authorization") != f"Bearer {wanted}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return None

    def _posted(self, kind: str, handler: Callable[[web.Request, Any], Awaitable[web.StreamResponse]]) -> Any:
        async def posted(request: web.Request) -> web.StreamResponse:
            if (refused := self._unauthorised(request)) is not None:
                return refused
            body = json.loads(await request.read())
            self.seen.append(Seen(request.path, body, dict(request.headers)))
            self.violations += wrong_fields(FIELDS[self.options.flavour][kind], body)
            try:
                return await handler(request, body)
            except Refused as error:
                return web.json_response(error.document(self.options.flavour), status=error.status)

        return posted

    async def _generation(self, request: web.Request, body: Any) -> web.StreamResponse:
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and (answered := await self._fault(request, fault)) is not None:
            return answered
        jobs = self._model.jobs(body)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(len(jobs[0].prompt) * self.options.prefill_s)
            if body.get("stream"):
                return await self._streamed(request, body, jobs[0], fault)
            await asyncio.sleep(max(len(job.tokens) for job in jobs) * self.options.token_s)
            document = self._model.document(body, jobs)
        finally:
            self.running -= 1
        return web.json_response(_spoilt(document, fault))

    async def _streamed(
        self, request: web.Request, body: Any, job: answers.Job, fault: Fault | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for place, event in enumerate(self._model.events(body, job)):
            if fault is not None and place == 2:
                if fault.kind == "truncated":
                    _cut(request)
                    return response
                if fault.kind == "error":
                    error = Refused("EngineCore encountered an issue. See stack trace", "InternalServerError", 500)
                    await response.write(_event(error.document("vllm")))
                    break
            spoilt = fault is not None and fault.kind in ("abort", "speechless")
            await response.write(_event(_spoilt(event, fault) if spoilt else event))
            await asyncio.sleep(self.options.token_s)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _fault(self, request: web.Request, fault: Fault) -> web.StreamResponse | None:
        """What a fault answers in place of the model; None to go on."""
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "hang":
            await asyncio.sleep(3600)
        if fault.kind == "overload":
            headers = {"Retry-After": f"{fault.seconds:g}"} if fault.seconds else {}
            return web.json_response(
                {"error": {"message": "Rate limit reached", "code": 429}}, status=429, headers=headers
            )
        if fault.kind == "unavailable":
            return web.Response(status=503, text="<html><body>Bad luck</body></html>", content_type="text/html")
        if fault.kind == "failed":
            return web.Response(status=500, text="Internal Server Error")
        if fault.kind == "garbage":
            return web.Response(text="lorem ipsum", content_type="application/json")
        if fault.kind == "reset" or (fault.kind == "truncated" and not (await request.json()).get("stream")):
            response = web.StreamResponse(headers={"Content-Length": "500", "Content-Type": "application/json"})
            if fault.kind == "truncated":
                await response.prepare(request)
                await response.write(b'{"id": "B')
            _cut(request)
            return response
        return None

    async def _tokenize(self, _: web.Request, body: Any) -> web.Response:
        return web.json_response(self._model.tokenized(body))

    async def _detokenize(self, _: web.Request, body: Any) -> web.Response:
        name = "prompt" if self.options.flavour == "vllm" else "text"
        return web.json_response({name: self._model.text_of(body["tokens"])})

    async def _input_logprobs(self, _: web.Request, body: Any) -> web.Response:
        return web.json_response(
            [self._model.input_logprobs(ids, body["logprob_start_len"]) for ids in body["input_ids"]]
        )


def _spoilt(document: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
    kind = fault.kind if fault is not None else ""
    if kind == "speechless":
        return {**document, "usage": None}
    if kind == "few":
        return {**document, "choices": document["choices"][:-1]}
    if kind == "abort":
        ended = [{**one, "finish_reason": one["finish_reason"] and "abort"} for one in document["choices"]]
        return {**document, "choices": ended}
    return document


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
