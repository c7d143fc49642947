"""Model servers behind TLS with a CA of one's own, for each flavour and each client."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.certificates import Authority, Files
from tests.support.fakes.openai_server import FakeOpenAI
from tests.support.fakes.tgi_server import FakeTgi
from tests.support.fakes.tls_front import tls_front

from safescale.core.errors import BackendUnavailableError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.backend import OpenAIBackend
from safescale.inference.backends.port import Call, Generation, Sampling
from safescale.inference.backends.tgi.backend import TgiBackend
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry

BACKENDS = {"openai": (FakeOpenAI, OpenAIBackend), "tgi": (FakeTgi, TgiBackend)}
GREEDY, DRAWN = Sampling(0.0, 4), Sampling(0.7, 4, 10, 2)


def asked() -> Call:
    return Call(Messages("You are an expert.", "Which organ?\n\nAnswer:"), 20.0, time.monotonic() + 60)


@asynccontextmanager
async def behind_tls(kind: str, files: Files, ca_file: Path | None, instruct: bool = True) -> AsyncIterator:
    make_server, make_backend = BACKENDS[kind]
    async with make_server() as server, tls_front(server.url, files) as url:
        endpoint = {"urls": [url], "retry_for_s": 0.1, **({"ca_file": str(ca_file)} if ca_file else {})}
        if kind == "openai":
            endpoint["served_model"] = "fake/letters"
        row = {
            "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 6000, "instruct": instruct,
            "license": "MIT", "backend": kind, "endpoint": endpoint,
        }  # fmt: skip
        backend = make_backend(ModelRow.model_validate(row), Telemetry())
        try:
            yield backend
        finally:
            await backend.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("instruct", [True, False], ids=["chat", "base"])
@pytest.mark.parametrize("kind", BACKENDS)
async def test_a_server_whose_ca_is_named_is_asked(authority: Authority, kind: str, instruct: bool) -> None:
    async with behind_tls(kind, authority.issue("server"), authority.file, instruct) as backend:
        items = (await backend.generate(asked(), [GREEDY, DRAWN])).items
        assert [len(generation.outputs) for generation in items] == [1, 2]
        events = [event async for event in backend.stream(asked(), GREEDY)]
        assert isinstance(events[-1], Generation)
        assert "".join(events[:-1]) == items[0].outputs[0].text


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("wrong", ["no CA", "another CA", "another host"])
async def test_a_server_that_cannot_be_trusted_is_not_asked(
    authority: Authority, tmp_path: Path, kind: str, wrong: str
) -> None:
    names = ("elsewhere.example",) if wrong == "another host" else ("127.0.0.1",)
    trusted = {"no CA": None, "another CA": Authority(tmp_path, "other").file}.get(wrong, authority.file)
    async with behind_tls(kind, authority.issue("server", names), trusted) as backend:
        with pytest.raises(BackendUnavailableError, match=r"(?i)certificate"):
            await backend.generate(asked(), [GREEDY])
