"""Every recorded exchange of a real TGI, through our code: what it becomes stands in `recordings/tgi_outcomes.json`.

Requests that we never send are there too: their answers go through the same readers, so that nothing a server of this
kind says is taken for something else.
"""

import inspect
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from huggingface_hub import AsyncInferenceClient
from tests.support.fakes.replay import Replay

from safescale.core.errors import SafescaleError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.messages import chat_messages, plain_prompt
from safescale.inference.backends.port import Sampling
from safescale.inference.backends.tgi import wire
from safescale.inference.backends.tgi.errors import failure, read_error
from safescale.inference.backends.tgi.server import CHAT, CHAT_TOKENIZE, GENERATE, INFO, TOKENIZE, TgiServer
from safescale.inference.upstream.replica_set import Replica
from safescale.runtime.http.client import HttpOptions

FOLDER = Path(__file__).parent / "recordings"
RECORDINGS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "tgi").glob("*.json"))}
OUTCOMES = json.loads((FOLDER / "tgi_outcomes.json").read_text())
GENERATE_OPTIONS = set(inspect.signature(AsyncInferenceClient.text_generation).parameters)
CHAT_OPTIONS = set(inspect.signature(AsyncInferenceClient.chat_completion).parameters)

pytestmark = pytest.mark.asyncio(loop_scope="module")


def exchanges(name: str) -> list[dict[str, Any]]:
    recording = RECORDINGS[name]
    return recording.get("exchanges") or [recording]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def replay() -> AsyncIterator[Replay]:
    async with Replay() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[TgiServer]:
    opened = TgiServer("m", HttpOptions(connections=4))
    yield opened
    await opened.close()


async def test_all_recordings_are_here() -> None:
    assert len(RECORDINGS) == 223
    assert set(OUTCOMES) == set(RECORDINGS)
    assert all(len(OUTCOMES[name]) == len(exchanges(name)) for name in RECORDINGS)


@pytest.mark.parametrize("name", RECORDINGS)
async def test_what_our_code_makes_of_it(name: str, replay: Replay, server: TgiServer) -> None:
    for exchange, expected in zip(exchanges(name), OUTCOMES[name], strict=True):
        replay.exchange = exchange
        replay.requests.clear()
        found = await outcome(ask(server, Replica(replay.url), exchange["request"]))
        assert json.loads(json.dumps(found).replace(replay.url, "URL")) == expected
        recorded = exchange["request"]
        body = recorded["body"]
        assert replay.requests[0] == (recorded["method"], recorded["path"], "" if body is None else sent(body))


@pytest.mark.parametrize("name", [name for name in RECORDINGS if RECORDINGS[name].get("request", {}).get("body")])
async def test_the_official_client_makes_the_same_of_it(name: str, replay: Replay, server: TgiServer) -> None:
    exchange = exchanges(name)[0]
    request = exchange["request"]
    body = official_body(request, exchange["response"]["status"])
    if body is None:
        # Only raw HTTP can send this: fields that the client does not know, bodies that are no JSON, other paths.
        assert not sendable(request["path"], request["body"]) or exchange["response"]["status"] == 200
        return
    replay.exchange = exchange
    found = await outcome(ask_official(server, Replica(replay.url), request["path"], body))
    expected = dict(OUTCOMES[name][0])
    if exchange["response"]["status"] is None:
        # What a cut connection is called is for each client to say.
        del found["message"], expected["message"]
    assert found == expected


async def test_the_official_client_was_asked_for_most_plain_generations() -> None:
    plain = [name for name, body in ((name, exchanges(name)[0]) for name in RECORDINGS) if is_official(body)]
    assert len(plain) > 60


async def outcome(asked: Any) -> dict[str, Any]:
    """What came of it, as it stands in the file."""
    try:
        return {"read": await asked}
    except SafescaleError as error:
        shown = {"error": type(error).__name__, "retryable": error.retryable, "message": error.message}
        return shown | ({"details": error.details} if error.details else {})


async def ask(server: TgiServer, replica: Replica, request: Mapping[str, Any]) -> Any:
    """Ask as recorded, over plain HTTP, and read the answer with the reader of that path."""
    path, body = request["path"], request["body"]
    if path == INFO:
        return asdict(await server.info(replica))
    if request["method"] != "POST":
        return await asked_otherwise(replica, request)
    data = body.encode() if isinstance(body, str) else body
    if path == "/generate_stream" or (isinstance(body, dict) and body.get("stream") and path != GENERATE):
        events = [event async for event in server.stream(replica, path, data, 10.0)]
        return {"pieces": [event.text for event in events[:-1]], "answer": asdict(events[-1])}
    return read(path, await server.post(replica, path, data, 10.0))


async def asked_otherwise(replica: Replica, request: Mapping[str, Any]) -> Any:
    url = replica.url + request["path"]
    async with aiohttp.ClientSession() as session, session.request(request["method"], url) as answer:
        content = await answer.read()
        if answer.status != 200:
            raise failure("m", read_error(content, answer.status), answer.headers)
        return {"status": 200, "bytes": len(content)}


async def ask_official(server: TgiServer, replica: Replica, path: str, body: Mapping[str, Any]) -> Any:
    if path == CHAT:
        return {"answer": asdict((await server.chat(replica, body, 10.0)).answer)}
    official = server._official
    return read(path, await official.generate(replica, body, 10.0))


def read(path: str, value: Any) -> Any:
    if path == TOKENIZE:
        return {"tokens": [[token.token_id, token.start, token.stop] for token in wire.tokens(value)]}
    if path == CHAT_TOKENIZE:
        rendered = wire.rendered(value)
        return {"text": rendered.text, "tokens": len(rendered.tokens)}
    answer = asdict(wire.chat(value) if path.startswith("/v1") else wire.generated(value))
    prefill = wire.prefill(value) if "details" in value else []
    return {"answer": answer} | ({"prefill": [given.logprob for given in prefill]} if prefill else {})


def sent(body: Any) -> Any:
    try:
        return json.loads(body) if isinstance(body, str) else body
    except ValueError:
        return body


def sendable(path: str, body: Any) -> bool:
    """Whether the official client can send this body."""
    if not isinstance(body, dict):
        return False
    if path == CHAT:
        # The client writes a JSON schema in a form of its own.
        own_form = body.get("response_format", {}).get("type") == "json_schema"
        return "messages" in body and not body.get("stream") and not own_form and set(body) <= CHAT_OPTIONS
    given = body.get("parameters", {})
    return path == GENERATE and "inputs" in body and isinstance(given, dict) and set(given) <= GENERATE_OPTIONS


def official_body(request: Mapping[str, Any], status: int | None) -> Mapping[str, Any] | None:
    """The body for the official client; None where it cannot send it or, without details, tells no more than a text."""
    path, body = request["path"], request["body"]
    if request["method"] != "POST" or not sendable(path, body):
        return None
    if path == CHAT:
        return body
    parameters = body.get("parameters", {})
    return {"inputs": body["inputs"], "parameters": parameters} if parameters.get("details") or status != 200 else None


def is_official(exchange: Mapping[str, Any]) -> bool:
    return official_body(exchange["request"], exchange["response"]["status"]) is not None


QUESTION = "Question: Which organ produces insulin?\nA. Liver\nB. Pancreas\nC. Kidney\nD. Spleen\nE. Heart\nAnswer:"
ASKED = Messages("Answer with one letter.", QUESTION)
PLAIN = Messages("", QUESTION)


async def test_bodies_that_we_send_were_recorded_and_had_their_effect() -> None:
    drawn, greedy = Sampling(0.7, 6, 42), Sampling(0.0, 6)
    stream = wire.chat_stream_body(wire.chat_body(ASKED, "tgi", Sampling(0.0, 5), ()))
    bodies = {
        "chat_temperature_seed": wire.chat_body(ASKED, "tgi", drawn, ()),
        "chat_temperature_0": wire.chat_body(ASKED, "tgi", greedy, ()),
        "chat_stop": wire.chat_body(ASKED, "tgi", Sampling(0.0, 30), (" B.",)),
        "chat_stream_include_usage": stream,
        "generate_greedy_details": wire.generate_body(plain_prompt(PLAIN), "tgi", Sampling(0.0, 12), ()),
        "generate_seed_temperature": wire.generate_body(QUESTION, "tgi", Sampling(0.7, 8, 42), ()),
        "stream_sample": wire.generate_body(QUESTION, "tgi", Sampling(0.5, 5, 3), ()),
    }
    for name, body in bodies.items():
        assert body == RECORDINGS[name]["request"]["body"], name
        received = RECORDINGS[name]["shard_received"][0]
        parameters = received["parameters"]
        samples = "seed" in body or "seed" in body.get("parameters", {})
        assert parameters["do_sample"] is samples, name
        assert (parameters["top_p"], parameters["top_k"], parameters["repetition_penalty"]) == (1.0, 0, 1.0), name
    assert chat_messages(ASKED) == RECORDINGS["chat_tokenize"]["request"]["body"]["messages"]
