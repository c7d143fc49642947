import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fakes import embeddings as fake
from tests.support.fakes.embeddings import EmbeddingsServer, changed, raw, served, status

from safescale.core.errors import (
    BackendError,
    BackendRefusedError,
    BackendTimeoutError,
    DependencyUnavailableError,
    GarbageAnswerError,
    InvalidInputError,
)
from safescale.retrieval.embed.embeddings_client import RetryPolicy
from safescale.retrieval.embed.embeddings_wire import read_vectors
from safescale.retrieval.embed.openai import OpenAIEmbedder
from safescale.runtime.settings import Settings

DIMENSION = 6
QUICK = RetryPolicy(budget_s=5, exchange_s=5)
SHORT = RetryPolicy(budget_s=0.5, exchange_s=0.2)


async def hashed(texts: Sequence[str]) -> np.ndarray:
    """Vectors that differ for every text and are of no unit length."""
    rows = [np.frombuffer(hashlib.sha256(text.encode()).digest()[:DIMENSION], dtype=np.uint8) for text in texts]
    return np.stack(rows).astype(np.float32) + 1


async def expected(texts: Sequence[str]) -> np.ndarray:
    rows = await hashed(texts)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def running(tiny_tokenizer_file, tiny_tokenizer):
    """Runs a server, gives it and an embedder that asks it."""

    @asynccontextmanager
    async def run(retries: RetryPolicy = QUICK, options: dict | None = None, **settings: object):
        server = EmbeddingsServer(hashed, lambda text: len(tiny_tokenizer.ids(text)), **(options or {}))
        async with served(server) as url:
            own = Settings(embeddings=url, embeddings_tokenizer_file=tiny_tokenizer_file, **settings)
            embedder = OpenAIEmbedder(own, retries)
            try:
                yield server, embedder
            finally:
                await embedder.close()

    return run


async def revision_of(running, options: dict | None = None, **settings: object) -> str:
    async with running(options=options, **settings) as (_, embedder):
        await embedder.load()
        return embedder.revision


async def test_many_texts_go_in_bounded_requests_and_come_in_order(running) -> None:
    texts = [f"text {i}" for i in range(100)] + ["a b " * 70_000]
    async with running(options={"max_texts": 7, "max_tokens": 300_000}) as (server, embedder):
        await embedder.load()
        # Sixteen requests, four at once: with fewer under way none would be answered.
        together = asyncio.Barrier(embedder.parallel)

        async def embed(batch: Sequence[str]) -> np.ndarray:
            await together.wait()
            return await hashed(batch)

        server.embed = embed
        vectors = await asyncio.wait_for(embedder.embed(texts), 60)
        np.testing.assert_allclose(vectors, await expected(texts), atol=1e-6)
        assert max(len(batch) for batch in server.asked) == 7
        assert [texts[-1]] in server.asked
        assert server.most_at_once == embedder.parallel


@pytest.mark.parametrize("prefix", ["", "query: the "])
async def test_the_query_prefix_stands_before_queries_alone(running, prefix: str) -> None:
    async with running(embeddings_query_prefix=prefix) as (server, embedder):
        await embedder.load()
        server.asked.clear()
        query, passage = await embedder.embed_queries(["lung"]), await embedder.embed(["lung"])
        assert server.asked == [[prefix + "lung"], ["lung"]]
        assert np.array_equal(query, passage) == (not prefix)


async def test_the_revision_names_all_that_changes_a_vector(running, tmp_path, tiny_tokenizer_file) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(tiny_tokenizer_file.read_text()), indent=1))
    revisions = [
        await revision_of(running, options, **settings)
        for options, settings in [
            ({}, {}),
            ({"sha": "0" * 40}, {}),
            ({"flavour": "vllm"}, {}),
            ({"max_tokens": 256}, {}),
            ({}, {"embeddings_max_tokens": 100}),
            ({}, {"embeddings_query_prefix": "query: "}),
        ]
    ]
    assert len(set(revisions)) == 6
    assert all(len(revision) == 64 for revision in revisions)
    # A server that was started again is the same, whatever the time it tells.
    assert await revision_of(running) == revisions[0]
    assert await revision_of(running, {"flavour": "vllm"}) == revisions[2]


@pytest.mark.parametrize("flavour", ["tei", "vllm"])
async def test_texts_are_cut_at_what_the_server_says(running, flavour: str) -> None:
    async with running(options={"flavour": flavour, "max_tokens": 20}, embeddings_query_prefix="the ") as (
        server,
        embedder,
    ):
        long = "lung chest " * 30
        await embedder.embed_queries([long, "lung"])
        assert embedder.max_tokens == 20
        assert embedder.texts_cut == 1
        (sent,) = [batch for batch in server.asked if len(batch) == 2]
        assert sent == ["the " + ("lung chest " * 30)[: len(sent[0]) - 4], "the lung"]
        assert server.count(sent[0]) == 20


async def test_the_setting_bounds_texts_where_the_server_takes_more(running) -> None:
    async with running(embeddings_max_tokens=16) as (server, embedder):
        await embedder.embed(["lung " * 40])
        assert embedder.max_tokens == 16
        assert server.count(server.asked[-1][0]) == 16


async def test_a_prefix_that_leaves_no_room_is_a_mistake_of_the_settings(running) -> None:
    async with running(embeddings_max_tokens=16, embeddings_query_prefix="the lung " * 10) as (_, embedder):
        with pytest.raises(InvalidInputError, match="SAFESCALE_EMBEDDINGS_QUERY_PREFIX"):
            await embedder.load()


async def test_the_token_is_sent_and_a_wrong_one_is_told(running, tmp_path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(fake.TOKEN + "\n")
    wrong.write_text("another")
    async with running(options={"token": fake.TOKEN}, embeddings_api_key_file=right) as (_, embedder):
        assert (await embedder.embed(["lung"])).shape == (1, DIMENSION)
    async with running(options={"token": fake.TOKEN}, embeddings_api_key_file=wrong) as (_, embedder):
        with pytest.raises(BackendRefusedError, match="status 401; expected a valid token") as caught:
            await embedder.embed(["lung"])
        assert "another" not in caught.value.message


@pytest.mark.parametrize(
    "faults",
    [
        [status(429)], [status(429, headers={"Retry-After": "0"}), status(503)], [status(502), status(504)],
        [status(500), status(500)], [status(424)], [fake.reset], [fake.torn, fake.reset],
    ],
)  # fmt: skip
async def test_what_can_be_over_soon_is_tried_again(running, faults: list) -> None:
    async with running(RetryPolicy(budget_s=20, exchange_s=10)) as (server, embedder):
        await embedder.load()
        server.faults.extend(faults)
        np.testing.assert_allclose(await embedder.embed(["lung"]), await expected(["lung"]), atol=1e-6)
        assert not server.faults


@pytest.mark.parametrize("fault", [status(429), status(503), fake.reset])
async def test_a_server_without_time_is_a_dependency_that_is_away(running, fault) -> None:
    async with running(SHORT) as (server, embedder):
        await embedder.load()
        server.faults.extend([fault] * 100)
        with pytest.raises(DependencyUnavailableError, match="cannot be used now") as caught:
            await embedder.embed(["lung"])
        assert caught.value.retryable


async def test_a_server_that_asks_for_a_long_wait_is_not_waited_for(running) -> None:
    async with running(SHORT) as (server, embedder):
        await embedder.load()
        server.faults.append(status(429, headers={"Retry-After": "3600"}))
        with pytest.raises(DependencyUnavailableError, match="1 tries"):
            await embedder.embed(["lung"])


async def test_no_server_is_a_dependency_that_is_away_until_it_comes(tiny_tokenizer_file, tiny_tokenizer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(embeddings=f"http://127.0.0.1:{port}/v1/", embeddings_tokenizer_file=tiny_tokenizer_file)
    embedder = OpenAIEmbedder(settings, SHORT)
    with pytest.raises(DependencyUnavailableError, match=rf"127\.0\.0\.1:{port} cannot be used now"):
        await embedder.load()
    async with served(EmbeddingsServer(hashed, lambda text: len(tiny_tokenizer.ids(text))), port):
        assert (await embedder.embed(["lung"])).shape == (1, DIMENSION)
        await embedder.close()


async def test_a_slow_server_is_not_waited_for_without_end(running) -> None:
    async with running(SHORT) as (server, embedder):
        await embedder.load()
        server.faults.append(fake.hang)
        with pytest.raises(BackendTimeoutError, match=r"within 0\.2 s"):
            await embedder.embed(["lung"])


async def test_a_server_that_fails_at_a_text_is_asked_three_times(running) -> None:
    async with running() as (server, embedder):
        await embedder.load()
        server.asked.clear()
        server.faults.extend([status(500, {"error": {"message": "input is too large to process"}})] * 3)
        with pytest.raises(BackendError, match="status 500, input is too large") as caught:
            await embedder.embed(["lung"])
        assert type(caught.value) is BackendError
        assert len(server.asked) == 3


async def test_a_refusal_is_not_tried_again_and_repeats_no_text(running) -> None:
    async with running() as (server, embedder):
        await embedder.load()
        for body, told in [
            ({"error": {"message": "the dimensions are not supported", "type": "x"}}, "dimensions are not supported"),
            ({"error": "bad input 'patient Doe has an effusion'", "error_type": "Validation"}, "status 422"),
            ("plain", "status 422"),
        ]:
            server.asked.clear()
            server.faults.append(status(422, body))
            with pytest.raises(BackendRefusedError, match=told) as caught:
                await embedder.embed(["patient Doe has an effusion"])
            assert "Doe" not in caught.value.message
            assert len(server.asked) == 1


async def test_a_model_that_the_server_does_not_have_is_named(running) -> None:
    async with running(embeddings_model="other/model") as (_, embedder):
        with pytest.raises(BackendRefusedError, match="`other/model` does not exist"):
            await embedder.load()


def shorten(answer) -> None:
    answer["data"] = answer["data"][:1]


def nan(answer) -> None:
    answer["data"][0]["embedding"] = base64.b64encode(np.full(DIMENSION, np.nan, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (raw("<html>"), "expected JSON"),
        (raw("[]"), "data has NoneType; expected 2"),
        (raw("{}"), "data has NoneType; expected 2"),
        (changed(shorten), "data has 1 items; expected 2"),
        (changed(lambda a: a["data"].__setitem__(1, 5)), r"data\[1\] is int"),
        (changed(lambda a: a["data"][1].update(index=0)), r"data\[1\]\.index is 0"),
        (changed(lambda a: a["data"][1].update(index=7)), r"data\[1\]\.index is 7"),
        (changed(lambda a: a["data"][0].update(embedding=[1.0] * 7)), "vectors of 6 and 7 numbers; expected 6"),
        (changed(lambda a: [row.update(embedding=[1.0] * 7) for row in a["data"]]), "vectors of 6 and 7"),
        (changed(lambda a: a["data"][0].update(embedding=[])), "empty, zero or not finite"),
        (changed(lambda a: a["data"][0].update(embedding=[0] * 6)), "empty, zero or not finite"),
        (changed(nan), "empty, zero or not finite"),
        (changed(lambda a: a["data"][0].update(embedding=[None] * 6)), "expected numbers or base64"),
        (changed(lambda a: a["data"][0].update(embedding="?")), "not base64"),
        (changed(lambda a: a["data"][0].update(embedding="AAAA")), "not base64"),
        (changed(lambda a: a["data"][0].pop("embedding")), "is NoneType"),
        (changed(lambda a: a.update(model="other")), "answers as model 'other'"),
    ],
)  # fmt: skip
async def test_garbage_is_told_by_what_is_wrong(running, fault, told: str) -> None:
    async with running() as (server, embedder):
        await embedder.load()
        server.faults.append(fault)
        with pytest.raises(GarbageAnswerError, match=told):
            await embedder.embed(["lung", "chest"])


async def test_rows_in_another_order_are_put_right(running) -> None:
    async with running() as (server, embedder):
        await embedder.load()
        server.faults.append(changed(lambda answer: answer["data"].reverse()))
        texts = ["lung", "chest", "effusion"]
        np.testing.assert_allclose(await embedder.embed(texts), await expected(texts), atol=1e-6)


async def test_loading_at_one_time_asks_once(running) -> None:
    async with running() as (server, embedder):
        await asyncio.gather(*(embedder.load() for _ in range(10)))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("embeddings", "localhost:8080", "SAFESCALE_EMBEDDINGS is 'localhost:8080'; expected http"),
        ("embeddings", "http://h:99999", "expected http"),
        ("embeddings", "http://h:1?x=1", "expected http"),
        ("embeddings_ca_file", "ca.pem", "SAFESCALE_EMBEDDINGS is not https"),
        ("embeddings_api_key_file", "/no/such/file", "/no/such/file cannot be read"),
    ],
)
def test_settings_that_cannot_be_used_are_named(name: str, value: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        OpenAIEmbedder(Settings(**{"embeddings": "http://127.0.0.1:1", name: value}))


def test_a_ca_file_that_is_none_is_named(tmp_path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(InvalidInputError, match="expected a readable file of PEM"):
        OpenAIEmbedder(Settings(embeddings="https://127.0.0.1:1", embeddings_ca_file=path))


@pytest.mark.parametrize("content", [None, "{}", "no json"])
async def test_a_tokenizer_file_that_is_none_is_named(tmp_path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    embedder = OpenAIEmbedder(Settings(embeddings="http://127.0.0.1:1", embeddings_tokenizer_file=path))
    with pytest.raises(InvalidInputError, match="SAFESCALE_EMBEDDINGS_TOKENIZER_FILE"):
        await embedder.load()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(
    st.fixed_dictionaries({}, optional={"index": JSON, "embedding": JSON | st.lists(st.floats() | st.integers())}),
    max_size=3,
)


@given(answer=JSON | st.fixed_dictionaries({"data": ROWS | JSON}, optional={"model": JSON}), count=st.integers(1, 3))
def test_any_answer_is_read_or_refused(answer, count: int) -> None:
    try:
        vectors, model = read_vectors(answer, count, None)
    except GarbageAnswerError:
        return
    assert isinstance(model, str)
    assert vectors.shape[0] == count
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-5)
