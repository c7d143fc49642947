"""Cuts articles into overlapping chunks: exact slices of the article, measured in the embedder's tokens."""

from dataclasses import dataclass

from safescale.core.errors import InvalidInputError
from safescale.core.inputs.corpus import CorpusDocument
from safescale.retrieval.embed.port import ChunkTokenizer, Offsets

BETWEEN_TITLE_AND_TEXT = "\n\n"


@dataclass(frozen=True, slots=True)
class ChunkParams:
    """Tokens of a chunk and tokens that it shares with the one before it (protocol section 2: 300 and 50).

    Raises:
        InvalidInputError: a chunk below 8 tokens, or an overlap below 0 or above half a chunk.

    """

    size: int = 300
    overlap: int = 50

    def __post_init__(self) -> None:
        if self.size < 8 or not 0 <= self.overlap <= self.size // 2:
            raise InvalidInputError(
                f"chunks of {self.size} tokens with {self.overlap} of overlap; expected at least 8 tokens"
                " and an overlap of at most half of them"
            )

    @property
    def reach(self) -> int:
        """Tokens by which a cut may move back to fall between words."""
        return self.size // 6


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk of an article: characters [start, end) and its length in tokens."""

    start: int
    end: int
    token_count: int


def article(document: CorpusDocument) -> str:
    """Return the text that is chunked: title, blank line, text; the text alone where there is no title."""
    return f"{document.title}{BETWEEN_TITLE_AND_TEXT}{document.text}" if document.title else document.text


def chunk_id(document_id: str, index: int) -> str:
    """Return the identifier of a document's chunk, numbered from 0."""
    return f"{document_id}#{index}"


def cut(text: str, tokenizer: ChunkTokenizer, params: ChunkParams) -> list[Span]:
    """Return the spans of the chunks of a text, in order; at least one, none over `params.size` tokens.

    Each chunk begins `params.overlap` tokens before the end of the one before it. Both ends move back, by at most
    `params.reach` tokens, to the nearest white space, else to the nearest word of the tokenizer (so that neither
    "3.5 mm" nor a word is torn); only where there is neither do they stay inside a word. The overlap is thus never
    below `params.overlap`. Together the spans hold every character but white space at the ends.
    """
    offsets = tokenizer.offsets(text)
    spans: list[Span] = []
    first = 0
    while True:
        start = offsets[first][0] if first else _skip_space(text)
        last = min(first + params.size, len(offsets))
        if last < len(offsets):
            last = _boundary(text, offsets, last, params.reach)
        span = _span(text, tokenizer, start, offsets[last][0] if last < len(offsets) else len(text))
        while span.token_count > params.size:
            # A cut inside a word can give its halves more pieces than the whole had.
            last -= 1
            span = _span(text, tokenizer, start, offsets[last][0])
        spans.append(span)
        if last == len(offsets):
            return spans
        first = max(first + 1, _boundary(text, offsets, last - params.overlap, params.reach))


def _skip_space(text: str) -> int:
    return len(text) - len(text.lstrip())


def _boundary(text: str, offsets: Offsets, index: int, reach: int) -> int:
    """Return the token at or before `index` where a cut does least harm."""
    nearby = range(index, max(0, index - reach), -1)
    for candidate in nearby:
        begin = offsets[candidate][0]
        if begin > 0 and text[begin - 1].isspace():
            return candidate
    return next((candidate for candidate in nearby if offsets[candidate][2]), index)


def _span(text: str, tokenizer: ChunkTokenizer, start: int, end: int) -> Span:
    piece = text[start:end].rstrip()
    return Span(start, start + len(piece), tokenizer.count(piece))


def prefix_of_tokens(text: str, tokenizer: ChunkTokenizer, limit: int) -> str:
    """Return the longest prefix of a text with exactly `limit` tokens; the whole text where it has no more.

    A limit inside a word is met by a part of the word. Where no part of it has the tokens asked (its letters are one
    token or several, never the number in between), the prefix ends before the word and is shorter by a few tokens.
    """
    offsets = tokenizer.offsets(text)
    if len(offsets) <= limit:
        return text
    if limit <= 0:
        return ""
    if offsets[limit][2]:
        return text[: offsets[limit][0]].rstrip()
    word = limit
    while not offsets[word][2]:
        word -= 1
    begin, wanted = offsets[word][0], limit - word
    for end in range(offsets[limit][1], begin, -1):
        if tokenizer.count(text[begin:end]) == wanted:
            return text[:end]
    return text[:begin].rstrip()
