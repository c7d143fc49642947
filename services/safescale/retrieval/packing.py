"""Packs ranked chunks into a token budget of the model's own tokenizer (max-context, protocol section 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from safescale.retrieval.corpora import Chunk
from safescale.retrieval.peers import ModelRow, ModelTokenizers

SEPARATOR = "\n\n---\n\n"
"""Stands between chunks in every context."""

BATCH = 100
"""Chunks counted at once: a small budget is full before many are."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed text, its chunks in order and its tokens."""

    text: str
    chunk_ids: list[str]
    token_count: int


async def pack(
    corpus_id: str, chunks: Sequence[Chunk], budget: int, model: ModelRow, tokenizers: ModelTokenizers
) -> Packed:
    """As many chunks as the budget (in tokens, at least 1) holds, in order, the last one cut by the model's tokenizer.

    A corpus that is smaller than the budget is taken whole and not padded: the condition asks for evidence, not for
    length. The text is empty where the budget does not hold a single token.
    """
    taken = await _enough(corpus_id, chunks, budget, model, tokenizers)
    while True:
        joined = SEPARATOR.join(chunk.text for chunk in chunks[:taken])
        tokens, prefix = await tokenizers.truncate(model, joined, budget)
        if tokens > budget or taken == len(chunks):
            break
        # Tokens that join over the separator made the sum larger than the whole: there is room for another chunk.
        taken += 1
    if tokens <= budget:
        return Packed(joined, [chunk.chunk_id for chunk in chunks[:taken]], tokens)
    text, held = _end_in_a_chunk([chunk.text for chunk in chunks[:taken]], prefix)
    ids = [chunk.chunk_id for chunk in chunks[:held]]
    return Packed(text, ids, await tokenizers.count(model, text) if text else 0)


async def _enough(
    corpus_id: str, chunks: Sequence[Chunk], budget: int, model: ModelRow, tokenizers: ModelTokenizers
) -> int:
    """Number of chunks whose tokens, counted one by one, exceed the budget; all where they do not."""
    total = 0
    for begin in range(0, len(chunks), BATCH):
        texts = {f"{corpus_id}/{chunk.chunk_id}": SEPARATOR + chunk.text for chunk in chunks[begin : begin + BATCH]}
        for index, tokens in enumerate(await tokenizers.counts(model, texts), start=begin + 1):
            total += tokens
            if total > budget:
                return index
    return len(chunks)


def _end_in_a_chunk(texts: Sequence[str], prefix: str) -> tuple[str, int]:
    """The prefix of the joined texts without white space and without a torn separator at its end; chunks it holds."""
    end = 0
    for index, text in enumerate(texts):
        begin = end + (len(SEPARATOR) if index else 0)
        if len(prefix) <= begin:
            return prefix[:end].rstrip(), index
        end = begin + len(text)
    return prefix.rstrip(), len(texts)
