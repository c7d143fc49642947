"""A scripted server, the backend of its model, and what the server is asked."""

import time
from contextlib import asynccontextmanager

from aiohttp import web
from tests.support.fakes.scripted_server import ScriptedServer

from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.backend import OpenAIBackend
from safescale.inference.backends.port import Call, Sampling
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry

GREEDY, DRAWN = Sampling(0.0, 10), Sampling(0.7, 10, 5, 20)


LONG = Messages("", "Which organ lies below the right dome of the diaphragm? " * 11)


def call(messages: Messages | None = None) -> Call:
    return Call(messages or Messages("S", "Which?"), 20.0, time.monotonic() + 60)


@asynccontextmanager
async def served(**endpoint: object):
    """A scripted server and the backend of its model."""
    revision = endpoint.pop("revision", None)
    async with ScriptedServer() as server:
        values = {
            "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 6000, "instruct": True, "license": "MIT",
            "backend": "openai", "revision": revision, "endpoint": {"urls": [server.url], "retry_for_s": 2, **endpoint},
        }  # fmt: skip
        backend = OpenAIBackend(ModelRow.model_validate(values), Telemetry())
        try:
            yield server, backend
        finally:
            await backend.close()


async def text(backend: OpenAIBackend) -> str:
    (greedy,) = (await backend.generate(call(), [GREEDY])).items
    return greedy.outputs[0].text


def refusal(status: int, message: str, param: str = "") -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param}
    return web.json_response({"error": error}, status=status)


def chunk(delta: object, finish: object = None, **more: object) -> dict:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
