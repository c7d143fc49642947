"""A fake TGI over HTTP, built from TGI's OpenAPI description, with its ways and with faults.

It checks what it is sent against the description (`violations` holds what is not of it: none is allowed in a test), and
answers as the recorded server does: validation, overload and generation errors by status, in streams as events.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from tests.support.fakes import tgi_model as model
from tests.support.fakes.tgi_jobs import Job, Refused, Schemas

FAILED = ("Request failed during generation: Server error: CUDA out of memory", "generation", 424)
INCOMPLETE = ("Incomplete generation", "incomplete_generation", 500)
AWAY = ("Request failed during generation: Server error: transport error", "generation", 424)
OVERLOADED = ("Model is overloaded", "overloaded", 429)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the next request for a generation.

    slow: `seconds` pass first. hang: it never answers. reset: the connection is cut. truncated: it is cut in the
    answer. overload, generation, incomplete, away (its shard is gone): TGI's own errors. unavailable, failed: a proxy's
    503 and 500. garbage: an answer that is none of TGI's.
    """

    kind: str
    seconds: float = 0.0


@dataclass(frozen=True)
class FakeOptions:
    """How the fake server was started."""

    api_key: str = ""
    model_id: str = "fake/letters"
    model_sha: str | None = "0123456789abcdef0123456789abcdef01234567"
    version: str = "3.3.6"
    max_input_tokens: int = 4000
    max_total_tokens: int = 6000
    max_concurrent: int = 128
    prefill_logprobs: bool = True
    prefill_s: float = 0.0
    token_s: float = 0.0
    adapters: tuple[str, ...] = ("clinical-lora",)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came: path, body, and what its headers were."""

    path: str
    body: Any
    headers: Mapping[str, str]


class FakeTgi:
    """The server. `faults` are taken one by one by requests for generations; `seen` is its request log."""

    def __init__(self, options: FakeOptions | None = None) -> None:
        self.options = options or FakeOptions()
        self.faults: deque[Fault] = deque()
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.running = 0
        self.peak = 0
        self.looks = 0
        self.url = ""
        self._schemas = Schemas()
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
        app = web.Application(client_max_size=2_000_000)
        app.add_routes(
            [
                web.get("/info", self._info),
                web.get("/health", self._health),
                web.post("/tokenize", self._guarded(self._tokenize)),
                web.post("/chat_tokenize", self._open(self._chat_tokenize)),
                web.post("/generate", self._guarded(self._generate)),
                web.post("/generate_stream", self._guarded(self._generate_stream)),
                web.post("/v1/chat/completions", self._guarded(self._chat)),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        host, bound = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{bound}"

    async def stop(self) -> None:
        """Cut all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def asked(self, path: str) -> list[Any]:
        """Bodies of the requests for a path, in the order in which they came."""
        return [seen.body for seen in self.seen if seen.path == path]

    def _guarded(self, handler: Callable[[web.Request, Any], Awaitable[web.StreamResponse]]) -> Any:
        """A handler behind the API key, whose refusal has no body."""
        opened = self._open(handler)

        async def guarded(request: web.Request) -> web.StreamResponse:
            wanted = f"bearer {self.options.api_key}".lower()
            if self.options.api_key and request.headers.get("authorization", "").lower() != wanted:
                return web.Response(status=401)
            return await opened(request)

        return guarded

    def _open(self, handler: Callable[[web.Request, Any], Awaitable[web.StreamResponse]]) -> Any:
        async def opened(request: web.Request) -> web.StreamResponse:
            try:
                raw = await request.read()
            except web.HTTPRequestEntityTooLarge:
                return web.Response(status=413, text="Failed to buffer the request body: length limit exceeded")
            if request.content_type != "application/json":
                return web.Response(status=415, text="Expected request with `Content-Type: application/json`")
            try:
                body = json.loads(raw)
            except ValueError:
                return web.Response(status=400, text="Failed to parse the request body as JSON: EOF while parsing")
            self.seen.append(Seen(request.path, body, dict(request.headers)))
            name = "ChatRequest" if "chat" in request.path else "GenerateRequest"
            if errors := self._schemas.errors(name, body):
                self.violations += errors
                if any("unknown field" not in error for error in errors):
                    text = f"Failed to deserialize the JSON body into the target type: {errors[0]}"
                    return web.Response(status=422, text=text)
            try:
                return await handler(request, body)
            except Refused as error:
                content = {"error": error.sentence, "error_type": error.kind}
                return web.json_response(content, status=error.status)

        return opened

    async def _info(self, _: web.Request) -> web.Response:
        self.looks += 1
        options = self.options
        return web.json_response(
            {
                "model_id": options.model_id, "model_sha": options.model_sha, "model_pipeline_tag": None,
                "max_concurrent_requests": options.max_concurrent, "max_best_of": 2, "max_stop_sequences": 4,
                "max_input_tokens": options.max_input_tokens, "max_total_tokens": options.max_total_tokens,
                "validation_workers": 2, "max_client_batch_size": 4, "router": "text-generation-router",
                "version": options.version, "sha": "0" * 40, "docker_label": None,
            }
        )  # fmt: skip

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _tokenize(self, _: web.Request, body: Any) -> web.Response:
        return web.json_response(_shown(body["inputs"]))

    async def _chat_tokenize(self, _: web.Request, body: Any) -> web.Response:
        text = model.render(body["messages"])
        return web.json_response({"tokenize_response": _shown(text), "templated_text": text})

    async def _generate(self, request: web.Request, body: Any) -> web.StreamResponse:
        parameters = body.get("parameters", {"do_sample": True})
        job = self._job(body["inputs"], parameters, bool(parameters.get("decoder_input_details")))
        if (fault := await self._fault(request)) is not None:
            return fault
        text, tokens, finish = await self._run(job)
        answered: dict[str, Any] = {"generated_text": text}
        if parameters.get("details") or parameters.get("decoder_input_details"):
            seed = job.seed if job.temperature else None
            details = {"finish_reason": finish, "generated_tokens": len(tokens), "seed": seed}
            prefill = job.prefill(self.options.prefill_logprobs)
            adapted = parameters.get("adapter_id") in self.options.adapters
            answered["details"] = {
                **details,
                "prefill": prefill,
                "tokens": [_token(token, adapted) for token in tokens],
            }
        return web.json_response(answered)

    async def _generate_stream(self, request: web.Request, body: Any) -> web.StreamResponse:
        parameters = body.get("parameters", {"do_sample": True})

        def error(refused: Refused) -> bytes:
            return _event({"error": refused.sentence, "error_type": refused.kind})

        def chunk(index: int, token: model.Piece, whole: tuple[str, str] | None, prompt_tokens: int) -> bytes:
            text, finish = whole or (None, None)
            details = {
                "finish_reason": finish, "generated_tokens": index, "seed": None, "input_length": prompt_tokens
            }  # fmt: skip
            given = details if whole and parameters.get("details") else None
            return _event({"index": index, "token": _token(token), "generated_text": text, "details": given})

        return await self._streamed(request, lambda: self._job(body["inputs"], parameters, False), (error, chunk), b"")

    async def _chat(self, request: web.Request, body: Any) -> web.StreamResponse:
        prompt = model.render(body["messages"])
        temperature = body.get("temperature", 1.0)
        parameters = {
            "do_sample": temperature != 0, "max_new_tokens": body.get("max_tokens"), "seed": body.get("seed"),
            "stop": body.get("stop") or [], "temperature": None if temperature == 0 else temperature,
            "top_p": body.get("top_p"),
        }  # fmt: skip
        if body.get("stream"):
            return await self._chat_stream(request, body, prompt, parameters)
        job = self._job(prompt, parameters, False)
        if (fault := await self._fault(request)) is not None:
            return fault
        text, tokens, finish = await self._run(job)
        choice = {
            "index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None,
            "finish_reason": _chat_finish(finish),
        }  # fmt: skip
        usage = _usage(len(job.pieces), len(tokens))
        return web.json_response({**self._chat_head("chat.completion", body), "choices": [choice], "usage": usage})

    async def _chat_stream(
        self, request: web.Request, body: Any, prompt: str, parameters: Mapping[str, Any]
    ) -> web.StreamResponse:
        head = self._chat_head("chat.completion.chunk", body)
        with_usage = (body.get("stream_options") or {}).get("include_usage")

        def error(refused: Refused) -> bytes:
            return _event({"error": {"message": refused.sentence, "http_status_code": 422}})

        def chunk(index: int, token: model.Piece, whole: tuple[str, str] | None, prompt_tokens: int) -> bytes:
            delta = {"role": "assistant", "content": "" if token.special else token.text}
            finish = _chat_finish(whole[1]) if whole else None
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            data = _event({**head, "choices": [choice], "usage": None})
            if whole and with_usage:
                data += _event({**head, "choices": [], "usage": _usage(prompt_tokens, index)})
            return data

        job = lambda: self._job(prompt, parameters, False)  # noqa: E731
        return await self._streamed(request, job, (error, chunk), b"data: [DONE]\n\n")

    async def _streamed(
        self, request: web.Request, job_of: Callable[[], Job], writers: tuple[Any, Any], end: bytes
    ) -> web.StreamResponse:
        """A stream: status 200 whatever happens, errors as events."""
        error, chunk = writers
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault.kind not in ("generation", "incomplete", "away", "overload", "truncated"):
            self.faults.appendleft(fault)
            if (answered := await self._fault(request)) is not None:
                return answered
            fault = None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "x-compute-type": "gpu+optimized"})
        await response.prepare(request)
        try:
            if fault is not None and fault.kind == "overload":
                raise Refused(*OVERLOADED)
            job = job_of()
            text, tokens, finish = await self._run(job, wait=False)
            for index, token in enumerate(tokens, start=1):
                await asyncio.sleep(self.options.token_s)
                if fault is not None and index == 2:
                    if fault.kind == "truncated":
                        _cut(request)
                        return response
                    raise Refused(*{"generation": FAILED, "away": AWAY}.get(fault.kind, INCOMPLETE))
                whole = (text, finish) if index == len(tokens) else None
                await response.write(chunk(index, token, whole, len(job.pieces)))
        except Refused as refused:
            await response.write(error(refused))
        await response.write(end)
        await response.write_eof()
        return response

    async def _fault(self, request: web.Request) -> web.StreamResponse | None:
        """What the next fault answers in place of the model; None to go on."""
        if not self.faults:
            return None
        fault = self.faults.popleft()
        own = {"overload": OVERLOADED, "generation": FAILED, "incomplete": INCOMPLETE, "away": AWAY}
        if fault.kind in own:
            raise Refused(*own[fault.kind])
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            return None
        if fault.kind == "hang":
            await asyncio.sleep(3600)
        if fault.kind in ("unavailable", "failed"):
            page = "<html><body>Bad luck</body></html>"
            return web.Response(status=503 if fault.kind == "unavailable" else 500, text=page, content_type="text/html")
        if fault.kind == "garbage":
            return web.Response(text="data: lorem ipsum\n\n", content_type="text/event-stream")
        response = web.StreamResponse(headers={"Content-Length": "500", "Content-Type": "application/json"})
        if fault.kind == "truncated":
            await response.prepare(request)
            await response.write(b'{"generated_text": "B')
        _cut(request)
        return response

    def _job(self, prompt: str, parameters: Mapping[str, Any], prefill: bool) -> Job:
        options = self.options
        if self.running >= options.max_concurrent:
            raise Refused(*OVERLOADED)
        job = Job(prompt, parameters, prefill)
        total, given, new = options.max_total_tokens, len(job.pieces), job.max_new_tokens or 1024
        if sentence := job.wrong():
            raise Refused(f"Input validation error: {sentence}", "validation", 422)
        if given + min(new, 1024) > total:
            raise Refused(
                f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {total}. "
                f"Given: {given} `inputs` tokens and {new} `max_new_tokens`",
                "validation",
                422,
            )
        if given > options.max_input_tokens:
            limit = options.max_input_tokens
            sentence = f"`inputs` must have less than {limit} tokens. Given: {given}"
            raise Refused(f"Input validation error: {sentence}", "validation", 422)
        return job

    async def _run(self, job: Job, *, wait: bool = True) -> tuple[str, list[model.Piece], str]:
        """Text, tokens and finish reason; it takes the time of the prompt, and with `wait` that of each token."""
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            text, tokens, finish = job.answer()
            await asyncio.sleep(len(job.pieces) * self.options.prefill_s)
            if wait:
                await asyncio.sleep(len(tokens) * self.options.token_s)
            return text, tokens, finish
        finally:
            self.running -= 1

    def _chat_head(self, kind: str, body: Any) -> dict[str, Any]:
        # Any name but this one is that of an adapter, and comes back as it was, known or not.
        named = self.options.model_id if body["model"] == "tgi" else body["model"]
        return {
            "object": kind, "id": "", "created": int(time.time()), "model": named,
            "system_fingerprint": f"{self.options.version}-native",
        }  # fmt: skip


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _shown(text: str) -> list[dict[str, Any]]:
    raw = text.encode()
    return [
        {"id": piece.token_id, "text": raw[piece.start : piece.stop].decode(), "start": piece.start, "stop": piece.stop}
        for piece in model.tokenize(text)
    ]


def _token(piece: model.Piece, adapted: bool = False) -> dict[str, Any]:
    # Under the name of an adapter that it does not know, the server answers as its base model.
    return {"id": piece.token_id, "text": piece.text, "logprob": -0.7 if adapted else -0.5, "special": piece.special}


def _usage(prompt: int, generated: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _chat_finish(finish: str) -> str:
    return {"eos_token": "stop"}.get(finish, finish)


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
