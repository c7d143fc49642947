"""A server that comes to serve other weights while many cells are asked: the engine over the real adapter."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.standins.scripted_server import ScriptedServer, streamed, whole

from safescale.core.errors import ModelChangedError
from safescale.core.prompts import Messages
from safescale.inference.backends.openai import OpenAIBackend
from safescale.inference.backends.port import Sampling
from safescale.inference.cache import GenerationCache
from safescale.inference.catalog import Catalog, ModelRow
from safescale.inference.engine import CallPolicy, Engine, Question
from safescale.inference.identity import Identity
from safescale.runtime.telemetry import Telemetry

GREEDY, DRAWN = Sampling(0.0, 10), Sampling(0.7, 10, 3, 5)
CELLS = 24


class Swapping:
    """A server whose answers name the weights that it serves, and which serves others after so many answers."""

    def __init__(self, server: ScriptedServer, after: int) -> None:
        self.server = server
        self.left = after
        self.weights = "one"
        server.answer = self.answer
        self.show()

    def show(self) -> None:
        model = {"id": "m", "object": "model", "owned_by": "vllm", "root": self.weights}
        self.server.told = {"/v1/models": {"data": [model]}, "/version": {"version": "0.9"}}

    async def answer(self, body) -> web.StreamResponse:
        # Long enough that cells overlap.
        await asyncio.sleep(0.005)
        self.left -= 1
        if self.left == 0:
            self.weights = "two"
            self.show()
        if body.get("stream"):
            return streamed(body, self.weights)
        return web.json_response(whole(body, [f"{self.weights} {index}" for index in range(body.get("n", 1))]))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


def engine_of(url: str, documents) -> Engine:
    row = ModelRow.model_validate(
        {
            "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 4096, "instruct": True, "backend": "openai",
            "license": "MIT", "endpoint": {"urls": [url], "concurrency": 8, "retry_for_s": 5},
        }
    )  # fmt: skip
    telemetry = Telemetry()
    backend = OpenAIBackend(row, telemetry)
    return Engine(Catalog({"m": row}), {"m": backend}, GenerationCache(documents), telemetry, CallPolicy())


def question(number: int, expected: Identity) -> Question:
    return Question("m", Messages("s", f"question {number}"), expected=expected)


async def cell(engine: Engine, number: int, expected: Identity) -> tuple[str, set[str]]:
    """Revision of a cell and the weights that its answers name, or the reason why it failed and none."""
    try:
        texts = await engine.texts(question(number, expected), [GREEDY, DRAWN])
    except ModelChangedError as error:
        return error.reason, set()
    return texts.revision, {output.text.split()[0] for one in texts.generations for output in one.outputs}


@pytest.mark.parametrize("after", [1, 2, 7, 20])
@pytest.mark.parametrize("expects", [False, True])
async def test_no_cell_holds_answers_of_two_models(server, documents, after, expects) -> None:
    swapping = Swapping(server, after)
    engine = engine_of(server.url, documents)
    known = await engine.identity("m")
    assert known.revision == "one"
    expected = known if expects else Identity()
    found = await asyncio.gather(*(cell(engine, number, expected) for number in range(CELLS)))
    assert swapping.weights == "two"
    for revision, weights in found:
        assert weights == (set() if revision == "MODEL_CHANGED" else {revision})
    revisions = {revision for revision, _ in found}
    # Those that expect the first one fail after the change; the others are asked again, and hold the second.
    assert revisions - {"one"} == ({"MODEL_CHANGED"} if expects else {"two"})
    for number in range(CELLS):
        revision, weights = await cell(engine, number, Identity())
        assert (revision, weights) == ("two", {"two"})
    await engine.close()
