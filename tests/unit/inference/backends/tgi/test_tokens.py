"""Counting and cutting by byte offsets, over tokenizers that split characters and add tokens of their own."""

from hypothesis import given
from hypothesis import strategies as st
from tests.support.fakes import tgi_model

from safescale.inference.backends.tgi.tokens import bytes_of_tokens, count
from safescale.inference.backends.tgi.wire import Token

TEXT = st.text(st.sampled_from(" abcé≥漢😀\n<|"), max_size=20)
ADDED = Token(0, 0, 0)


def by_fake(text: str) -> list[Token]:
    return [Token(piece.token_id, piece.start, piece.stop) for piece in tgi_model.tokenize(text)]


def by_bytes(text: str) -> list[Token]:
    """A tokenizer that takes each byte for a token and tells the whole character for it, as byte-level ones do."""
    found, begin = [], 0
    for character in text:
        data = character.encode()
        found += [Token(byte, begin, begin + len(data)) for byte in data]
        begin += len(data)
    return found


def by_words(text: str) -> list[Token]:
    """A tokenizer whose tokens leave out the blanks between them."""
    found, begin = [], 0
    for part in text.split(" "):
        size = len(part.encode())
        found += [Token(1, begin, begin + size)] if part else []
        begin += size + 1
    return found


@given(TEXT, st.integers(1, 12), st.sampled_from([by_fake, by_bytes, by_words]), st.booleans())
def test_a_prefix_has_whole_characters_and_no_more_tokens(text: str, keep: int, tokenizer, added: bool) -> None:
    tokens = [ADDED] * added + tokenizer(text)
    assert count(tokens) == len(tokenizer(text))
    prefix = bytes_of_tokens(text, tokens, keep)
    assert text.startswith(prefix)
    assert len(tokenizer(prefix)) <= keep or prefix == text
    if count(tokens) <= keep:
        assert prefix == text


@given(TEXT, st.integers(1, 12))
def test_a_prefix_is_the_longest_that_fits(text: str, keep: int) -> None:
    prefix = bytes_of_tokens(text, by_bytes(text), keep)
    longer = text[: len(prefix) + 1]
    assert longer == prefix or len(longer.encode()) > keep


def test_offsets_are_bytes_as_recorded() -> None:
    tokens = [Token(21350, 0, 6), Token(42, 6, 7), Token(389, 7, 9), Token(26411, 9, 12), Token(216, 12, 13)]
    assert [bytes_of_tokens("Answer: B é ", tokens, keep) for keep in (1, 3, 4, 5)] == [
        "Answer", "Answer: B", "Answer: B é", "Answer: B é ",
    ]  # fmt: skip
