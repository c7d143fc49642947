"""Packs ranked chunks into a token budget of the model's own tokenizer (max-context, protocol section 2)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from safescale.retrieval.clients import ModelTokenizers, ModelWindow
from safescale.retrieval.index.port import Chunk

SEPARATOR = "\n\n---\n\n"
"""Stands between chunks in every context."""

BATCH = 100
"""Chunks read and counted at once: a small budget is full before many are."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed text, its chunks in order and its tokens."""

    text: str
    chunk_ids: list[str]
    token_count: int


class RankedChunks:
    """Chunks of a corpus in the order of their ids, read as far as they are asked for."""

    def __init__(
        self, corpus_id: str, ids: Sequence[str], read: Callable[[str, Sequence[str]], Awaitable[list[Chunk]]]
    ) -> None:
        self.corpus_id = corpus_id
        self._ids = ids
        self._read = read
        self._chunks: list[Chunk] = []

    def __len__(self) -> int:
        return len(self._ids)

    async def first(self, count: int) -> list[Chunk]:
        """Return the first `count` chunks; all where there are no more."""
        while len(self._chunks) < min(count, len(self._ids)):
            begin = len(self._chunks)
            self._chunks.extend(await self._read(self.corpus_id, self._ids[begin : begin + BATCH]))
        return self._chunks[:count]


async def pack(chunks: RankedChunks, budget: int, model: ModelWindow, tokenizers: ModelTokenizers) -> Packed:
    """As many chunks as the budget (in tokens, at least 1) holds, in order, the last one cut by the model's tokenizer.

    A corpus that is smaller than the budget is taken whole and not padded: the condition asks for evidence, not for
    length. The text is empty where the budget does not hold a single token.
    """
    taken = await _enough(chunks, budget, model, tokenizers)
    while True:
        texts = [chunk.text for chunk in await chunks.first(taken)]
        joined = SEPARATOR.join(texts)
        tokens, prefix = await tokenizers.truncate(model, joined, budget)
        if tokens > budget or taken == len(chunks):
            break
        # Tokens that join over the separator made the sum larger than the whole: there is room for another chunk.
        taken += 1
    ids = [chunk.chunk_id for chunk in await chunks.first(taken)]
    if tokens <= budget:
        return Packed(joined, ids, tokens)
    text, held = _end_in_a_chunk(texts, prefix)
    return Packed(text, ids[:held], await tokenizers.count(model, text) if text else 0)


async def _enough(chunks: RankedChunks, budget: int, model: ModelWindow, tokenizers: ModelTokenizers) -> int:
    """Return how many chunks exceed the budget with their tokens, counted one by one; all where they do not."""
    total = 0
    for begin in range(0, len(chunks), BATCH):
        batch = (await chunks.first(begin + BATCH))[begin:]
        texts = {f"{chunks.corpus_id}/{chunk.chunk_id}": SEPARATOR + chunk.text for chunk in batch}
        for index, tokens in enumerate(await tokenizers.counts(model, texts), start=begin + 1):
            total += tokens
            if total > budget:
                return index
    return len(chunks)


def _end_in_a_chunk(texts: Sequence[str], prefix: str) -> tuple[str, int]:
    """Return the prefix of the joined texts without white space or a torn separator at its end, and its chunks."""
    end = 0
    for index, text in enumerate(texts):
        begin = end + (len(SEPARATOR) if index else 0)
        if len(prefix) <= begin:
            return prefix[:end].rstrip(), index
        end = begin + len(text)
    return prefix.rstrip(), len(texts)
