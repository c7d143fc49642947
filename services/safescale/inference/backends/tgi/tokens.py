"""Counting and cutting by TGI's tokens, whose offsets are bytes of the text's UTF-8."""

from collections.abc import Sequence

from safescale.inference.backends.tgi.wire import Token


def count(tokens: Sequence[Token]) -> int:
    """Tokens of the text itself: those that the tokenizer adds (a first token, an end) stand for no byte of it."""
    return len(_own(tokens))


def bytes_of_tokens(text: str, tokens: Sequence[Token], keep: int) -> str:
    """Return the text of the first `keep` tokens (at least 1), without a character that would be cut.

    The tokens of a split character all stand for the whole of it; of such a character nothing is kept.
    """
    own = _own(tokens)
    if keep >= len(own):
        return text
    end = min(own[keep - 1].stop, own[keep].start)
    return text.encode()[:end].decode("utf-8", "ignore")


def _own(tokens: Sequence[Token]) -> list[Token]:
    return [token for token in tokens if token.stop > token.start]
