"""A server that comes to serve other weights while many cells are asked: the engine over the real adapter."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.support.fakes.scripted_server import ScriptedServer, streamed, whole

from safescale.core.errors import ModelChangedError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.backend import OpenAIBackend
from safescale.inference.backends.port import Sampling
from safescale.inference.cache.store import GenerationCache
from safescale.inference.catalog import Catalog, ModelRow
from safescale.inference.engine import CallPolicy, Engine, PromptRequest
from safescale.inference.identity import ModelIdentity
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


def engine_of(url: str, documents, **fields: object) -> Engine:
    row = ModelRow.model_validate(
        {
            "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 4096, "instruct": True, "backend": "openai",
            "license": "MIT", "endpoint": {"urls": [url], "concurrency": 8, "retry_for_s": 5},
            **fields,
        }
    )  # fmt: skip
    telemetry = Telemetry()
    backend = OpenAIBackend(row, telemetry)
    return Engine(Catalog({"m": row}), {"m": backend}, GenerationCache(documents), telemetry, CallPolicy())


def prompt_request(number: int, expected: ModelIdentity) -> PromptRequest:
    return PromptRequest("m", Messages("s", f"question {number}"), expected=expected)


async def cell(engine: Engine, number: int, expected: ModelIdentity) -> tuple[str, set[str]]:
    """Revision of a cell and the weights that its answers name, or the reason why it failed and none."""
    try:
        texts = await engine.texts(prompt_request(number, expected), [GREEDY, DRAWN])
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
    expected = known if expects else ModelIdentity()
    found = await asyncio.gather(*(cell(engine, number, expected) for number in range(CELLS)))
    assert swapping.weights == "two"
    for revision, weights in found:
        assert weights == (set() if revision == "MODEL_CHANGED" else {revision})
    revisions = {revision for revision, _ in found}
    # Those that expect the first one fail after the change; the others are asked again, and hold the second.
    assert revisions - {"one"} == ({"MODEL_CHANGED"} if expects else {"two"})
    for number in range(CELLS):
        revision, weights = await cell(engine, number, ModelIdentity())
        assert (revision, weights) == ("two", {"two"})
    await engine.close()


async def test_a_swap_while_nobody_asks_is_seen_when_the_model_is_told_again(server, documents) -> None:
    engine = engine_of(server.url, documents)
    swapping = Swapping(server, after=-1)
    one = await engine.identity("m")
    assert await cell(engine, 1, one) == ("one", {"one"})
    swapping.weights = "two"
    swapping.show()
    two = await engine.identity("m")
    assert (one.revision, two.revision) == ("one", "two")
    # Not what the first one answered, which is in the cache.
    assert await cell(engine, 1, two) == ("two", {"two"})
    await engine.close()


async def test_another_process_may_have_seen_the_swap_first(server, documents) -> None:
    swapping = Swapping(server, after=-1)
    here, there = engine_of(server.url, documents), engine_of(server.url, documents)
    await here.identity("m")
    swapping.weights = "two"
    swapping.show()
    assert await cell(here, 1, await there.identity("m")) == ("two", {"two"})
    await here.close()
    await there.close()


async def test_a_row_that_states_its_revision_is_held_to_what_its_server_serves(server, documents) -> None:
    engine = engine_of(server.url, documents, revision="r1")
    swapping = Swapping(server, after=-1)
    one = await engine.identity("m")
    assert await cell(engine, 1, one) == ("r1", {"one"})
    swapping.weights = "two"
    swapping.show()
    assert await cell(engine, 2, one) == ("MODEL_CHANGED", set())
    two = await engine.identity("m")
    assert one.fingerprint != two.fingerprint
    assert await cell(engine, 1, two) == ("r1", {"two"})
    await engine.close()


@pytest.mark.parametrize("path", ["/v1/models", "/version"])
@pytest.mark.parametrize("status", [403, 500])
async def test_a_server_that_does_not_tell_for_a_moment_is_no_other_one(server, documents, path, status) -> None:
    engine = engine_of(server.url, documents)
    swapping = Swapping(server, after=-1)
    one = await engine.identity("m")
    refusing: list[int] = []
    told = server.told[path]
    server.told[path] = lambda: refusing.pop() if refusing else told
    refusing[:] = [status] * 2
    assert await engine.identity("m") == one
    refusing[:] = [status] * 3
    assert await cell(engine, 1, one) == ("one", {"one"})
    assert not refusing
    assert await engine.identity("m") == one
    assert swapping.weights == "one"
    await engine.close()
