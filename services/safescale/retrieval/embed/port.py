"""The embedder port: texts to unit vectors, and the tokenizer that chunks are cut with."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Rows of unit length: (n, dimension) float32."""

Offsets = list[tuple[int, int, bool]]
"""Tokens of a text in order: first character, character after the last, whether the token begins a word."""


class ChunkTokenizer(Protocol):
    """Counts and places tokens without special tokens. Texts that look like special tokens are plain text."""

    @property
    def name(self) -> str:
        """Name that stands beside every count."""

    @property
    def splits_at_space(self) -> bool:
        """Whether no token reaches over white space: texts with some between have the tokens that they have alone."""

    def count(self, text: str) -> int:
        """Tokens of a text."""

    def offsets(self, text: str) -> Offsets:
        """Where the tokens of a text stand, in characters, and which begin a word as the tokenizer splits words."""


class Embedder(Protocol):
    """Makes vectors. All but `name` and `parallel` may be asked only after `load`.

    A text's vector does not depend on its batch. Queries and passages are told apart, as some models are trained to.

    Raises DependencyUnavailableError while a server of vectors cannot be reached or has too much to do.
    """

    @property
    def name(self) -> str:
        """Name for people."""

    @property
    def parallel(self) -> int:
        """Batches of texts that it can work on at once."""

    @property
    def revision(self) -> str:
        """Identifies all that can change a vector (64 hex digits)."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads, special tokens included; the rest of a longer text is cut off."""

    @property
    def texts_cut(self) -> int:
        """Texts that were cut at `max_tokens` so far."""

    @property
    def tokenizer(self) -> ChunkTokenizer:
        """The tokenizer that chunks are cut with."""

    async def load(self) -> None:
        """Get ready to answer; cheap when it is done already.

        Raises:
            BackendUnavailableError: the model cannot be had; the message says what to do.

        """

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, (n, dimension) float32, L2-normalised.

        Raises:
            BackendError: the model could not be asked.

        """

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, (n, dimension) float32, L2-normalised.

        Raises:
            BackendError: the model could not be asked.

        """

    async def close(self) -> None:
        """Release what the embedder holds."""
