"""llama.cpp's own HTTP server, as the model server starts it, against the same model in process."""

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest

from safescale.core.errors import AddressInUseError, BackendRefusedError, InvalidInputError
from safescale.core.safety.prompts import Messages, cloze_continuations, render
from safescale.inference.backends.llama import model_server
from safescale.inference.backends.llama.model_server import ModelServer, ModelServerOptions
from safescale.inference.backends.llama.pool import InstanceLimiter
from safescale.inference.backends.port import Call, Sampling
from safescale.inference.backends.registry import BackendOptions, build
from safescale.inference.catalog import ModelRow, load_catalog
from safescale.runtime.telemetry import Telemetry

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]

MODEL = "smollm2-135m-instruct"
OPTIONS = {"A": "Kerley B lines", "B": "Hampton hump", "C": "Free air under the diaphragm", "D": "Silhouette sign"}
PASSAGE = "On an upright chest radiograph, pneumoperitoneum is shown by free air under the diaphragm."
QUESTIONS = [
    render("Which sign suggests a pneumoperitoneum?", OPTIONS, passage, formulation)
    for passage, formulation in ((None, "letter"), (None, "cloze"), (PASSAGE, "cloze"))
]
SAMPLES = 3
SAMPLINGS = [Sampling(0.0, 5), Sampling(0.7, 5, 42, SAMPLES)]
CONTINUATIONS = [*cloze_continuations(OPTIONS).values(), " ≥ 5 µm 😀"]


def asked(messages: Messages) -> Call:
    return Call(messages, 60.0, time.monotonic() + 300)


def backend_of(row: ModelRow, folder):
    built = build(row, BackendOptions(1, InstanceLimiter(1), folder, Telemetry()))
    if reason := built.unavailable_reason():
        pytest.skip(reason)
    return built


def behind(row: ModelRow, url: str, **endpoint: object) -> ModelRow:
    values = row.model_dump(exclude={"embedded"})
    return ModelRow.model_validate({**values, "backend": "openai", "endpoint": {"urls": [url], **endpoint}})


@asynccontextmanager
async def both(folder, **options: object):
    """The model in process and behind its own server, and the server's address."""
    row = load_catalog(None).row(MODEL)
    embedded = backend_of(row, folder)
    async with ModelServer(row, ModelServerOptions(port=0, cache_dir=folder, **options)) as server:
        http = backend_of(behind(row, server.address), folder)
        yield embedded, http, server.address
        await http.close()
    await embedded.close()


async def told(backend, messages: Messages):
    generations = await backend.generate(asked(messages), SAMPLINGS)
    scores = await backend.score(asked(messages), CONTINUATIONS)
    return [generation.outputs for generation in generations.items], scores.items, scores.prompt_tokens


async def test_the_same_numbers_and_letters_as_in_process(tmp_path) -> None:
    async with both(tmp_path) as (embedded, http, _):
        # The last one is asked with a log of requests, below.
        expected = [await told(embedded, messages) for messages in QUESTIONS[:2]]
        together = await asyncio.gather(*(told(http, messages) for messages in QUESTIONS[:2]))
        assert list(together) == expected
        texts = ["ångström 😀 ≥ 5", "The liver is seen.", ""]
        assert await http.tokenize(texts, 3) == await embedded.tokenize(texts, 3)
        assert await http.revision() == await embedded.revision()


async def test_the_request_log_counts_each_request_without_its_text(tmp_path) -> None:
    log = tmp_path / "logs" / "requests.jsonl"
    async with both(tmp_path, request_log=log) as (embedded, http, address):
        messages = QUESTIONS[2]
        assert await told(http, messages) == await told(embedded, messages)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        asked_for = [line for line in lines if line["path"] == "/v1/chat/completions"]
        # Greedy and the samples; the prompt once more and a text for each continuation that can be forced.
        assert len(asked_for) == 1 + SAMPLES + 1 + 4
        assert set(lines[0]) == {"time", "path", "bytes", "sha256"}
        assert len({line["sha256"] for line in asked_for}) == len(asked_for)
        assert "pneumoperitoneum" not in log.read_text()
        async with aiohttp.ClientSession() as session:
            assert (await (await session.get(f"{address}/health")).json())["status"] == "ok"
            assert "llamacpp:prompt_tokens_total" in await (await session.get(f"{address}/metrics")).text()
        assert len(log.read_text().splitlines()) == len(lines)


async def test_another_client_of_the_slot_changes_no_answer(tmp_path) -> None:
    async with both(tmp_path) as (embedded, http, address):
        expected = await told(embedded, QUESTIONS[1])
        await http.revision()

        async def disturb() -> None:
            async with aiohttp.ClientSession() as session:
                body = {"prompt": "Something else altogether", "max_tokens": 1, "id_slot": 0}
                await (await session.post(f"{address}/v1/completions", json=body)).read()

        for _ in range(2):
            found, _ = await asyncio.gather(told(http, QUESTIONS[1]), disturb())
            assert found == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_under_way_does_not_hold_the_stop(tmp_path, stream, monkeypatch) -> None:
    # The model goes on to its end for so long.
    monkeypatch.setattr(model_server, "DRAIN_S", 1.0)
    row = load_catalog(None).row(MODEL)
    backend_of(row, tmp_path)
    body = {"prompt": "Once", "max_tokens": 6000, "ignore_eos": True, "stream": stream}
    async with aiohttp.ClientSession() as session, asyncio.timeout(90):
        async with ModelServer(row, ModelServerOptions(port=0, cache_dir=tmp_path)) as server:
            call = asyncio.ensure_future(session.post(f"{server.address}/v1/completions", json=body))
            metrics = ""
            while "requests_processing 1" not in metrics:
                metrics = await (await session.get(f"{server.address}/metrics")).text()
        with pytest.raises(aiohttp.ClientError):
            await (await call).read()


async def test_a_key_is_asked_for(tmp_path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    row = load_catalog(None).row(MODEL)
    backend_of(row, tmp_path)
    log = tmp_path / "requests.jsonl"
    options = ModelServerOptions(port=0, cache_dir=tmp_path, api_key_file=key, request_log=log)
    async with ModelServer(row, options) as server:
        known = backend_of(behind(row, server.address, api_key_file=str(key)), tmp_path)
        assert (await known.generate(asked(QUESTIONS[0]), SAMPLINGS[:1])).items
        await known.close()
        unknown = backend_of(behind(row, server.address), tmp_path)
        with pytest.raises(BackendRefusedError, match="api_key_file"):
            await unknown.generate(asked(QUESTIONS[0]), SAMPLINGS[:1])
        await unknown.close()


async def test_a_taken_address_and_wrong_options_are_told(tmp_path) -> None:
    row = load_catalog(None).row(MODEL)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for log in (None, tmp_path / "requests.jsonl"):
            with pytest.raises(AddressInUseError, match=str(port)):
                async with ModelServer(row, ModelServerOptions(port=port, cache_dir=tmp_path, request_log=log)):
                    pass
    for wrong in ({"context": 9000}, {"context": 10}, {"slots": 0}, {"threads": 0}):
        with pytest.raises(InvalidInputError):
            ModelServer(row, ModelServerOptions(**wrong))
    with pytest.raises(InvalidInputError, match="no weights"):
        ModelServer(behind(row, "http://127.0.0.1:1"), ModelServerOptions())
