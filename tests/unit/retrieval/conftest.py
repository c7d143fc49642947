"""Doubles for the retrieval tests: WordPiece with a tiny vocabulary, and an embedder that counts words."""

import hashlib
import importlib.util
import json
import math
import re
import string
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from safescale.core.errors import NotFoundError
from safescale.retrieval.embed.embedded import PACKAGE, WordPieceTokenizer, _read_files
from safescale.retrieval.embed.port import Vectors
from safescale.rpc.inference.v1 import inference_pb2 as pb
from safescale.rpc.inference.v1.inference_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.grpc.channels import connect
from safescale.runtime.grpc.server import CallInterceptor
from safescale.runtime.telemetry import Telemetry

WORDS = ("the", "lung", "chest", "effusion", "pneumothorax", "of", "a", "mm", "and")


def tiny_definition() -> str:
    """Knows nine words; other words fall into pairs and single letters, so that most words are many tokens."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *string.ascii_lowercase, *string.digits, *string.punctuation]
    pieces += ["##" + letter for letter in string.ascii_lowercase + string.digits]
    pieces += ["##ing", "##er", "##on"]
    special = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, token in enumerate(pieces[:4])
    ]  # fmt: skip
    definition = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 40, "vocab": {piece: i for i, piece in enumerate(pieces)}},
    }  # fmt: skip
    return json.dumps(definition)


def tiny_wordpiece() -> WordPieceTokenizer:
    return WordPieceTokenizer("tiny", tiny_definition())


class CountingEmbedder:
    """Embedder whose vectors count words by hash; remembers every text it was asked for."""

    name = "counting"
    dimension = 64
    max_tokens = 512
    texts_cut = 0
    parallel = 1

    def __init__(self, revision: str = "revision-1") -> None:
        self.revision = revision
        self.tokenizer = tiny_wordpiece()
        self.asked: list[str] = []
        self.loads = 0

    async def load(self) -> None:
        self.loads += 1

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked.extend(texts)
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in ["bias", *text.lower().split()]:
                rows[row, hashlib.sha256(word.encode()).digest()[0] % self.dimension] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return await self.embed(texts)

    async def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def tiny_tokenizer() -> WordPieceTokenizer:
    return tiny_wordpiece()


@pytest.fixture
def tiny_tokenizer_file(tmp_path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text(tiny_definition())
    return path


INSTALLED = importlib.util.find_spec(PACKAGE) is not None


@pytest.fixture(
    scope="session",
    params=[
        "tiny",
        pytest.param("minilm", marks=[pytest.mark.models, pytest.mark.skipif(not INSTALLED, reason="not installed")]),
    ],
)
def tokenizer(request) -> WordPieceTokenizer:
    return tiny_wordpiece() if request.param == "tiny" else _read_files().tokenizer


@pytest.fixture
def make_embedder() -> type[CountingEmbedder]:
    return CountingEmbedder


@pytest.fixture
async def documents(tmp_path):
    store = await SqliteDocuments.open(tmp_path / "records.db")
    yield store
    await store.close()


class FakeInference(InferenceServiceServicer):
    """Models by window. `words-*` count words, `quarters-*` count four characters as a token (so sums over-count)."""

    def __init__(self) -> None:
        self.windows: dict[str, int] = {}
        self.texts_counted = 0
        self.garbage = False

    async def GetModel(self, request, context):
        if request.model not in self.windows:
            raise NotFoundError(f"no model {request.model!r}")
        row = pb.Model(id=request.model, revision="r1", window_tokens=self.windows[request.model])
        return pb.GetModelResponse(model=row)

    async def Tokenize(self, request, context):
        self.texts_counted += len(request.texts)
        response = pb.TokenizeResponse()
        for text in request.texts:
            if request.model.startswith("words"):
                ends = [match.end() for match in re.finditer(r"\s*\S+", text)]
            else:
                ends = [min(4 * i + 4, len(text)) for i in range(math.ceil(len(text) / 4))]
            response.token_counts.append(len(ends))
            if request.HasField("truncate_to"):
                limit = request.truncate_to
                cut = text if len(ends) <= limit else text[: ends[limit - 1]] if limit else ""
                response.truncated_texts.append("garbage" if self.garbage else cut)
        return response


@pytest.fixture
async def inference():
    fake = FakeInference()
    server = grpc.aio.server(interceptors=[CallInterceptor(Telemetry())])
    add_InferenceServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    fake.channel = connect(f"127.0.0.1:{port}")
    yield fake
    await fake.channel.close()
    await server.stop(0)
